"""The section that says how underfire understood the classifier, from the side file that the driver wrote."""

from __future__ import annotations

from underfire.core import DamagedFileError
from underfire.report.html import Context, Section
from underfire.store.insight import read_insight

TITLE = "How underfire understands this classifier"


def understanding(context: Context) -> Section | None:
    """Show the facts; no section for a folder that an earlier version wrote."""
    try:
        found = read_insight(context.found.out)
    except DamagedFileError as e:
        return Section("understanding", TITLE, {"found": None, "damaged": str(e)})
    return Section("understanding", TITLE, {"found": found, "damaged": ""}) if found else None
