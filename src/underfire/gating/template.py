"""Write a policy from an audit: what `underfire gate AUDIT --init` gives, with what was seen as comments."""

from __future__ import annotations

from collections.abc import Iterator

from underfire.core import UnderfireError
from underfire.core.bounded import load_yaml
from underfire.core.place import Place
from underfire.gating.intervals import exact_rate, studentized_mean
from underfire.gating.measures import MEASURES, MeasuredCell, measured
from underfire.gating.power import photos_for_rate
from underfire.gating.ruling import cell_words, figure
from underfire.report.text import count

FORGED, TOLERANCE, ALARM = 0.1, 0.1, 0.9
"""Bounds that a new policy has: a share forged at most, an increase at most, a share with an alarm at least."""
HEAD = """\
# What explanations must withstand: underfire gate AUDIT --policy this-file
# A rule holds or fails on its whole 95 % interval. What the photos do not decide is "undecided" (exit status 3).
# measure: {measures}
# where:   classifier, interpreter, attack, against, preset, eps, at, defense; a value or a list
# bounds:  max, min; and to an earlier audit (--baseline), on the same photos: increase, decrease
"""


def template(out: Place) -> str:
    """Write a policy that fits an audit.

    Raises:
        UnderfireError: no audit, or nothing in it to make a rule of.
    """
    cells = [cell for cell in measured(out) if cell.values("success")]
    joint = [cell for cell in cells if cell.cell["against"] == cell.cell["interpreter"]] or cells
    if not joint:
        raise UnderfireError(f"'{out}' has no results yet, so that there is nothing to bound: finish the run first.")
    lines = [
        HEAD.format(measures=", ".join(MEASURES)),
        "errors: 0  # photos without a result that a cell may have",
        "",
        "rules:",
    ]
    for cell in joint:
        lines += _rules(cell)
    return "\n".join(lines) + "\n"


def _rules(cell: MeasuredCell) -> Iterator[str]:
    where = "{" + ", ".join(f"{name}: {_word(cell.cell[name])}" for name in ("attack", "interpreter", "preset")) + "}"
    yield f"  # {cell_words(cell.cell)}"
    yield from _seen(cell, "forged", FORGED)
    yield "  - measure: forged"
    yield f"    where: {where}"
    yield f"    max: {FORGED}"
    yield f"    # increase: {TOLERANCE}  # with --baseline: at most so much more than in the earlier audit"
    if cell.values("alarm"):
        yield from _seen(cell, "alarm", ALARM)
        yield "  - measure: alarm"
        yield f"    where: {where}"
        yield f"    min: {ALARM}"
    iou = list(cell.values("map_iou").values())
    found = studentized_mean(iou, 1.0)
    yield f"  # - measure: map_iou  # seen: {figure(found.value, found.n, rate=False)}, {count(found.n, 'photo')}"
    yield f"  #   where: {where}"
    yield "  #   max: 0.5"
    yield ""


def _seen(cell: MeasuredCell, measure: str, limit: float) -> Iterator[str]:
    found = exact_rate(list(cell.values(measure).values()))
    if found.value is None or found.low is None or found.high is None:
        yield f"  # {measure}: no verdict in this audit, so that the rule is undecided"
        return
    ends = " to ".join(figure(end, found.n, rate=True) for end in (found.low, found.high))
    needed = photos_for_rate(found.value, limit)
    enough = "" if needed is None else f"; about {count(needed, 'photo')} decide the bound at this rate"
    yield f"  # {measure} seen: {figure(found.value, found.n, rate=True)} ({ends}; {count(found.n, 'photo')}){enough}"


def _word(value: object) -> str:
    """Write a name so that YAML reads the same name again."""
    text = str(value)
    plain = all(letter.isalnum() or letter in "-_." for letter in text) and load_yaml(text) == text
    return text if plain else "'" + text.replace("'", "''") + "'"
