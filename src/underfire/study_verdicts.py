"""The paper's findings and the numbers we asked of this study, each with a verdict from the study's own numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from underfire import study_numbers as numbers
from underfire import words
from underfire.findings import pretty
from underfire.metrics import Estimate
from underfire.published import published
from underfire.study_numbers import StudyNumbers, Subject

HOLDS, PARTLY, FAILS, OPEN = "holds", "holds in part", "does not hold", "not tested here"
ENOUGH = 0.95
"""Success from which on an attack counts as reaching its class."""
CLOSER = {"cam": 3.0, "rts": 3.0}
"""So many times nearer to benign than PGD in L1 must ADV² be; 2 for the others."""
HALF = 0.5
"""Of the way to a random class's map: from there on map and prediction count as uncoupled."""
MEAN_FLOW = 0.5
"""px at an input of 224 px."""


@dataclass(frozen=True)
class Verdict:
    """A claim, the number that this run has for it, and whether it holds."""

    claim: str
    number: str
    verdict: str
    note: str = ""


@dataclass(frozen=True)
class Check:
    """A number that was asked for: where, what is wanted, what was found; ``met`` is None where that is nothing."""

    where: str
    wanted: str
    found: str
    met: bool | None


def findings(study: StudyNumbers) -> list[Verdict]:
    """The paper's three."""
    return [_security(study), _gap(study), _training()]


def _overall(flags: list[bool]) -> str:
    if not flags:
        return OPEN
    return HOLDS if all(flags) else PARTLY if any(flags) else FAILS


def _of(flags: list[bool], what: str) -> str:
    return f"{sum(flags)} of {words.count(len(flags), what)}"


def _security(study: StudyNumbers) -> Verdict:
    flags, ratios, rates = [], [], []
    for subject in study.subjects:
        cells = numbers.effectiveness(subject)
        for name in subject.interpreters:
            won = cells["adv2", name].success
            times = _times(subject, name)
            if won.value is None or times is None:
                continue
            flags.append(won.value >= ENOUGH and times > 2)
            ratios.append(times)
            rates.append(won.value)
    number = "no cell has a result"
    if flags:
        number = (
            f"success {_range(rates, words.percent)}; maps {_range(ratios, words.number)} times nearer to benign than "
            f"PGD’s; both in {_of(flags, 'cell')}"
        )
    return Verdict(
        "Interpretability gives existing systems limited security: prediction and explanation can be fooled at once.",
        number,
        _overall(flags),
        f"A cell counts where ADV² reaches its class on at least {words.percent(ENOUGH)} of the photos, with maps more "
        "than twice as near to benign as PGD’s.",
    )


def _range(values: list[float], show: object) -> str:
    low, high = (show(v) for v in (min(values), max(values)))  # type: ignore[operator]
    return str(low) if low == high else f"{low} to {high}"


def _times(subject: Subject, interpreter: str, plain: str = "pgd", joint: str = "adv2") -> float | None:
    far, near = (numbers.distance(subject, attack, interpreter).l1 for attack in (plain, joint))
    return numbers.ratio(far, near)


def _gap(study: StudyNumbers) -> Verdict:
    flags, gaps = [], []
    for subject in study.subjects:
        for name in subject.interpreters:
            found = numbers.random_class(subject, name)
            if found.gap.value is not None and found.success.value is not None:
                flags.append(found.success.value >= ENOUGH and found.gap.value >= HALF)
                gaps.append(f"{pretty(name)} on {subject.name} {words.percent(found.gap.value)}")
    return Verdict(
        "The prediction–interpretation gap is one cause: an interpreter describes a classifier’s behaviour only in "
        "part, so that its map can be made that of any other class while the prediction is a third one.",
        f"share of the way to a random class’s map: {'; '.join(gaps)}" if gaps else "no cell has a result",
        _overall(flags),
        f"A cell counts where the class is reached on at least {words.percent(ENOUGH)} of the photos and the map goes "
        "at least half of the way.",
    )


