"""Numbers as text, for pages and the terminal: a missing one is a dash, never a zero."""

from __future__ import annotations

import math
from urllib.parse import quote

from underfire.core import LEVELS
from underfire.metrics.decision import FEW
from underfire.metrics.estimate import Estimate

MISSING = "–"
NBSP = "\u00a0"


def percent(value: float | None, n: int = 0) -> str:
    """Write a share of ``n``, with a decimal from 100 on; 100 % only for all of them, 0 % only for none."""
    if value is None:
        return MISSING
    shown, least = _share(value, n), 0.1 if n >= 100 else 1
    if value < 1 and float(shown) == 100:
        shown = f">{NBSP}{100 - least:g}"
    elif value != 0 and float(shown) == 0:
        shown = f"<{NBSP}{least}" if value > 0 else f">{NBSP}−{least}"
    return f"{shown}{NBSP}%".replace("-", "−")


def _share(value: float, n: int) -> str:
    """Write a share times 100, rounded."""
    return f"{100 * value:.{1 if n >= 100 else 0}f}".removesuffix(".0")


def number(value: float | None, digits: int = 2) -> str:
    """Write two significant digits (or ``digits``), never in powers of ten: 0.0055, 0.21, 8,162."""
    if value is None:
        return MISSING
    if math.isinf(value):
        return "∞"
    if abs(value) >= 10 or value == 0:
        return f"{value:,.0f}"
    if abs(value) < 1e-4:
        return "< 0.0001" if value > 0 else "> −0.0001"
    rounded = float(f"{value:.{digits}g}")  # first, so that 0.9999 has the digits of 1.0
    places = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))  # 9.97 to one digit is 10
    return f"{rounded:.{places}f}".replace("-", "−")


def share(estimate: Estimate, unit: str = "") -> str:
    """Write a rate: a percentage from ten photos on, and a count of fewer, '2 of 2', which promises nothing.

    Args:
        estimate: the rate.
        unit: what is counted, after the count.
    """
    if estimate.value is None or estimate.independent >= FEW:
        return percent(estimate.value, estimate.n)
    hits = round(estimate.value * estimate.n)
    return f"{hits:,} of {estimate.n:,}" + (f" {unit}" if unit else "")


def few(estimate: Estimate) -> bool:
    """Whether there are too few photos for a headline with a percentage."""
    return estimate.independent < FEW


def sample(estimate: Estimate) -> str:
    """Say how many values stand behind an estimate, and of how many photos where those are fewer."""
    of = "" if estimate.photos is None else f" of {count(estimate.photos, 'photo')}"
    return f"n{NBSP}={NBSP}{estimate.n:,}{of}"


def interval(estimate: Estimate, digits: int = 2, low: float = -math.inf, high: float | None = None) -> str:
    """Write the 95 % interval of a mean, cut to the quantity's own bounds; empty where there is none, or one number."""
    if estimate.low is None or estimate.high is None:
        return ""
    top = estimate.high if high is None else min(high, estimate.high)
    ends = number(max(low, estimate.low), digits), number(top, digits)
    return "" if ends[0] == ends[1] else "\u2009–\u2009".join(ends)


def share_interval(estimate: Estimate, unit: str = f"{NBSP}%") -> str:
    """Write the 95 % interval of a rate; empty where there is none."""
    if estimate.low is None or estimate.high is None:
        return ""
    return f"{_share(estimate.low, estimate.n)}–{_share(estimate.high, estimate.n)}{unit}"


def count(n: int, one: str, many: str | None = None) -> str:
    """Write '1 photo', '1,234 photos'."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def dash(value: object) -> object:
    """Return the value, or a dash where there is none."""
    return MISSING if value is None else value


def levels(n: int) -> str:
    """Write an L∞ budget in words."""
    return f"{n} of {LEVELS} levels"


def budget(value: float | None) -> str:
    """Write a budget, in levels or px; None: larger than any that was tried."""
    return "more" if value is None else f"{value:g}"


def first_name(name: str | None) -> str:
    """Cut a class name to the first of its synonyms, as ImageNet lists them: 'cellular telephone, cellphone, …'."""
    return MISSING if name is None else name.partition(",")[0]


def href(path: str) -> str:
    """Write the path of a file of the folder as a relative link; a colon in it never makes it another scheme."""
    return quote(path, safe="/")


FILTERS = (budget, percent, share, sample, few, number, interval, share_interval, count, dash, levels, first_name, href)
"""Filters of the templates, by these names."""
PRETTY = {
    "pgd": "PGD",
    "adv2": "ADV²",
    "stadv": "StAdv",
    "adv2-stadv": "ADV²-StAdv",
    "adv2-control": "ADV² with λ = 0",
    "noise": "Noise",
    "cam": "CAM",
    "grad": "GRAD",
    "mask": "MASK",
    "rts": "RTS",
    "rts-a": "RTSᴬ",
    "rts-aid": "RTS-AID",
    "ensemble": "Ensemble",
}
"""Names as the paper writes them; every other name is shown as its author wrote it."""


def pretty(name: str) -> str:
    """Write a name as the paper does, where it has one."""
    return PRETTY.get(name.replace("_", "-"), name)
