"""What the maps of an audit are judged with: its yardsticks, its own photos, or the rule of earlier versions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from underfire.core import DamagedFileError, ScaleUnit, UnderfireError
from underfire.metrics import packaged
from underfire.metrics.verdict import OWN, Named, Ruler, old_scale
from underfire.metrics.yardstick import (
    AGAINST,
    FEWEST,
    IMPOSTORS,
    PhotoDistances,
    Triple,
    Yardstick,
    triple,
    triples,
)
from underfire.metrics.yardstick_file import YardstickFile, parse
from underfire.store.store import Store

FOLDER = "yardstick"
"""Folder of an audit's yardsticks, one file for each interpreter."""
MOST = 200
"""Photos of an audit that its own yardstick is made from at most: more hardly change it."""
NAME_LENGTH = 12
Row = Mapping[str, Any]


def rulers_of(store: Store, plan: Mapping[str, Any]) -> dict[str, Ruler]:
    """Find what each interpreter's maps are judged with; those that are not calibrated are left out.

    Args:
        store: the audit's.
        plan: content of its plan.yaml.
    """
    found: dict[str, Ruler] = {
        name: Named(one.yardstick, one.digest[:NAME_LENGTH], one.exact) for name, one in _named(store, plan).items()
    }
    measured = _measured(store, plan)
    for name in measured.keys() - found.keys():
        ruler = of_scale(measured[name], _pgd(store, name))
        if ruler is not None:
            found[name] = ruler
    return found


def of_scale(rows: Sequence[Row], pgd: Mapping[str, Triple]) -> Ruler | None:
    """Make a ruler from an audit's own clean photos; None where they are too few, or no wrong map was held against it.

    In batches of one photo there is neither another photo's map nor a mean: without PGD's, nobody knows whether the
    explanation can tell.

    Args:
        rows: the columns of `Scale`, of one interpreter.
        pgd: SHA-256 of a photo -> distances of PGD's map of it.
    """
    good = [row for row in rows if row["error"] is None]
    if any(row["copies"] is None for row in good):
        return old_scale(row["jpeg_l1"] for row in good)
    photos = {one.sha256: one for row in good if (one := _photo(row, pgd)).copies}
    chosen = [photos[sha] for sha in sorted(photos)[:MOST]]  # in the order of digests, which is as good as any draw
    known = any(not photo.impostors.keys().isdisjoint(AGAINST) for photo in chosen)
    return Named(Yardstick(tuple(chosen)), OWN) if known and len(chosen) >= FEWEST else None


def of_record(row: Row) -> Triple | None:
    """The distances of a judgement; None where it has no result."""
    return None if row["map_l1"] is None else triple(row["map_l1"], row["map_iou"], row["map_rank"])


def _photo(row: Row, pgd: Mapping[str, Triple]) -> PhotoDistances:
    copies = tuple(d for d in triples(row["copies"]) if d is not None)
    wrong = dict(zip(IMPOSTORS, (pgd.get(row["image_sha256"]), *triples(row["impostors"])), strict=True))
    return PhotoDistances(row["image_sha256"], copies, {name: d for name, d in wrong.items() if d is not None})


def _named(store: Store, plan: Mapping[str, Any]) -> dict[str, YardstickFile]:
    """Read the yardsticks in the folder; of a plan from before there were any, those packaged ones that fit it."""
    noted = (plan.get("resolved") or {}).get("yardsticks")
    if noted is None:
        return packaged.of_plan(plan)
    if not isinstance(noted, Mapping):
        raise UnderfireError(f"The plan.yaml of '{store.root}' does not say which yardsticks it has.")
    return {str(name): _read(store, str(name), str(digest)) for name, digest in noted.items()}


def _read(store: Store, name: str, digest: str) -> YardstickFile:
    where = store.root / FOLDER / f"{digest[:NAME_LENGTH]}.json"
    try:
        found = parse(where.read_bytes(), str(where))
    except OSError as e:
        raise DamagedFileError(f"The yardstick '{where}' cannot be read, and verdicts need it: bring it back.") from e
    if found.digest != digest or found.interpreter != name:
        raise DamagedFileError(f"'{where}' is not the yardstick that the plan names for {name}: bring that one back.")
    return found


def _measured(store: Store, plan: Mapping[str, Any]) -> dict[str, list[Row]]:
    """Read the rows of the clean photos by interpreter; empty while a planned unit of it is missing or has failed.

    The meaning of *untouched* must not depend on how far a run has come, nor on which worker had a bad day.
    """
    resolved = plan.get("resolved")
    planned = resolved.get("scale_units", 0) if isinstance(resolved, Mapping) else 0
    if not isinstance(planned, int):
        raise UnderfireError(f"The plan.yaml of '{store.root}' does not say how many units there are.")
    if len(store.done(ScaleUnit.stage)) < planned:
        return {}
    found: dict[str, list[Row]] = {}
    for row in store.rows(ScaleUnit.stage):
        found.setdefault(row["interpreter"], []).append(row)
    return found


def _pgd(store: Store, interpreter: str) -> dict[str, Triple]:
    return pgd_of(store.rows("records"), interpreter)


def pgd_of(rows: Iterable[Row], interpreter: str) -> dict[str, Triple]:
    """Find what PGD left of each photo's map, where that was measured against the photo's own: by SHA-256."""
    mine = (r for r in rows if (r["attack"], r["interpreter"], r["target_map"]) == ("pgd", interpreter, "benign"))
    return {row["image_sha256"]: d for row in mine if (d := of_record(row)) is not None}
