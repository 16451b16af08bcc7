"""The audit: plan it, find what is missing, give it to an executor, store what comes back."""
