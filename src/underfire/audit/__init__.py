"""Audits: plan, see what is missing, hand it to an executor, store what comes back."""
