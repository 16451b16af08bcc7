"""Countermeasures."""