def _training() -> Verdict:
    cells = {(c["interpreter"], c["images"]): c["map_l1"] for c in published()["adversarial_interpretation"]}
    return Verdict(
        "Adversarial training that narrows the gap makes interpreters more robust.",
        "no adversarially trained interpreter is in this study",
        OPEN,
        f"Published: ADV² moves RTS’s map by L1 {cells['RTS', 'ADV²']:.2f}, that of the adversarially trained RTS by "
        f"{cells['RTS^A', 'ADV²']:.2f}.",
    )


# -- what was asked of the study ------------------------------------------------------------------------------------


def checks(study: StudyNumbers) -> list[Check]:
    """Every number that this study was to reach, cell by cell."""
    return [check for subject in study.subjects for check in _checks(subject)]


def _checks(subject: Subject) -> Iterator[Check]:
    cells = numbers.effectiveness(subject)
    for name in subject.interpreters:
        where = f"{subject.name}, {pretty(name)}"
        mine = cells["adv2", name]
        goal = _published_success(name)
        yield _at_least(where, "ADV² success", mine.success, goal, words.percent)
        yield _at_least(where, "ADV² confidence", mine.confidence, ENOUGH, words.number)
        yield _closer(subject, name, where)
        bent = cells["adv2-stadv", name]
        if bent.success.n:
            yield _at_least(where, "ADV²-StAdv success", bent.success, ENOUGH, words.percent)
            yield _at_most(where, "mean flow, px", bent.flow.value, MEAN_FLOW)
            yield _at_most(where, "ADV²-StAdv passes over ADV²’s", numbers.ratio(bent.passes, mine.passes), 2.0)
            times = _times(subject, name, "stadv", "adv2-stadv")
            yield Check(
                where, "ADV²-StAdv nearer to benign than StAdv", _x(times), None if times is None else times > 1
            )
        gap = numbers.random_class(subject, name)
        if gap.success.n:
            yield _at_least(where, "random class: success", gap.success, ENOUGH, words.percent)
            if name in CLOSER:
                share = numbers.ratio(gap.l1, gap.benign_l1)
                yield _at_most(where, "random class: L1 to the wanted map over benign’s", share, HALF)
    cells_ = numbers.matrix(subject)
    for judge in subject.interpreters if len(subject.interpreters) > 1 else ():
        of = {a: c.relative for a in subject.interpreters if (c := cells_[a, judge]).relative is not None}
        if judge in of and len(of) > 1:
            best = min(of, key=lambda a: (of[a], a != judge))
            found = "it is" if best == judge else f"made against {pretty(best)} is"
            yield Check(
                f"{subject.name}, judged by {pretty(judge)}",
                "transfer: the diagonal is the smallest",
                found,
                best == judge,
            )


def _published_success(interpreter: str) -> float:
    """The smallest printed for it; 1 where none is."""
    rates = [c["success"] for c in published()["success"] if (c["attack"], c["interpreter"]) == ("adv2", interpreter)]
    return float(min(rates, default=1.0))


def _closer(subject: Subject, name: str, where: str) -> Check:
    times, wanted = _times(subject, name), CLOSER.get(name, 2.0)
    return Check(
        where,
        f"ADV² nearer to benign than PGD in L1, at least {wanted:g} ×",
        _x(times),
        None if times is None else times >= wanted,
    )


def _x(times: float | None) -> str:
    return words.MISSING if times is None else f"{words.number(times)} ×"


def _at_least(where: str, what: str, found: Estimate, goal: float, show: object) -> Check:
    shown = [str(show(v)) for v in (goal, found.value)]  # type: ignore[operator]
    return Check(where, f"{what} at least {shown[0]}", shown[1], None if found.value is None else found.value >= goal)


def _at_most(where: str, what: str, found: float | None, goal: float) -> Check:
    return Check(where, f"{what} at most {goal:g}", words.number(found), None if found is None else found <= goal)
