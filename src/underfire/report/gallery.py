"""The gallery: which photos to show, and their small pictures as data URIs. PIL and numpy only.

Pictures on the page are compressed for display; the evidence is the PNGs beside the records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from underfire.core.place import Place, below
from underfire.images.formats import decode_png, decode_upright
from underfire.images.npy import decode_npy
from underfire.images.overlay import Pixels, difference, overlay, uri
from underfire.report.findings import Findings, Line, Panel, good, select

Trial: TypeAlias = tuple[Any, ...]
"""Photo, seed and target class."""
FILE = "file"
"""What `Record.at` says of forged files."""
ATTACKS_SHOWN = 4
"""Attacks beside one photo; with more, the page would grow with the square of the number of interpreters."""
_COLUMNS = [
    *("image", "source_class_name", "target_class_name", "predicted_class_name", "clean_confidence"),
    *("predicted_confidence", "confidence", "success", "untouched", "forged", "map_l1", "map_iou", "linf_levels"),
    *("target_map", "target_map_of", "wanted_map", "seed", "target_class"),
    *("clean", "adversarial", "clean_map", "adversarial_map"),
    *("at", "seen", "saved_as", "decoded_linf", "decoded_mean"),
]


@dataclass(frozen=True)
class Shot:
    """One attack on one photo: its row and its pictures; None for a file that is gone."""

    label: str
    row: dict[str, Any]
    photo: str | None
    overlay: str | None


@dataclass(frozen=True)
class Sample:
    """One photo of the gallery: before, after each attack, and the change by the main attack.

    ``wanted`` is the target map over the original photo, where that is not the benign map.
    """

    place: str
    row: dict[str, Any]
    photo: str | None
    overlay: str | None
    wanted: str | None
    shots: tuple[Shot, ...]
    change: str | None
    factor: int
    change_label: str


@dataclass(frozen=True)
class Gallery:
    """The samples of one judge."""

    panel: Panel
    line: Line
    map_size: str | None
    samples: tuple[Sample, ...]


@dataclass(frozen=True)
class Hero:
    """The pair that stands beside the finding: one photo before and after the strongest attack, and one of how many."""

    sample: Sample
    shot: Shot
    interpreter: str
    others: int


def hero(shown: Sequence[Gallery]) -> Hero | None:
    """Choose, under the first judge that tells and has a forged photo, the one recognised best before; else None."""
    for gallery in shown:
        if gallery.line.summary.in_place:
            continue
        for sample in sorted(gallery.samples, key=lambda s: -(s.row["clean_confidence"] or 0.0)):
            for shot in sample.shots:
                if shot.label == gallery.line.label and shot.row["forged"]:
                    return Hero(sample, shot, gallery.panel.interpreter, gallery.line.summary.n)
    return None


def galleries(found: Findings, samples: int) -> list[Gallery]:
    """Pick up to ``samples`` photos, divided evenly among the judges; a judge without a result has no gallery."""
    share, more = divmod(samples, len(found.panels))
    made = (_gallery(found, panel, share + (i < more)) for i, panel in enumerate(found.panels))
    return [gallery for gallery in made if gallery.samples]


def _gallery(found: Findings, panel: Panel, count: int) -> Gallery:
    line = panel.strongest
    rows = good(select(found.table, **line.cell))
    picked = pick(rows, count)
    images = pa.array([row["image"] for _, row in picked], pa.string())
    others = [(other, _by_trial(found.table, other, images)) for other in _shown(panel, line)]
    made = tuple(_sample(found.out, place, row, line=line, others=others) for place, row in picked)
    return Gallery(panel, line, _map_size(found.out, [row for _, row in picked]), made)


def pick(rows: pa.Table, count: int) -> list[tuple[str, dict[str, Any]]]:
    """Pick thirds of the photos that were worst, middling and best for the attacker: misses first, then by map_l1.

    Args:
        rows: good rows of one attack under one judge.
        count: at most this many.

    Returns:
        Place ('worst', 'middle', 'best') and row, the worst first; ties are broken by the photo's path.
    """
    l1 = np.nan_to_num(rows["map_l1"].to_numpy(), nan=np.inf)
    missed = ~np.asarray(pc.fill_null(rows["success"], False).to_numpy(), bool)
    names = np.asarray(rows["image"].to_pylist(), str)
    order = np.lexsort((names, -l1, ~missed))
    n = len(order)
    count = min(count, n)
    third, extra = divmod(count, 3)
    worst, best = third + (extra > 0), third + (extra > 1)
    middle = count - worst - best
    start = worst + (n - count) // 2
    chosen = [*order[:worst], *order[start : start + middle], *order[n - best :]]
    places = ["worst"] * worst + ["middle"] * middle + ["best"] * best
    return list(zip(places, rows.select(_COLUMNS).take(pa.array(chosen, pa.int64())).to_pylist(), strict=True))


def _shown(panel: Panel, line: Line) -> list[Line]:
    """Choose the attacks beside a photo: those on the prediction alone and on this judge; without the latter, any."""
    first = [other for other in panel.lines if other is line or other.joint or other.cell["against"] is None]
    # Attacks on another interpreter are in the table; here they would only crowd out the pictures.
    rest = [] if line.joint else [other for other in panel.lines if other not in first]
    kept = [line, *(other for other in [*first, *rest] if other is not line)][:ATTACKS_SHOWN]
    return [other for other in panel.lines if other in kept]


def _trial(row: Mapping[str, Any]) -> Trial:
    """Tell which attempt at a photo a row is: attacks with the same seed and class are shown side by side."""
    return row["image"], row["seed"], row["target_class"]


def _by_trial(table: pa.Table, line: Line, images: pa.Array) -> dict[Trial, dict[str, Any]]:
    rows = good(select(table, **line.cell))
    rows = rows.filter(pc.is_in(rows["image"], images)).select(_COLUMNS)
    return {_trial(row): row for row in rows.to_pylist()}


def _sample(
    out: Place,
    place: str,
    row: dict[str, Any],
    *,
    line: Line,
    others: list[tuple[Line, dict[Trial, dict[str, Any]]]],
) -> Sample:
    clean, after = read_seen(out, row, "clean"), read_seen(out, row, "adversarial")
    change, factor = (None, 1) if clean is None or after is None else difference(clean, after)
    return Sample(
        place=place,
        row=row,
        photo=uri(clean),
        overlay=overlay(clean, read_map(out, row["clean_map"])),
        wanted=None if row["target_map"] == "benign" else overlay(clean, read_map(out, row["wanted_map"])),
        shots=tuple(_shot(out, other, rows[_trial(row)]) for other, rows in others if _trial(row) in rows),
        change=change,
        factor=factor,
        change_label=line.label,
    )


def _shot(out: Place, line: Line, row: dict[str, Any]) -> Shot:
    photo = read_seen(out, row, "adversarial")
    return Shot(line.label, row, uri(photo), overlay(photo, read_map(out, row["adversarial_map"])))


def _map_size(out: Place, rows: list[dict[str, Any]]) -> str | None:
    first = next((m for row in rows if (m := read_map(out, row["clean_map"])) is not None), None)
    return None if first is None else f"{first.shape[0]} × {first.shape[1]}"


def read_seen(out: Place, row: Mapping[str, Any], column: str) -> Pixels | None:
    """Read what the classifier sees of a picture: of a file the part that its front door lets in."""
    whole = read_photo(out, row[column], row["at"] == FILE)
    if whole is None or row["seen"] is None:
        return whole
    left, top, right, bottom = (int(side or 0) for side in row["seen"])
    return np.ascontiguousarray(whole[top:bottom, left:right])


def read_photo(out: Place, name: str | None, whole: bool = False) -> Pixels | None:
    """Read (H, W, 3) pixels of an input, or of a ``whole`` file; None where there is no such picture."""
    content = _content(out, name)
    try:
        return None if content is None else decode_upright(content) if whole else decode_png(content)
    except Exception:  # no picture any more: the page says so in its place; decoders raise whatever they like
        return None


def read_map(out: Place, name: str | None) -> NDArray[np.float32] | None:
    """Read a map (h, w); None where there is no such file."""
    content = _content(out, name)
    return None if content is None else decode_npy(content)


def _content(out: Place, name: str | None) -> bytes | None:
    """The file of a picture or map; None where it is gone, or does not lie in the folder."""
    file = None if name is None else below(out, name)
    try:
        return file.read_bytes() if file is not None and file.is_file() else None
    except OSError:
        return None
