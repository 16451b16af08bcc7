"""The ruling as Markdown, for a pull request or ``$GITHUB_STEP_SUMMARY``, and as plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator

from underfire.gating.measures import MEASURES
from underfire.gating.policy import TO_BASELINE
from underfire.gating.ruling import RuleCheck, Ruling, bound_words, figure

ORDER = ("fails", "undecided", "holds")
SIGNS = {"fails": "❌ fails", "undecided": "❔ undecided", "holds": "✅ holds"}
MARKS = {"pass": "✅", "fail": "❌", "undecided": "❔", "incomplete": "❔"}
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#!])")


def markdown(ruling: Ruling) -> str:
    """Write a ruling as Markdown: the answer, a table, what is missing, and the photos that prove it."""
    return "\n".join(_markdown(ruling)) + "\n"


def _markdown(ruling: Ruling) -> Iterator[str]:
    yield f"### {MARKS[ruling.verdict]} underfire gate: {ruling.verdict}"
    yield ""
    yield escaped(ruling.headline)
    if ruling.gaps:
        yield ""
        yield from (f"- {escaped(gap)}" for gap in ruling.gaps)
    yield ""
    yield "| | rule | where | seen | 95 % interval | allowed | photos |"
    yield "|---|---|---|---|---|---|---|"
    yield from (_row(decision) for decision in by_word(ruling))
    for decision in by_word(ruling):
        if decision.word != "holds":
            yield ""
            yield f"**{escaped(decision.rule)}**, {escaped(decision.place)}: {escaped(decision.says)}"
            if decision.proofs:
                yield ""
                yield from (f"- {escaped(line)}" for line in proof_lines(decision))
    yield ""
    yield (
        "Each check is decided on its whole 95 % interval, not on what was seen; the checks are not corrected for "
        "their number."
    )


def _row(decision: RuleCheck) -> str:
    rate, signed = is_rate(decision), decision.bound in TO_BASELINE
    ends = (figure(end, decision.n, rate, signed) for end in (decision.low, decision.high))
    cells = (
        SIGNS[decision.word],
        decision.rule,
        decision.place,
        figure(decision.value, decision.n, rate, signed),
        " to ".join(ends) if decision.low is not None else "–",
        bound_words(decision.bound, decision.limit, rate),
        f"{decision.n:,}" + (f" (about {decision.needed:,} needed)" if decision.needed else ""),
    )
    return "| " + " | ".join(escaped(cell) for cell in cells) + " |"


def by_word(ruling: Ruling) -> list[RuleCheck]:
    """Sort the decisions: what fails first, what holds last."""
    return sorted(ruling.decisions, key=lambda decision: ORDER.index(decision.word))


def is_rate(decision: RuleCheck) -> bool:
    """Tell whether it is a rate that is bounded."""
    return MEASURES[decision.measure].kind == "rate"


def proof_lines(decision: RuleCheck) -> Iterator[str]:
    """Yield a line for each photo that speaks against a rule: its path, and that of the adversarial picture."""
    for proof in decision.proofs:
        picture = f" → {proof.adversarial}" if proof.adversarial else ""
        value = "" if is_rate(decision) else f" ({decision.measure} {proof.value:.3g})"
        yield f"{proof.photo}{value}{picture}"


def plain_text(ruling: Ruling) -> str:
    """Write a ruling as plain text: what does not hold, with the photos that prove it."""
    lines = [ruling.headline, *(f"  {gap}" for gap in ruling.gaps)]
    for decision in by_word(ruling):
        if decision.word != "holds":
            where = f"{ruling.policy}, line {decision.line}: " if ruling.policy else ""
            lines += [
                "",
                f"{decision.word.upper()}  {where}{decision.rule}",
                f"  {decision.place}",
                f"  {decision.says}",
            ]
            lines += [f"    {line}" for line in proof_lines(decision)]
    return "\n".join(lines)


def escaped(text: str) -> str:
    """Write text so that Markdown shows it as it is, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
