"""Trials: one unit in a worker. Forge, save, read back, judge, and write Records."""
