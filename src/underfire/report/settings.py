"""The section of settings: plan.yaml without the folders of the machine."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from underfire.core.naming import short_name
from underfire.report import text
from underfire.report.html import Context, Section

PATHS = frozenset({"images", "weights", "classes"})
"""Settings that hold a path, be it a relative one."""


LONG = 40
"""Longer values are digests and lists, which nobody reads before he needs them."""
FILES = {
    "plan.yaml": "the settings below",
    "records": "one Parquet row for each judgement",
    "images": "clean and forged pictures, and maps",
    "classifier.json": "how the classifier is understood",
}
"""What an audit's folder holds for its readers."""


def settings(context: Context) -> Section:
    """List the plan as it stands in plan.yaml, what was left as it is apart, and link the files."""
    listed = [(name.removeprefix("resolved."), told) for name, told in flat(context.found.plan)]
    folded = [(name, told) for name, told in listed if _is_detail(name, told)]
    shown = [pair for pair in listed if pair not in folded]
    there = [(name, what) for name, what in FILES.items() if (context.found.out / name).exists()]
    return Section("settings", "How it was run", {"settings": shown, "more": folded, "files": there})


def _is_detail(name: str, told: str) -> bool:
    return told in (text.MISSING, "False") or len(told) > LONG or "digest" in name or name.startswith("versions.")


def flat(settings: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield nested settings as dotted names with short texts."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            shown = short_name(value) if name == "classifier" and isinstance(value, str) else value
            yield f"{prefix}{name}", _text(_last(value) if _is_path(name, value) else shown)


def _is_path(name: str, value: Any) -> bool:
    """Tell whether a setting says where something lies on this machine."""
    return isinstance(value, str) and (name in PATHS or bool(re.match(r"[/~\\]|[A-Za-z]:[/\\]", value)))


def _last(path: str) -> str:
    """Cut a path of any system to its last part: a report is passed on, and the folders above are nobody's business."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1] or path


def _text(value: Any) -> str:
    if value is None or value in ([], {}):
        return text.MISSING
    if isinstance(value, list):
        return ", ".join(map(str, value)) if len(value) <= 12 else f"{len(value):,} entries"
    whole = str(value)
    return whole if len(whole) <= 200 else whole[:199] + "…"
