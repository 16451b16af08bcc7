"""The command line: verbs, their flags, and what the terminal shows."""

from __future__ import annotations

from underfire.cli.app import main

__all__ = ["main"]
