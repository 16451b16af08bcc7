"""Attacks: one search loop, its search spaces and its objectives."""
