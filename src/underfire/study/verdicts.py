"""The paper's three findings, each with a verdict from the study's own numbers. No HTML."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from underfire.metrics.estimate import Estimate
from underfire.report.published import published
from underfire.report.text import count, interval, number, percent, pretty
from underfire.study import numbers
from underfire.study.expectations import ENOUGH, HALF
from underfire.study.results import StudyResults

HOLDS, PARTLY, FAILS, OPEN = "holds", "holds in part", "does not hold", "not tested here"


@dataclass(frozen=True)
class Finding:
    """A finding of the paper.

    Args:
        claim: what the paper says.
        number: what this study has for it, in words.
        verdict: whether it holds here.
        note: what was counted, and how.
    """

    claim: str
    number: str
    verdict: str
    note: str


def findings(study: StudyResults) -> list[Finding]:
    """Judge the paper's three findings."""
    return [_security(study), _gap(study), _training(study)]


def _verdict(flags: Sequence[bool]) -> str:
    if not flags:
        return OPEN
    return HOLDS if all(flags) else PARTLY if any(flags) else FAILS


def _security(study: StudyResults) -> Finding:
    flags: list[bool] = []
    said = []
    for subject in study.subjects:
        cells = numbers.effectiveness(subject)
        rates = {name: cells["adv2", name].success.value for name in subject.plain}
        times = {name: numbers.times_nearer(subject, name) for name in subject.plain}
        known = [(won, far) for n in subject.plain if (won := rates[n]) is not None and (far := times[n]) is not None]
        own = [won >= ENOUGH and far > 2 for won, far in known]
        if own:
            said.append(
                f"{subject.label}: success {_range([won for won, _ in known], percent)}, maps "
                f"{_range([far for _, far in known], lambda far: number(far, 3))} times nearer to the benign ones than "
                f"PGD’s, both enough in {sum(own)} of {count(len(own), 'cell')}"
            )
        flags += own
    return Finding(
        "Interpretability gives existing systems limited security: prediction and explanation can be fooled at once.",
        "; ".join(said) or "no cell has a result",
        _verdict(flags),
        f"A cell is one interpreter of one classifier. It is enough where ADV² reaches the target class on at least "
        f"{percent(ENOUGH)} of the photos, with maps more than twice as near to the benign ones as PGD’s.",
    )


def _range(values: Sequence[float], show: Callable[[float], str]) -> str:
    low, high = show(min(values)), show(max(values))
    return low if low == high else f"{low} to {high}"


def _gap(study: StudyResults) -> Finding:
    flags, gaps = [], []
    for subject in study.subjects:
        for name in subject.plain:
            found = numbers.random_class(subject, name)
            if found.gap.value is not None and found.success.value is not None:
                flags.append(found.success.value >= ENOUGH and found.gap.value >= HALF)
                gaps.append(f"{pretty(name)} on {subject.label} {percent(found.gap.value)}")
    return Finding(
        "One cause is the prediction–interpretation gap: an interpreter describes a classifier only in part. So an "
        "attack can make it show the map of one class while the classifier predicts another.",
        f"share of the way to a random class’s map: {'; '.join(gaps)}" if gaps else "no cell has a result",
        _verdict(flags),
        f"A cell is enough where the target class is reached on at least {percent(ENOUGH)} of the photos and the map "
        "goes at least half of the way.",
    )


def _training(study: StudyResults) -> Finding:
    cells = {(c["interpreter"], c["images"]): c["map_l1"] for c in published()["adversarial_interpretation"]}
    flags, said = [], []
    for subject in study.subjects:
        found = numbers.robustness(subject)
        if found and found.l1.value is not None and found.plain_l1.value is not None:
            flags.append(found.l1.value > 2 * found.plain_l1.value)
            said.append(
                f"{subject.label}: ADV² moves RTSᴬ’s map by L1 {_mean(found.l1)}, RTS’s by {_mean(found.plain_l1)} "
                f"({count(found.l1.n, 'photo')}; against RTSᴬ it reaches the target class on "
                f"{percent(found.success.value, found.success.n)})"
            )
    return Finding(
        "Adversarial training that narrows the gap makes interpreters more robust.",
        "; ".join(said) or "this study has no adversarially trained interpreter beside the plain one",
        _verdict(flags),
        "RTSᴬ is RTS trained against the attack. A classifier is enough where RTSᴬ’s map moves more than twice as far. "
        f"Published: ADV² moves RTS’s map by L1 {cells['RTS', 'ADV²']:.2f}, that of the adversarially trained RTS by "
        f"{cells['RTS^A', 'ADV²']:.2f}. Our numbers are for the search of one preset; longer ones are in "
        "docs/defenses.md.",
    )


def _mean(estimate: Estimate) -> str:
    around = interval(estimate, low=0)
    return number(estimate.value) + (f" ({around})" if around else "")
