"""The section of errors: every photo without a result once, grouped by its reasons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from underfire.report.findings import Findings, Line, Panel, select
from underfire.report.html import Context, Section
from underfire.report.text import pretty

REASONS_LISTED = 20
"""Reasons that are listed; the rest is counted."""
_JUDGEMENT = ["image", "error", "classifier", "attack", "against", "judge_classifier", "interpreter"]
PHOTOS_NAMED = 20
"""Photos that are named for each reason; the rest is counted."""


def errors(context: Context) -> Section | None:
    """List every photo without a result once, grouped by its reasons; no section where every photo has one."""
    found = context.found
    places: dict[str, dict[str, list[str]]] = {}  # photo -> reason -> where it happened
    for image, error, where in _failures(found):
        reasons = places.setdefault(image, {}).setdefault(_reason(error, image), [])
        if where not in reasons:
            reasons.append(where)
    if not places:
        return None
    groups: dict[tuple[str, ...], list[str]] = {}
    for image in sorted(places):
        groups.setdefault(tuple(sorted(places[image])), []).append(image)
    everywhere = {_place(panel, line) for panel in found.panels for line in panel.lines}
    kinds = [_kind(reasons, photos, places, everywhere) for reasons, photos in groups.items()]
    kinds.sort(key=lambda kind: (-kind["n"], kind["reasons"]))
    listed = kinds[:REASONS_LISTED]
    data = {
        "photos": len(places),
        "of": found.photos,
        "empty": len(places.keys() - set(found.with_results)),
        "kinds": listed,
        "more": len(kinds) - len(listed),
        "more_photos": sum(kind["n"] for kind in kinds[len(listed) :]),
    }
    return Section("errors", "Photos without a result", data)


def _failures(found: Findings) -> Iterator[tuple[str, str, str]]:
    """Yield photo, error and where it happened, of all that failed in any stage."""
    for panel in found.panels:
        for line in panel.lines:
            for image, error in _failed(select(found.table, **line.cell)):
                yield image, error, _place(panel, line)
    for interpreter in pc.unique(found.scale["interpreter"]).to_pylist():
        for image, error in _failed(select(found.scale, interpreter=interpreter)):
            yield image, error, f"untouched scale, {pretty(interpreter)}"
    for row in found.again.filter(pc.is_valid(found.again["error"])).select(_JUDGEMENT).to_pylist():
        yield row["image"], row["error"], f"judged again: {_again(row)}"


def _again(row: Mapping[str, Any]) -> str:
    attack, against = pretty(row["attack"]), row["against"]
    made = attack if against is None else f"{attack} against {pretty(against)}"
    moved = row["judge_classifier"] != row["classifier"]
    return f"{made} under {pretty(row['interpreter'])}" + (f" on {row['judge_classifier']}" if moved else "")


def _place(panel: Panel, line: Line) -> str:
    return f"{line.label} under {panel.title}"


def _failed(table: pa.Table) -> Iterator[tuple[str, str]]:
    bad = table.select(["image", "error"]).filter(pc.is_valid(table["error"]))
    return zip(bad["image"].to_pylist(), bad["error"].to_pylist(), strict=True)


def _reason(error: str, image: str) -> str:
    """Take the photo's name out of its error, so that many photos share one reason."""
    name = f"'{image}'"
    return "The file" + error[len(name) :] if error.startswith(name) else error.replace(name, "the file")


def _kind(
    reasons: tuple[str, ...],
    photos: list[str],
    places: Mapping[str, Mapping[str, list[str]]],
    everywhere: set[str],
) -> dict[str, Any]:
    """Make a row of the table; a reason has no places where the photos failed everywhere."""
    where = {reason: list(dict.fromkeys(w for photo in photos for w in places[photo][reason])) for reason in reasons}
    return {
        "n": len(photos),
        "reasons": [(r, [] if everywhere <= set(where[r]) else where[r]) for r in reasons],
        "photos": photos[:PHOTOS_NAMED],
        "more": len(photos) - len(photos[:PHOTOS_NAMED]),
    }
