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
    told = []
    for subject in study.subjects:
        cells = numbers.effectiveness(subject)
        rates = {name: cells["adv2", name].success.value for name in subject.plain}
        times = {name: numbers.times_nearer(subject, name) for name in subject.plain}
        known = [(won, far) for n in subject.plain if (won := rates[n]) is not None and (far := times[n]) is not None]
        own = [won >= ENOUGH and far > 2 for won, far in known]
        if own:
            told.append(
                f"{subject.told}: success {_range([won for won, _ in known], percent)}, maps "
                f"{_range([far for _, far in known], lambda far: number(far, 3))} times nearer to benign than PGD’s, "
                f"both in {sum(own)} of {count(len(own), 'cell')}"
            )
        flags += own
    return Finding(
        "Interpretability gives existing systems limited security: prediction and explanation can be fooled at once.",
        "; ".join(told) or "no cell has a result",
        _verdict(flags),
        f"A cell counts where ADV² reaches its class on at least {percent(ENOUGH)} of the photos, with maps more "
        "than twice as near to benign as PGD’s.",
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
                gaps.append(f"{pretty(name)} on {subject.told} {percent(found.gap.value)}")
    return Finding(
        "The prediction–interpretation gap is one cause: an interpreter describes a classifier’s behaviour only in "
        "part, so that its map can be made that of any other class while the prediction is a third one.",
        f"share of the way to a random class’s map: {'; '.join(gaps)}" if gaps else "no cell has a result",
        _verdict(flags),
        f"A cell counts where the class is reached on at least {percent(ENOUGH)} of the photos and the map goes "
        "at least half of the way.",
    )


def _training(study: StudyResults) -> Finding:
    cells = {(c["interpreter"], c["images"]): c["map_l1"] for c in published()["adversarial_interpretation"]}
    flags, told = [], []
    for subject in study.subjects:
        found = numbers.robustness(subject)
        if found and found.l1.value is not None and found.plain_l1.value is not None:
            flags.append(found.l1.value > 2 * found.plain_l1.value)
            told.append(
                f"{subject.told}: ADV² moves RTSᴬ’s map by L1 {_mean(found.l1)}, RTS’s by {_mean(found.plain_l1)} "
                f"({count(found.l1.n, 'photo')}; against RTSᴬ it reaches its class on "
                f"{percent(found.success.value, found.success.n)})"
            )
    return Finding(
        "Adversarial training that narrows the gap makes interpreters more robust.",
        "; ".join(told) or "no adversarially trained interpreter is in this study beside the plain one",
        _verdict(flags),
        f"A classifier counts where RTSᴬ’s map moves more than twice as far. Published: ADV² moves RTS’s map by L1 "
        f"{cells['RTS', 'ADV²']:.2f}, that of the adversarially trained RTS by {cells['RTS^A', 'ADV²']:.2f}. "
        "This is one preset’s search, and says nothing of a longer one (docs/defenses.md has some).",
    )


def _mean(estimate: Estimate) -> str:
    around = interval(estimate, low=0)
    return number(estimate.value) + (f" ({around})" if around else "")
