"""What is expected of ADV² in each cell of the study, what was found, and whether that is enough. No HTML."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from underfire.metrics.decision import Decision, at_least, every, paired
from underfire.metrics.estimate import Estimate
from underfire.report.published import network_of, published
from underfire.report.text import MISSING, number, percent, pretty, share
from underfire.study import matrix, numbers
from underfire.study.matrix import Exposure
from underfire.study.results import StudyResults, SubjectResults

ENOUGH = 0.95
"""Success from which on an attack counts as reaching its class."""
HALF = 0.5
"""Of the way to a random class's map: from there on map and prediction count as uncoupled."""
NEARER = {"cam": 3.0, "rts": 3.0}
"""So many times nearer to benign than PGD in L1 must ADV² be; 2 for the others."""
DIAGONAL = "transfer: smallest on the diagonal"


@dataclass(frozen=True)
class Expectation:
    """A number that was expected.

    Args:
        where: the cell, in words.
        expected: what was to be reached.
        found: what this study has.
        decision: whether that is enough, where the interval says so.
    """

    where: str
    expected: str
    found: str
    decision: Decision

    @property
    def met(self) -> bool | None:
        """Whether that is enough; None where that cannot be said."""
        return self.decision.answer


def expectations(study: StudyResults) -> list[Expectation]:
    """List every number that was expected, cell by cell."""
    return [one for subject in study.subjects for one in (*_cells(subject), *_diagonals(subject))]


def _cells(subject: SubjectResults) -> Iterator[Expectation]:
    cells = numbers.effectiveness(subject)
    for name in subject.plain:
        where = f"{subject.label}, {pretty(name)}"
        adv2 = cells["adv2", name]
        goal = published_success(name, subject.name)
        yield _success(where, "ADV² success", adv2.success, goal)
        yield Expectation(
            where,
            f"ADV² confidence at least {number(ENOUGH)}",
            number(adv2.confidence.value),
            at_least(adv2.confidence, ENOUGH),
        )
        yield _nearer(subject, name, where, ("pgd", "adv2"), NEARER.get(name, 2.0))
        bent = cells["adv2-stadv", name]
        if bent.success.n:
            yield _success(where, "ADV²-StAdv success", bent.success, ENOUGH)
            yield _nearer(subject, name, where, ("stadv", "adv2-stadv"), 1.0)
        gap = numbers.random_class(subject, name)
        if gap.success.n:
            yield _success(where, "random class: success", gap.success, ENOUGH)
            if name in NEARER:
                what = f"random class: at least {HALF:g} of the way to the target map"
                yield Expectation(where, what, number(gap.gap.value), at_least(gap.gap, HALF))


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
    decisions = numbers.nearer_by(subject, name, wanted, plain, joint)
    if near == 1:
        decisions = decisions[:1]  # nothing is nearer
    least = f"at least {wanted:g} × in L1 and nearer in IoU" if wanted > 1 else "in L1 and IoU"
    return Expectation(
        where, f"{pretty(joint)} nearer to benign than {pretty(plain)}, {least}", found, every(decisions)
    )


def _success(where: str, what: str, found: Estimate, goal: float) -> Expectation:
    return Expectation(where, f"{what} at least {percent(goal)}", share(found), at_least(found, goal, share=True))


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
            mine = cells[judge, judge].by_photo
            others = [paired(cells[a, judge].by_photo, mine) for a in of if a != judge]
            smallest = every([at_least(one, 0.0) for one in others])
            yield Expectation(f"{subject.label}, judged by {pretty(judge)}", DIAGONAL, found, smallest)


def _why(subject: SubjectResults, cells: Mapping[tuple[str, str], Exposure], best: str, judge: str) -> str:
    """Say why pictures made against ``best`` hide better from this judge; where no number tells, by how much."""
    other, own = cells[best, judge], cells[judge, judge]
    rows = [row for row in subject.rows("main", "adv2", judge) if row["image_sha256"] in subject.shared]
    won = numbers.success(rows).value
    scale = max((row["untouched_l1"] or 0.0 for row in rows), default=0.0)
    if own.l1 is not None and own.l1 <= scale:
        return " (both leave this judge’s maps within the yardstick)"
    if won is not None and won < 1:
        return f" (ADV² against {pretty(judge)} reaches the target class on only {percent(won, len(rows))})"
    if own.relative is not None and own.relative > HALF:
        return f" (ADV² against {pretty(judge)} is less than twice as near to the benign maps as PGD)"
    return f" ({number(other.relative)} of PGD’s distance, not {number(own.relative)})"
