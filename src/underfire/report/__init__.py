"""The report of one audit: what was found, as one self-contained page. No torch, no JavaScript."""

from __future__ import annotations

from underfire.report.page import write_report

__all__ = ["write_report"]
