"""What is expected of ADV² in each cell of the study, what was found, and whether that is enough. No HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from underfire.metrics.estimate import Estimate
from underfire.report.published import network_of, published
from underfire.report.text import MISSING, number, percent, pretty
from underfire.study import matrix, numbers
from underfire.study.matrix import Exposure
from underfire.study.numbers import Effectiveness
from underfire.study.results import StudyResults, SubjectResults

ENOUGH = 0.95
"""Success from which on an attack counts as reaching its class."""
HALF = 0.5
"""Of the way to a random class's map: from there on map and prediction count as uncoupled."""
NEARER = {"cam": 3.0, "rts": 3.0}
"""So many times nearer to benign than PGD in L1 must ADV² be; 2 for the others."""
MEAN_FLOW = 0.5
"""px at an input of 224 px (docs/study.md)."""
DIAGONAL = "transfer: smallest on the diagonal"


@dataclass(frozen=True)
class Expectation:
    """A number that was expected.

    Args:
        where: the cell, in words.
        expected: what was to be reached.
        found: what this study has.
        met: whether that is enough; None where nothing was found.
    """

    where: str
    expected: str
    found: str
    met: bool | None


def expectations(study: StudyResults) -> list[Expectation]:
    """List every number that was expected, cell by cell."""
    return [one for subject in study.subjects for one in (*_cells(subject), *_diagonals(subject))]


def _cells(subject: SubjectResults) -> Iterator[Expectation]:
    cells = numbers.effectiveness(subject)
    for name in subject.plain:
        where = f"{subject.label}, {pretty(name)}"
        adv2 = cells["adv2", name]
        goal = published_success(name, subject.name)
        yield _at_least(where, "ADV² success", adv2.success, goal, percent)
        yield _at_least(where, "ADV² confidence", adv2.confidence, ENOUGH, number)
        yield _nearer(subject, name, where, ("pgd", "adv2"), NEARER.get(name, 2.0))
        bent = cells["adv2-stadv", name]
        if bent.success.n:
            yield from _bends(where, bent, adv2)
            yield _nearer(subject, name, where, ("stadv", "adv2-stadv"), 1.0)
        gap = numbers.random_class(subject, name)
        if gap.success.n:
            yield _at_least(where, "random class: success", gap.success, ENOUGH, percent)
            if name in NEARER:
                share = numbers.ratio(gap.l1, gap.benign_l1)
                yield _at_most(where, "random class: L1 to the target map over benign’s", share, HALF)


def _bends(where: str, bent: Effectiveness, adv2: Effectiveness) -> Iterator[Expectation]:
    yield _at_least(where, "ADV²-StAdv success", bent.success, ENOUGH, percent)
    yield _at_most(where, "mean flow, px", bent.flow.value, MEAN_FLOW)
    yield _at_most(where, "ADV²-StAdv passes over ADV²’s", numbers.ratio(bent.passes, adv2.passes), 2.0)


def published_success(interpreter: str, classifier: str) -> float:
    """Find what was printed for this network; of a network that is not the paper's, the smallest; else 1."""
    cells = [c for c in published()["success"] if (c["attack"], c["interpreter"]) == ("adv2", interpreter)]
    own = [c for c in cells if c["network"] == network_of(classifier)]
    return float(min((c["success"] for c in own or cells), default=1.0))


def _nearer(subject: SubjectResults, name: str, where: str, attacks: tuple[str, str], wanted: float) -> Expectation:
    """Expect the joint attack's maps nearer to benign than the plain one's: ``wanted`` times in L1, and in IoU."""
    plain, joint = attacks
    times = numbers.times_nearer(subject, name, plain, joint)
    far, near = (numbers.distance(subject, attack, name).iou.value for attack in attacks)
    shown = MISSING if times is None else f"{number(times, 3)} ×"  # 1.99 is not the 2.0 that was expected
    found = f"{shown}, IoU {number(near)} against {number(far)}"
    met = None
    if times is not None and far is not None and near is not None:
        met = times > 1 and times >= wanted and (near > far or near == 1)
    least = f"at least {wanted:g} × in L1 and nearer in IoU" if wanted > 1 else "in L1 and IoU"
    return Expectation(where, f"{pretty(joint)} nearer to benign than {pretty(plain)}, {least}", found, met)


def _at_least(where: str, what: str, found: Estimate, goal: float, show: Callable[[float | None], str]) -> Expectation:
    met = None if found.value is None else found.value >= goal
    return Expectation(where, f"{what} at least {show(goal)}", show(found.value), met)


def _at_most(where: str, what: str, found: float | None, goal: float) -> Expectation:
    return Expectation(where, f"{what} at most {goal:g}", number(found), None if found is None else found <= goal)


def _diagonals(subject: SubjectResults) -> Iterator[Expectation]:
    """Expect each judge to be deceived best by the pictures that were made against it."""
    cells = matrix.matrix(subject)
    for judge in subject.plain:
        of = {a: c.relative for a in subject.plain if (c := cells[a, judge]).relative is not None}
        if judge in of and len(of) > 1:
            best = min(of, key=lambda a: (of[a], a != judge))
            found = (
                "it is"
                if best == judge
                else f"smaller if made against {pretty(best)}{_why(subject, cells, best, judge)}"
            )
            yield Expectation(f"{subject.label}, judged by {pretty(judge)}", DIAGONAL, found, best == judge)


def _why(subject: SubjectResults, cells: Mapping[tuple[str, str], Exposure], best: str, judge: str) -> str:
    """Say why pictures made against ``best`` hide better from this judge; where no number tells, by how much."""
    other, own = cells[best, judge], cells[judge, judge]
    rows = [row for row in subject.rows("main", "adv2", judge) if row["image_sha256"] in subject.shared]
    won = numbers.success(rows).value
    scale = max((row["untouched_l1"] or 0.0 for row in rows), default=0.0)
    if own.l1 is not None and own.l1 <= scale:
        return " (both move this judge’s maps no further than JPEG does)"
    if won is not None and won < 1:
        return f" (ADV² against {pretty(judge)} reaches the target class on only {percent(won, len(rows))})"
    if own.relative is not None and own.relative > HALF:
        return f" (ADV² against {pretty(judge)} is less than twice as near to the benign maps as PGD)"
    return f" ({number(other.relative)} of PGD’s distance, not {number(own.relative)})"
