"""What a gate says: a decision for each rule and cell, and the whole. These are also the fields of its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from underfire.gating.policy import TO_BASELINE, UPPER, Bound, Name
from underfire.report.text import NBSP, count, number, percent, pretty

Word: TypeAlias = Literal["holds", "fails", "undecided"]
Whole: TypeAlias = Literal["pass", "fail", "undecided", "incomplete"]
STATUS: Mapping[Whole, int] = {"pass": 0, "fail": 1, "undecided": 3, "incomplete": 3}
"""Exit status of each answer; 2 is a mistake."""
FORMAT = 1
"""Version of the JSON."""


@dataclass(frozen=True)
class Proof:
    """A photo that speaks most against a rule.

    Args:
        photo: its path below the folder of photos.
        value: what was measured on it; for a bound to the baseline, the difference.
        adversarial: path of its adversarial PNG below the audit's folder; None where there is none.
    """

    photo: str
    value: float
    adversarial: str | None


@dataclass(frozen=True)
class RuleCheck:
    """One bound of one rule in one cell.

    Args:
        rule: title of the rule.
        rule_id: its id in SARIF, such as UF-FORGED-CAM.
        measure: what is bounded.
        bound: 'max', 'min', or to the baseline 'increase', 'decrease'.
        limit: the bound.
        cell: the columns that identify the cell.
        word: 'holds', 'fails' or 'undecided'.
        value: the rate, mean or difference seen; None without any.
        low: lower end of its 95 % interval; None without one.
        high: upper end.
        n: photos behind it.
        needed: photos that would decide it in 80 % of cases if the truth is what was seen; None where it is decided,
            and where no number is known.
        says: one sentence.
        proofs: the photos that speak most against it, the worst first.
        line: the rule's line in the policy.
    """

    rule: str
    rule_id: str
    measure: Name
    bound: Bound
    limit: float
    cell: Mapping[str, str | int | None]
    word: Word
    value: float | None
    low: float | None
    high: float | None
    n: int
    needed: int | None
    says: str
    proofs: tuple[Proof, ...]
    line: int

    @property
    def place(self) -> str:
        """The cell in words."""
        return cell_words(self.cell)


@dataclass(frozen=True)
class Ruling:
    """What a gate says of an audit.

    Args:
        verdict: 'pass', 'fail', 'undecided' or 'incomplete'.
        status: exit status.
        decisions: in the order of the rules.
        gaps: why the audit is not complete; empty where it is.
        audit: its folder.
        baseline: folder of the baseline; None without one.
        policy: file of the policy; empty where it came from Python.
        undecided: what becomes of undecided rules: 'pass', 'fail', or None for a status of their own.
        format: version of this structure.
    """

    verdict: Whole
    status: int
    decisions: tuple[RuleCheck, ...]
    gaps: tuple[str, ...]
    audit: str
    baseline: str | None
    policy: str
    undecided: Literal["pass", "fail"] | None = None
    format: int = FORMAT

    def number(self, word: Word) -> int:
        """Count the decisions with this word."""
        return sum(decision.word == word for decision in self.decisions)

    @property
    def headline(self) -> str:
        """The answer in one line."""
        counts = f"{self.number('holds')} hold, {self.number('fails')} fail, {self.number('undecided')} undecided"
        why = " The audit is not complete." if self.gaps else ""
        return f"{self.verdict.upper()}: of {count(len(self.decisions), 'check')}, {counts}.{why}"


def whole(decisions: tuple[RuleCheck, ...], gaps: tuple[str, ...], undecided: Literal["pass", "fail"] | None) -> Whole:
    """Give the answer to all decisions; an audit that is not complete never passes."""
    words = {decision.word for decision in decisions}
    if "fails" in words or ("undecided" in words and undecided == "fail"):
        return "fail"
    if gaps:
        return "incomplete"
    return "undecided" if "undecided" in words and undecided is None else "pass"


def cell_words(cell: Mapping[str, str | int | None]) -> str:
    """Say a cell in words: ADV² on CAM, judged by CAM: lite0, fast, ε 8."""
    attack, against, judge = (cell.get(name) for name in ("attack", "against", "interpreter"))
    said = pretty(str(attack)) + (f" on {pretty(str(against))}" if against is not None else "")
    if against != judge:
        said += f", judged by {pretty(str(judge))}"
    rest = [str(cell["classifier"]), str(cell["preset"])]
    if cell.get("judge_classifier") != cell["classifier"]:
        rest.append(f"judged on {cell['judge_classifier']}")
    if cell.get("eps") is not None:
        rest.append(f"ε {cell['eps']}")
    if cell.get("at") not in (None, "input"):
        rest.append(f"at {cell['at']}")
    if cell.get("defense") not in (None, "none"):
        rest.append(f"defended by {cell['defense']}")
    return f"{said} ({', '.join(rest)})"


def figure(value: float | None, n: int, rate: bool, signed: bool = False) -> str:
    """Write a value of a decision: a share in percent, a mean with three digits; a dash where there is none.

    Args:
        value: the value.
        n: photos behind it.
        rate: whether it is a share.
        signed: whether it is a difference: with its sign, that of two shares in points of a hundred.
    """
    if value is None:
        return "–"
    if rate and not signed:
        return percent(value, n).replace(NBSP, " ")
    shown = f"{100 * value:.3g} points".replace("-", "−") if rate else digits(value)
    return ("+" if signed and value > 0 and shown[0] != "<" else "") + shown


def digits(value: float) -> str:
    """Write a number with three digits, never in powers of ten."""
    if 0 < abs(value) < 1e-4:
        return number(value)
    return (f"{value:.3g}" if abs(value) < 1_000 else f"{value:,.0f}").replace("-", "−")


def bound_words(bound: Bound, limit: float, rate: bool) -> str:
    """Say a bound in words: at most 10 %."""
    if bound in TO_BASELINE:
        shown = f"{100 * limit:.3g} points" if rate else digits(limit)
        return f"{'up' if bound in UPPER else 'down'} by at most {shown}"
    return f"at {'most' if bound in UPPER else 'least'} " + (f"{100 * limit:.3g} %" if rate else digits(limit))
