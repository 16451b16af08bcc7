"""The ruling as SARIF 2.1.0, for code scanning: a result for each check that does not hold, at the policy's line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

import underfire
from underfire.core.hashing import digest_of
from underfire.core.place import is_url
from underfire.gating.markdown import proof_lines
from underfire.gating.measures import MEASURES
from underfire.gating.ruling import RuleCheck, Ruling

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
FINGERPRINT = "underfire/v1"


def sarif(ruling: Ruling) -> bytes:
    """Write a ruling as SARIF 2.1.0."""
    bad = [decision for decision in ruling.decisions if decision.word != "holds"]
    ids = list(dict.fromkeys(decision.rule_id for decision in ruling.decisions))
    twins: Counter[str] = Counter()
    run = {
        "tool": {
            "driver": {"name": "underfire", "version": underfire.__version__, "rules": [_rule(i, ruling) for i in ids]}
        },
        "invocations": [_invocation(ruling)],
        "results": [_result(decision, ruling, ids, twins) for decision in bad],
        "columnKind": "unicodeCodePoints",
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, ensure_ascii=False).encode(
        errors="replace"
    )


def _rule(rule_id: str, ruling: Ruling) -> dict[str, Any]:
    decision = next(d for d in ruling.decisions if d.rule_id == rule_id)
    words = f"{decision.measure} under {decision.cell['interpreter']}"
    return {
        "id": rule_id,
        "name": "".join(part.title() for part in rule_id.split("-")[1:]),
        "shortDescription": {"text": words},
        "fullDescription": {"text": f"{words}: {MEASURES[decision.measure].says}. Decided on the 95 % interval."},
        "defaultConfiguration": {"level": "error"},
    }


def _invocation(ruling: Ruling) -> dict[str, Any]:
    notes = [{"level": "error", "message": {"text": gap}} for gap in ruling.gaps]
    return {"executionSuccessful": not ruling.gaps, "toolExecutionNotifications": notes}


def _result(decision: RuleCheck, ruling: Ruling, ids: list[str], twins: Counter[str]) -> dict[str, Any]:
    fails = decision.word == "fails" or ruling.undecided == "fail"
    worst = "\n".join(proof_lines(decision))
    text = f"{decision.place}: {decision.says}" + (f"\nThe photos that prove it:\n{worst}" if worst else "")
    found: dict[str, Any] = {
        "ruleId": decision.rule_id,
        "ruleIndex": ids.index(decision.rule_id),
        # "open": looked at, and not enough is known; the standard then wants the level "none"
        "kind": "fail" if fails else "open",
        "level": ("error" if decision.word == "fails" else "warning") if fails else "none",
        "message": {"text": text},
        "partialFingerprints": {FINGERPRINT: _fingerprint(decision, twins)},
        "properties": {
            name: getattr(decision, name) for name in ("value", "low", "high", "n", "limit", "bound", "needed")
        },
    }
    if ruling.policy:
        place = {"artifactLocation": {"uri": _uri(ruling.policy)}, "region": {"startLine": decision.line}}
        found["locations"] = [{"physicalLocation": place}]
    return found


def _fingerprint(decision: RuleCheck, twins: Counter[str]) -> str:
    """Name a result by what is checked, not by numbers, bounds or lines: tomorrow it has the same name."""
    what = digest_of([decision.rule_id, decision.bound, dict(decision.cell)])
    twins[what] += 1
    return what if twins[what] == 1 else f"{what}:{twins[what]}"


def _uri(path: str) -> str:
    """Write a path as a reference, below the folder where the gate runs if it lies there."""
    if is_url(path):
        return path
    full = Path(path).absolute()
    if full.is_relative_to(Path.cwd()):
        return quote(full.relative_to(Path.cwd()).as_posix())
    return full.as_uri()
