"""The files of a ruling, read by other people's libraries: JUnit, SARIF, JSON; and Markdown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from jsonschema import ValidationError
from junitparser import Error, Failure, JUnitXml, Skipped

from support.gates import audit, rows, shares
from support.published import OURS, check_ours, check_sarif
from underfire.core import UnderfireError
from underfire.gating import Ruling, ruling
from underfire.gating.outputs import as_json, format_of, write_all
from underfire.gating.policy_file import read_policy
from underfire.gating.sarif import sarif
from underfire.gating.schemas import schemas, text

POLICY = """\
rules:
  - measure: forged
    where: {interpreter: cam}
    max: 0.2
  - measure: forged
    where: {interpreter: grad}
    max: 0.2
  - {measure: success, min: 0.5}
  - {measure: alarm, min: 0.5, where: {interpreter: cam}}
"""


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ruling:
    """One rule fails, one is undecided, one holds on both cells, one has nothing to go by; a unit is missing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ci").mkdir()
    (tmp_path / "ci" / "our gate.yaml").write_text(POLICY, encoding="utf-8")
    out = audit(tmp_path / "out", [*rows(shares(32, 32)), *rows(shares(2, 20), judge="grad")], units=2)
    return ruling(out, read_policy("ci/our gate.yaml"))


def test_the_words_of_the_fixture(found: Ruling) -> None:
    assert [d.word for d in found.decisions] == ["fails", "undecided", "holds", "holds", "undecided"]
    assert found.status == 1


def test_junit_is_read_by_junitparser(found: Ruling, tmp_path: Path) -> None:
    write_all(found, [str(tmp_path / "x.junit.xml")])
    (suite,) = JUnitXml.fromfile(str(tmp_path / "x.junit.xml"))
    assert (suite.tests, suite.failures, suite.errors, suite.skipped) == (6, 1, 3, 0)
    cases = {(case.classname, case.name): case.result for case in suite}
    assert len(cases) == 6  # names are unique, or servers merge cases
    (failure,) = cases["underfire.gate.forged max 0.2", "ADV² on CAM (toynet, paper, ε 8) max"]
    assert isinstance(failure, Failure)
    for part in ("100 %", "at most 20 %", "32 photos", "a/0&.png", "images/000000-0123456789abcdef/0.adv.png"):
        assert part in failure.text, failure.text
    assert "100 %" in failure.message
    (undecided,) = cases["underfire.gate.forged max 0.2", "ADV² on GRAD (toynet, paper, ε 8) max"]
    assert isinstance(undecided, Error)
    (gap,) = cases["underfire.gate", "the audit is complete"]
    assert isinstance(gap, Error)
    assert "1 of 2 units" in gap.text


@pytest.mark.parametrize(("undecided", "kind"), [("pass", Skipped), ("fail", Failure)])
def test_undecided_cases_are_skipped_or_fail_on_demand(found: Ruling, undecided: Any, kind: type) -> None:
    suite = ElementTree.fromstring(format_of("x.xml")(replace(found, undecided=undecided)))
    cases = next(iter(JUnitXml.fromelem(suite)))
    grad = next(case for case in cases if "GRAD" in case.name and "forged" in case.classname)
    assert isinstance(grad.result[0], kind)


def test_junit_holds_what_no_xml_can_hold(found: Ruling) -> None:
    odd = replace(found.decisions[0], says="a\x00b\ud800 & <c>")
    ElementTree.fromstring(format_of("x.xml")(replace(found, decisions=(odd,))))


