"""Decide the rules of a policy on an audit: on the 95 % interval, never on the point estimate."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from underfire.core import MismatchError, UnderfireError, unknown
from underfire.core.place import Place
from underfire.gating.evidence import Evidence, against_baseline, alone
from underfire.gating.measures import AT, MEASURES, SELECT, MeasuredCell, gaps, measured
from underfire.gating.pairs import Pairs, pairs, partner
from underfire.gating.policy import TO_BASELINE, UPPER, Bound, PolicyFile, Rule
from underfire.gating.ruling import STATUS, Proof, RuleCheck, Ruling, Word, bound_words, figure, whole
from underfire.report.text import count

WORST = 5
"""Photos that a decision names at most."""


def ruling(
    out: Place,
    policy: PolicyFile,
    baseline: Place | None = None,
    undecided: Literal["pass", "fail"] | None = None,
) -> Ruling:
    """Decide all rules of a policy.

    Args:
        out: folder of the audit.
        policy: the rules.
        baseline: folder of the audit that ``increase`` and ``decrease`` compare with.
        undecided: what becomes of what the intervals do not decide; None gives it a status of its own.

    Raises:
        UnderfireError: no audit, a rule that matches nothing, or a baseline that is missing, idle or of other photos.
    """
    _baseline_is_used(policy, baseline)
    cells = measured(out)
    if not cells:
        raise UnderfireError(f"'{out}' has no finished records yet: go on with underfire run '{out / 'plan.yaml'}'.")
    before = [] if baseline is None else measured(baseline)
    decisions: list[RuleCheck] = []
    reasons = [*gaps(out), *(gaps(baseline) if baseline is not None else ())]
    seen: dict[int, MeasuredCell] = {}
    for i, rule in enumerate(policy.policy.rules):
        for cell in matching(rule, cells, f"{_where(policy, i)}the rule '{rule.title}'"):
            seen[id(cell)] = cell
            for bound, limit in rule.bounds.items():
                paired = _paired(cell, before, baseline, rule) if bound in TO_BASELINE else None
                decisions.append(_decision(rule, bound, limit, cell, paired, policy.line(i)))
    reasons += [reason for cell in seen.values() for reason in _errors(cell, policy.policy.errors)]
    all_reasons = tuple(dict.fromkeys(reasons))
    answer = whole(tuple(decisions), all_reasons, undecided)
    old = None if baseline is None else str(baseline)
    return Ruling(answer, STATUS[answer], tuple(decisions), all_reasons, str(out), old, policy.path, undecided)


def _where(policy: PolicyFile, rule: int) -> str:
    return f"'{policy.path}', line {policy.line(rule)}: " if policy.path else ""


def _baseline_is_used(policy: PolicyFile, baseline: Place | None) -> None:
    asking = [i for i, rule in enumerate(policy.policy.rules) if set(rule.bounds) & set(TO_BASELINE)]
    if asking and baseline is None:
        title = policy.policy.rules[asking[0]].title
        raise UnderfireError(f"{_where(policy, asking[0])}the rule '{title}' needs an earlier audit: give --baseline.")
    if baseline is not None and not asking:
        raise UnderfireError(
            f"--baseline {baseline}: no rule compares with it; give one a bound 'increase' or 'decrease'."
        )


def matching(rule: Rule, cells: Sequence[MeasuredCell], who: str) -> list[MeasuredCell]:
    """Select the cells that a rule is about.

    Args:
        rule: the rule.
        cells: the cells of the audit.
        who: the rule, in an error.

    Raises:
        UnderfireError: it is about none of them.
    """
    found = list(cells)
    for column, wanted in rule.where.chosen:
        known = {str(cell.cell[column]) for cell in cells if cell.cell.get(column) is not None}
        if column == AT and not known:  # records of before there was such a column
            continue
        for value in wanted:
            if str(value) not in known:
                raise UnderfireError(
                    f"{who} matches nothing. {unknown(f'{column} in the audit:', str(value), sorted(known))}"
                )
        found = [cell for cell in found if str(cell.cell[column]) in map(str, wanted)]
    if not found:
        chosen = ", ".join(f"{column} {'|'.join(map(str, values))}" for column, values in rule.where.chosen)
        raise UnderfireError(f"{who} matches nothing: the audit has no cell with {chosen} at once.")
    return found


def _paired(cell: MeasuredCell, before: Sequence[MeasuredCell], baseline: Place | None, rule: Rule) -> Pairs:
    other = partner(cell, before)
    if other is None:
        raise MismatchError(
            f"The rule '{rule.title}' compares with the baseline '{baseline}', which has no such attack under such a "
            f"judge ({', '.join(f'{k} {cell.cell[k]}' for k in SELECT if cell.cell.get(k) is not None)})."
        )
    found = pairs(cell, other, rule.measure)
    if not cell.photos & other.photos:
        raise MismatchError(
            f"The baseline '{baseline}' has none of this audit's photos, so that the rule '{rule.title}' compares "
            "nothing: run the baseline on the same files."
        )
    return found


def _errors(cell: MeasuredCell, accepted: int) -> Iterator[str]:
    if len(errors := cell.errors) > accepted:
        image, error = next(iter(errors.items()))
        named = "" if image in error else f"'{image}': "
        more = f" ({count(len(errors) - 1, 'more photo')})" if len(errors) > 1 else ""
        yield f"{count(len(errors), 'photo')} without a result. {named}{error}{more}"


def _decision(rule: Rule, bound: Bound, limit: float, cell: MeasuredCell, paired: Pairs | None, line: int) -> RuleCheck:
    evidence = (
        alone(cell, rule.measure, limit) if paired is None else against_baseline(paired, rule.measure, limit, bound)
    )
    word = decided(evidence, bound, evidence.limit)
    needed = evidence.needed() if word == "undecided" else None
    return RuleCheck(
        rule.title,
        rule_id(rule, cell.cell),
        rule.measure,
        bound,
        limit,
        dict(cell.cell),
        word,
        evidence.value,
        evidence.low,
        evidence.high,
        evidence.n,
        needed,
        _sentence(evidence, rule, bound, limit, word, needed),
        () if word == "holds" else _proofs(evidence, bound, cell),
        line,
    )


def decided(evidence: Evidence, bound: Bound, limit: float) -> Word:
    """Decide a bound: the whole interval lies on one side of it, or it is undecided."""
    if evidence.low is None or evidence.high is None:
        return "undecided"
    if bound in UPPER:
        return "holds" if evidence.high <= limit else "fails" if evidence.low > limit else "undecided"
    return "holds" if evidence.low >= limit else "fails" if evidence.high < limit else "undecided"


def rule_id(rule: Rule, cell: Mapping[str, Any]) -> str:
    """Name a rule for SARIF: what is bounded, and under which interpreter."""
    words = (rule.measure, str(cell["interpreter"]))
    return "-".join(["UF", *(re.sub(r"[^A-Z0-9]", "", word.upper()) for word in words)])


def _sentence(evidence: Evidence, rule: Rule, bound: Bound, limit: float, word: Word, needed: int | None) -> str:
    """Say a decision: what was seen, what is allowed, and what is missing."""
    rate = MEASURES[rule.measure].kind == "rate"
    signed = bound in TO_BASELINE
    allowed = bound_words(bound, limit, rate)
    if evidence.value is None:
        return f"{rule.measure} should be {allowed}, but no photo has a value: {evidence.missing}."
    seen = f"{rule.measure} {'changed by ' if signed else ''}{figure(evidence.value, evidence.n, rate, signed)}"
    if evidence.low is None or evidence.high is None:
        inside = f"no interval, since a mean needs {evidence.fewest} photos"
    else:
        ends = (figure(end, evidence.n, rate, signed) for end in (evidence.low, evidence.high))
        inside = "95 % interval {} to {}".format(*ends)
    said = f"{seen} ({inside}; {count(evidence.n, 'photo')}), allowed: {allowed}"
    if word != "undecided":
        return said + "."
    if needed is None:
        return f"{said}. What was seen is too close to the bound for any number of photos to decide."
    return f"{said}. About {count(needed, 'photo')} would decide it if the truth is what was seen."


def _proofs(evidence: Evidence, bound: Bound, cell: MeasuredCell) -> tuple[Proof, ...]:
    """Pick the photos that speak most against a rule; of equals, those whose map moved least."""
    upper = bound in UPPER
    moved = cell.values("map_l1")
    first = {row["image_sha256"]: row for row in reversed(cell.rows) if row["success"] is not None}
    worse = [
        photo
        for photo, value in evidence.values.items()
        if (value > evidence.limit) == upper and value != evidence.limit
    ]
    worse.sort(key=lambda photo: ((-1 if upper else 1) * evidence.values[photo], moved.get(photo, 1.0), photo))
    return tuple(
        Proof(first[photo]["image"], evidence.values[photo], first[photo]["adversarial"]) for photo in worse[:WORST]
    )
