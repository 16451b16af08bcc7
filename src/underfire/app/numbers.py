"""The numbers of a forgery, each with one line that says what it means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from underfire.app.outcome import Forging
from underfire.core import WON
from underfire.report.text import count, first_name, number, percent, pretty


@dataclass(frozen=True)
class Said:
    """A number.

    Args:
        name: what it is.
        value: as it is shown.
        meaning: one line.
    """

    name: str
    value: str
    meaning: str


def numbers(made: Forging) -> Iterator[Said]:
    """List the numbers of a forgery: prediction, map, change, cost."""
    yield from _prediction(made)
    yield from _map(made)
    yield from _change(made)
    yield from _cost(made)


def verdict_of(made: Forging) -> tuple[str, str]:
    """Say in a word and a sentence what came of it."""
    name = pretty(made.record.interpreter)
    if not made.record.success:
        return "not reached", "The classifier does not say the wanted class. More steps or a larger ε may do it."
    if made.verdict.untouched is None:
        return (
            "class reached",
            f"The class is reached. Whether the {name} map counts as untouched is not calibrated here.",
        )
    if made.verdict.forged:
        return "forged", f"The class is the wanted one, and the {name} map looks as if nothing had happened."
    return "map moved", f"The class is the wanted one, but the {name} map gives it away."


def _prediction(made: Forging) -> Iterator[Said]:
    r = made.record
    own, wanted = _first(r.source_class_name), _first(r.target_class_name)
    as_saved = "" if r.saved_as in (None, "png") else f", saved as {r.saved_as} too"
    before = f"What the classifier says of your photo{as_saved}."
    yield Said("Before", f"{own}, {percent(r.clean_confidence, 1000)}", before)
    said = f"{_first(r.predicted_class_name)}, {percent(r.predicted_confidence, 1000)}"
    yield Said("After", said, "What it says of the forged file, read back and put through its own front door.")
    yield Said(
        "Wanted class", f"{wanted}, {percent(r.confidence, 1000)}", f"Success means: {WON[r.head or 'softmax']}."
    )


def _map(made: Forging) -> Iterator[Said]:
    r, v = made.record, made.verdict
    yield Said(
        "Map distance (L1)", number(r.map_l1), "Mean difference of the two maps: 0 is the same, 1 black against white."
    )
    yield Said(
        "Map overlap (IoU)", number(r.map_iou), "Overlap of the brightest fifths of the maps: 1 is the same area."
    )
    yield Said(
        "Map order (rank)", number(r.map_rank), "Rank correlation of the maps: 1 puts all points in the same order."
    )
    if v.map_distance is not None:
        meaning = "The worst of the three over its limit. Up to 1, JPEG or a shift by a pixel do as much: untouched."
        yield Said("Against the yardstick", number(v.map_distance), meaning)
    if v.power is not None:
        yield Said("Power", percent(v.power, 100), "Share of wrong maps that the yardstick would have found.")


def _change(made: Forging) -> Iterator[Said]:
    r = made.record
    yield Said(
        "Largest change", count(r.linf_levels or 0, "level"), "Of 255, over all pixels and colours, before an encoder."
    )
    if r.flow_max_px is not None:
        yield Said("Largest shift", f"{number(r.flow_max_px)} px", "How far a pixel was bent, at an input of 224 px.")
    if r.decoded_mean is not None:
        yield Said("Mean change", f"{number(r.decoded_mean)} levels", "Over the whole file, as it is decoded.")
    if r.file_sha256 is not None:
        yield Said(
            "SHA-256", r.file_sha256[:16] + "…", "Start of the forged file’s digest. Saved anew, it is another file."
        )


def _cost(made: Forging) -> Iterator[Said]:
    r = made.record
    yield Said("Steps", f"{r.steps:,}", "Steps of the search.")
    yield Said(
        "Passes", number(r.passes), "Forward passes of the classifier that the search cost; a backward pass counts two."
    )
    meaning = f"For all of it, on this machine; watching took {percent(made.watching, 100)}."
    yield Said("Time", f"{number(made.seconds)} s", meaning)


def _first(name: str | None) -> str:
    return first_name(name or "?")