def test_sarif_is_valid_and_points_at_the_rule(found: Ruling) -> None:
    content = json.loads(sarif(found))
    check_sarif(content)
    (run,) = content["runs"]
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == [
        *("UF-FORGED-CAM", "UF-FORGED-GRAD", "UF-SUCCESS-CAM", "UF-SUCCESS-GRAD", "UF-ALARM-CAM")
    ]
    results = run["results"]
    assert [(r["ruleId"], r["kind"], r["level"]) for r in results] == [
        ("UF-FORGED-CAM", "fail", "error"),
        ("UF-FORGED-GRAD", "open", "none"),
        ("UF-ALARM-CAM", "open", "none"),
    ]
    places = [r["locations"][0]["physicalLocation"] for r in results]
    assert [p["region"]["startLine"] for p in places] == [2, 5, 9]
    assert places[0]["artifactLocation"]["uri"] == "ci/our%20gate.yaml"
    assert "a/0&.png" in results[0]["message"]["text"]
    assert not run["invocations"][0]["executionSuccessful"]
    assert all(r["ruleIndex"] == i for r, i in zip(results, (0, 1, 4), strict=True))


def test_a_sarif_that_is_wrong_is_seen(found: Ruling) -> None:
    content = json.loads(sarif(found))
    content["runs"][0]["results"][0]["level"] = "bad"
    with pytest.raises(ValidationError):
        check_sarif(content)


def test_fingerprints_stay_when_numbers_lines_and_bounds_move_and_differ_from_each_other(found: Ruling) -> None:
    def prints(ruled: Ruling) -> list[str]:
        return [r["partialFingerprints"]["underfire/v1"] for r in json.loads(sarif(ruled))["runs"][0]["results"]]

    moved = tuple(replace(d, line=d.line + 7, limit=0.3, value=0.5, rule="other") for d in found.decisions)
    assert prints(replace(found, decisions=moved)) == prints(found)
    assert len(set(prints(found))) == 3
    twice = replace(found, decisions=(found.decisions[0], found.decisions[0]))
    assert len(set(prints(twice))) == 2


def test_sarif_without_a_policy_file_has_no_place(found: Ruling) -> None:
    content = json.loads(sarif(replace(found, policy="")))
    check_sarif(content)
    assert "locations" not in content["runs"][0]["results"][0]


def test_json_is_valid_and_schemas_are_published(found: Ruling) -> None:
    content = json.loads(as_json(found))
    check_ours("gate", content)
    assert (content["verdict"], content["status"], len(content["decisions"])) == ("fail", 1, 5)
    assert content["decisions"][0]["proofs"][0]["photo"] == "a/0&.png"
    del content["decisions"][0]["word"]
    with pytest.raises(ValidationError):
        check_ours("gate", content)
    check_ours("policy", yaml.safe_load(POLICY))
    for name, schema in schemas().items():
        written = (OURS / f"{name}.schema.json").read_text(encoding="utf-8")
        assert written == text(schema), "python -m underfire.gating.schemas docs/schemas"


def test_markdown_has_a_row_a_check_and_names_the_photos(found: Ruling) -> None:
    said = format_of("x.md")(found).decode()
    table = [line for line in said.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(found.decisions)
    assert "fails" in table[2]
    assert all(row.replace("\\|", "").count("|") == 8 for row in table)
    assert "a/0&.png" in said
    assert "1 of 2 units" in said


def test_markdown_shows_names_as_they_are(found: Ruling) -> None:
    odd = replace(found.decisions[0], rule="a|b <script>\n# *c*")
    said = format_of("x.md")(replace(found, decisions=(odd,))).decode()
    assert "a\\|b \\<script\\> \\# \\*c\\*" in said


def test_the_badge_is_a_picture_that_says_the_answer(found: Ruling) -> None:
    drawn = ElementTree.fromstring(format_of("x.svg")(found))
    assert [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")] == ["explanations", "fail"]


def test_endings_choose_the_format_and_a_wrong_one_is_told(found: Ruling, tmp_path: Path) -> None:
    files = [str(tmp_path / f"x.{ending}") for ending in ("json", "junit.xml", "sarif", "sarif.json", "md")]
    write_all(found, files)
    assert (tmp_path / "x.sarif").read_bytes() == (tmp_path / "x.sarif.json").read_bytes() == sarif(found)
    with pytest.raises(UnderfireError, match=r"-o x\.txt.*\.sarif"):
        write_all(found, ["x.txt"])
    with pytest.raises(UnderfireError, match="gone"):
        write_all(found, [str(tmp_path / "gone" / "x.md")])
