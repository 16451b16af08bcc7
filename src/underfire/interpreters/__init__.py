"""Interpreters: attribution maps, and what an attacker differentiates to move them."""
