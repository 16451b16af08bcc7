"""The ruling as JUnit XML, which Jenkins, GitLab and others show: one case for each rule and cell."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from underfire.gating.markdown import proof_lines
from underfire.gating.ruling import RuleCheck, Ruling

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML can hold; the name of a file may have them."""


def junit(ruling: Ruling) -> bytes:
    """Write a ruling as JUnit XML.

    What fails is a *failure*; what is undecided is an *error*, or *skipped* where it may pass; an audit that is not
    complete is a case of its own with an *error*.
    """
    suite = ElementTree.Element("testsuite", name="underfire gate")
    for decision in ruling.decisions:
        case = _case(suite, f"underfire.gate.{decision.rule}", f"{decision.place} {decision.bound}")
        if decision.word != "holds":
            _add(case, _kind(decision, ruling), decision.says, decision.word, "\n".join(_text(decision)))
    case = _case(suite, "underfire.gate", "the audit is complete")
    if ruling.gaps:
        _add(case, "error", ruling.gaps[0], "incomplete", "\n".join(ruling.gaps))
    counts = {kind: str(len(suite.findall(f"testcase/{kind}"))) for kind in ("failure", "error", "skipped")}
    totals = {"tests": str(len(suite)), "failures": counts["failure"], "errors": counts["error"]}
    suite.attrib.update({**totals, "skipped": counts["skipped"], "time": "0"})
    root = ElementTree.Element("testsuites", {"name": "underfire gate", **totals})
    root.append(suite)
    ElementTree.indent(root)
    found: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return found


def _kind(decision: RuleCheck, ruling: Ruling) -> str:
    if decision.word == "fails" or ruling.undecided == "fail":
        return "failure"
    return "skipped" if ruling.undecided == "pass" else "error"


def _case(suite: ElementTree.Element, group: str, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=_clean(group), name=_clean(name), time="0")


def _add(case: ElementTree.Element, kind: str, message: str, word: str, text: str) -> None:
    found = ElementTree.SubElement(case, kind, type=word, message=_clean(message))
    found.text = _clean(text)


def _text(decision: RuleCheck) -> list[str]:
    worst = ["The photos that prove it, the worst first:", *proof_lines(decision)] if decision.proofs else []
    return [decision.says, *worst]


def _clean(text: str) -> str:
    return _NOT_XML.sub("\ufffd", text)
