"""Compare two audits on the same photos: what became easier to forge, and by how much."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from underfire.core import MismatchError, UnderfireError
from underfire.core.place import Place
from underfire.gating.evidence import difference
from underfire.gating.intervals import mcnemar
from underfire.gating.measures import MEASURES, MeasuredCell, gaps, measured
from underfire.gating.pairs import Pairs, pairs, partner
from underfire.gating.policy import Name
from underfire.gating.ruling import cell_words
from underfire.report.settings import flat
from underfire.report.text import count
from underfire.store import Store, open_results

CHANGED = 20
"""Photos that are named for each direction of a change."""
_MADE_WITH = ("underfire_version", "torch", "timm", "hardware")
_SAME_ALWAYS = frozenset({"plan_digest", "resolved.plan_digest"})


@dataclass(frozen=True)
class Change:
    """One measure of one attack under one judge, before and now, on the same photos.

    Args:
        cell: the columns of the cell now.
        measure: what is compared.
        before: its rate or mean before.
        now: its rate or mean now.
        difference: now minus before.
        low: lower end of the difference's 95 % interval; None without one.
        high: upper end.
        p: McNemar's exact p-value; None for means, and for photos with several rows.
        n: photos with a value in both audits.
        only_before: photos with a value before alone, which are left out.
        only_now: photos with a value now alone, likewise.
        more: photos that rose: for a rate, those that say yes only now.
        less: photos that fell.
        rose: paths of the photos that rose, at most `CHANGED`; only for rates.
        fell: paths of the photos that fell, likewise.
    """

    cell: Mapping[str, str | int | None]
    measure: Name
    before: float
    now: float
    difference: float
    low: float | None
    high: float | None
    p: float | None
    n: int
    only_before: int
    only_now: int
    more: int
    less: int
    rose: tuple[str, ...]
    fell: tuple[str, ...]

    @property
    def place(self) -> str:
        """The cell in words."""
        return cell_words(self.cell)

    @property
    def rate(self) -> bool:
        """Whether it is a rate."""
        return MEASURES[self.measure].kind == "rate"

    @property
    def clear(self) -> bool:
        """Whether the interval leaves no doubt that there is a difference."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


@dataclass(frozen=True)
class Comparison:
    """Two audits, compared.

    Args:
        before: folder of the earlier audit.
        now: folder of the later one.
        settings: what their plans and versions differ in: name, before, now.
        changes: the paired differences, cell by cell.
        unpaired: what could not be paired, or is not complete, in sentences.
        format: version of this structure.
    """

    before: str
    now: str
    settings: tuple[tuple[str, str, str], ...]
    changes: tuple[Change, ...]
    unpaired: tuple[str, ...]
    format: int = 1


COMPARISON: TypeAdapter[Comparison] = TypeAdapter(Comparison)
"""Writes a comparison as JSON; its schema is docs/schemas/compare.schema.json."""


def compare(before: Place, now: Place) -> Comparison:
    """Compare two audits on the photos that both have.

    Args:
        before: folder of the earlier audit.
        now: folder of the later one.

    Raises:
        UnderfireError: no audits, no photo in both, or no attack under a judge in both.
    """
    old, new = measured(before), measured(now)
    for out, cells in ((before, old), (now, new)):
        if not cells:
            raise UnderfireError(f"'{out}' has no finished records yet: wait until it has, then compare again.")
    if not _photos(old) & _photos(new):
        raise MismatchError(f"'{before}' and '{now}' have no photo in common: run both on the same files.")
    found = [(cell, partner(cell, old)) for cell in new]
    if not any(other for _, other in found):
        raise MismatchError(
            f"'{before}' and '{now}' have no attack, preset, ε and judge in common: nothing can be paired."
        )
    changes = tuple(change for cell, other in found if other is not None for change in _changes(cell, other))
    unpaired = [*gaps(before), *gaps(now), *_photos_apart(old, new), *_cells_apart(old, new)]
    return Comparison(str(before), str(now), tuple(_settings(before, now)), changes, tuple(unpaired))


def _photos(cells: list[MeasuredCell]) -> set[str]:
    return set().union(*(cell.photos for cell in cells))


def _changes(cell: MeasuredCell, other: MeasuredCell) -> Iterator[Change]:
    for measure in MEASURES:
        paired = pairs(cell, other, measure)
        if paired.now:
            yield _change(cell, measure, paired)


def _change(cell: MeasuredCell, measure: str, paired: Pairs) -> Change:
    estimate, n = difference(paired, measure), len(paired.now)
    rate = MEASURES[measure].kind == "rate"
    table = rate and paired.flat
    image = {row["image_sha256"]: row["image"] for row in reversed(cell.rows)}
    by = paired.differences
    return Change(
        cell=dict(cell.cell),
        measure=measure,  # type: ignore[arg-type]  # the keys of MEASURES are the names
        before=sum(paired.before.values()) / n,
        now=sum(paired.now.values()) / n,
        difference=estimate.value or 0.0,
        low=estimate.low,
        high=estimate.high,
        p=mcnemar(paired.more, paired.less) if table else None,
        n=n,
        only_before=paired.only_before,
        only_now=paired.only_now,
        more=paired.more,
        less=paired.less,
        rose=tuple(sorted(image[photo] for photo, d in by.items() if d > 0)[:CHANGED]) if rate else (),
        fell=tuple(sorted(image[photo] for photo, d in by.items() if d < 0)[:CHANGED]) if rate else (),
    )


def _photos_apart(old: list[MeasuredCell], new: list[MeasuredCell]) -> Iterator[str]:
    before, now = _photos(old), _photos(new)
    if before - now:
        yield f"{count(len(before - now), 'photo')} only in the earlier audit: left out."
    if now - before:
        yield f"{count(len(now - before), 'photo')} only in the later audit: left out."


def _cells_apart(old: list[MeasuredCell], new: list[MeasuredCell]) -> Iterator[str]:
    for cells, others, which in ((old, new, "earlier"), (new, old, "later")):
        for cell in cells:
            if partner(cell, others) is None:
                yield f"Only in the {which} audit, or not to be told apart in the other: {cell_words(cell.cell)}."


def _settings(before: Place, now: Place) -> Iterator[tuple[str, str, str]]:
    """Yield what the plans differ in, and what the parts were made with, without the folders of the machine."""
    old, new = ({**dict(flat(open_results(out).plan)), **_made_with(out)} for out in (before, now))
    for name in dict.fromkeys([*old, *new]):
        a, b = old.get(name, "–"), new.get(name, "–")
        if a != b and name not in _SAME_ALWAYS:
            yield name.removeprefix("resolved."), a, b


def _made_with(out: Place) -> dict[str, str]:
    made: list[Mapping[str, Any]] = list(Store(out).provenance())
    return {name: ", ".join(sorted({one[name] for one in made if name in one})) for name in _MADE_WITH}
