"""The interpreters: attribution maps, and what an attacker differentiates to move them."""
