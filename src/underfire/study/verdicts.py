"""The paper's three findings, each with a verdict from the study's own numbers. No HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from underfire.metrics.decision import Decision, at_least, every
from underfire.metrics.estimate import Estimate
from underfire.report.published import published
from underfire.report.text import count, interval, number, percent, pretty, share
from underfire.study import numbers
from underfire.study.expectations import ENOUGH, HALF
from underfire.study.results import StudyResults, SubjectResults

HOLDS, PARTLY, FAILS, OPEN = "holds", "holds in part", "does not hold", "not tested here"
TONES = {HOLDS: "yes", FAILS: "no"}
"""Colours of verdicts on the page; what is not resolved has none."""


@dataclass(frozen=True)
class PaperFinding:
    """A finding of the paper.

    Args:
        claim: what the paper says.
        number: what this study has for it, in words.
        verdict: whether it holds here, where the intervals say so, and else why that cannot be said.
        note: what was counted, and how.
    """

    claim: str
    number: str
    verdict: str
    note: str

    @property
    def tone(self) -> str:
        """The colour of the verdict: yes, no or none."""
        return TONES.get(self.verdict, "")


def findings(study: StudyResults) -> list[PaperFinding]:
    """Judge the paper's three findings."""
    return [_security(study), _gap(study), _training(study)]


def _verdict(cells: Sequence[Decision]) -> str:
    """Put the cells together: a cell that its interval does not resolve is no evidence for either side."""
    if not cells:
        return OPEN
    held, failed = (sum(cell.answer is wanted for cell in cells) for wanted in (True, False))
    if held + failed == len(cells):
        return HOLDS if not failed else PARTLY if held else FAILS
    if held and failed:
        return PARTLY
    if held or failed:
        said = f"{HOLDS} in {held}" if held else f"{FAILS} in {failed}"
        return f"{said} of {count(len(cells), 'cell')}, the others not resolved"
    return max(cells, key=lambda cell: (not cell.few, cell.photos)).words


def _security(study: StudyResults) -> PaperFinding:
    cells: list[Decision] = []
    said = []
    for subject in study.subjects:
        found = numbers.effectiveness(subject)
        known = [(name, far) for name in subject.plain if (far := numbers.times_nearer(subject, name)) is not None]
        own = [_fooled(subject, name, found["adv2", name].success) for name, _ in known]
        if own:
            rates = [share(found["adv2", name].success) for name, _ in known]
            said.append(
                f"{subject.label}: success {', '.join(dict.fromkeys(rates))}, maps "
                f"{_range([far for _, far in known], lambda far: number(far, 3))} times nearer to the benign ones than "
                f"PGD’s, both enough in {_of(own)}"
            )
        cells += own
    return PaperFinding(
        "Interpretability gives existing systems limited security: prediction and explanation can be fooled at once.",
        "; ".join(said) or "no cell has a result",
        _verdict(cells),
        f"A cell is one interpreter of one classifier. It is enough where ADV² reaches the target class on at least "
        f"{percent(ENOUGH)} of the photos, with maps more than twice as near to the benign ones as PGD’s, photo by "
        "photo; the whole 95 % interval must be on that side.",
    )


def _fooled(subject: SubjectResults, name: str, success: Estimate) -> Decision:
    return every([at_least(success, ENOUGH, share=True), numbers.nearer_by(subject, name, 2.0, "pgd", "adv2")[0]])


def _of(cells: Sequence[Decision]) -> str:
    """Say in how many cells something is so, and in how many that is not resolved."""
    unknown = sum(cell.answer is None for cell in cells)
    more = f" ({unknown} not resolved)" if unknown else ""
    return f"{sum(cell.answer is True for cell in cells)} of {count(len(cells), 'cell')}{more}"


def _range(values: Sequence[float], show: Callable[[float], str]) -> str:
    low, high = show(min(values)), show(max(values))
    return low if low == high else f"{low} to {high}"


def _gap(study: StudyResults) -> PaperFinding:
    cells: list[Decision] = []
    gaps = []
    for subject in study.subjects:
        for name in subject.plain:
            found = numbers.random_class(subject, name)
            if found.gap.value is not None and found.success.value is not None:
                cells.append(every([at_least(found.success, ENOUGH, share=True), at_least(found.gap, HALF)]))
                gaps.append(
                    f"{pretty(name)} on {subject.label} {number(found.gap.value)} (PGD {number(found.pgd_gap.value)})"
                )
            elif found.near:
                gaps.append(f"{pretty(name)} on {subject.label}: none, {found.why_none}")
    return PaperFinding(
        "One cause is the prediction–interpretation gap: an interpreter describes a classifier only in part. So an "
        "attack can make it show the map of one class while the classifier predicts another.",
        f"share of the way to a random class’s map: {'; '.join(gaps)}" if gaps else "no cell has a result",
        _verdict(cells),
        f"A cell is enough where the target class is reached on at least {percent(ENOUGH)} of the photos and the map "
        "goes at least half of the way; the whole 95 % interval must be on that side. Beside it, the share that PGD "
        "goes, which knows nothing of the wanted map.",
    )


def _training(study: StudyResults) -> PaperFinding:
    cells = {(c["interpreter"], c["images"]): c["map_l1"] for c in published()["adversarial_interpretation"]}
    decided: list[Decision] = []
    said = []
    for subject in study.subjects:
        found = numbers.robustness(subject)
        if found and found.l1.value is not None and found.plain_l1.value is not None:
            decided.append(at_least(found.twice, 0.0))
            said.append(
                f"{subject.label}: ADV² moves RTSᴬ’s map by L1 {_mean(found.l1)}, RTS’s by {_mean(found.plain_l1)} "
                f"({count(found.l1.n, 'photo')}; against RTSᴬ it reaches the target class on "
                f"{share(found.success)})"
            )
    return PaperFinding(
        "Adversarial training that narrows the gap makes interpreters more robust.",
        "; ".join(said) or "this study has no adversarially trained interpreter beside the plain one",
        _verdict(decided),
        "RTSᴬ is our own variant, RTS trained against the attack: not the paper’s method, so this neither confirms nor "
        "refutes the paper’s. A classifier is enough where RTSᴬ’s map moves more than twice as far, photo by photo. "
        f"Published: ADV² moves RTS’s map by L1 {cells['RTS', 'ADV²']:.2f}, that of the adversarially trained RTS by "
        f"{cells['RTS^A', 'ADV²']:.2f}. Our numbers are for the search of one preset; longer ones are in "
        "docs/defenses.md.",
    )


def _mean(estimate: Estimate) -> str:
    around = interval(estimate, low=0)
    return number(estimate.value) + (f" ({around})" if around else "")
