"""The verbs gate, compare and card as a user meets them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from support.e2e import TOY, Ran, photos, underfire
from support.gates import audit, rows, shares

PASSES = "rules:\n- {measure: success, max: 0.9, where: {attack: pgd}}\n"
FAILS = "rules:\n- {measure: success, min: 0.9, where: {attack: pgd}}\n"


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plan of 14 photos on the toy network, with its audit beside it: half a second of work, done once."""
    folder = tmp_path_factory.mktemp("gate")
    photos(folder / "in", 14)
    assert underfire("run", "--images", folder / "in", *TOY, "--out", folder / "audit", "--samples", "0").code == 0
    return folder / "audit" / "plan.yaml"


def _policy(folder: Path, text: str) -> Path:
    (folder / "gate.yaml").write_text(text, encoding="utf-8")
    return folder / "gate.yaml"


def _mistake(ran: Ran) -> str:
    assert ran.code == 2, ran
    assert "Traceback" not in ran.out + ran.err
    assert len(ran.err.strip().splitlines()) == 1
    return ran.err


def test_an_audit_passes_or_fails_by_its_policy(plan: Path, tmp_path: Path) -> None:
    good = underfire("gate", plan.parent, "--policy", _policy(tmp_path, PASSES))
    assert good.code == 0
    assert "PASS" in good.out
    bad = underfire("gate", plan.parent, "--policy", _policy(tmp_path, FAILS))
    assert bad.code == 1
    for part in ("fails", "success min 0.9", "14 photos", "at least 90 %", ".png", "FAIL: of 1 check,"):
        assert part in bad.out, bad.out


def test_a_plan_is_run_first_as_far_as_it_is_not_done(plan: Path, tmp_path: Path) -> None:
    settings = yaml.safe_load(plan.read_text(encoding="utf-8"))
    own = tmp_path / "mine.yaml"
    own.write_text(yaml.safe_dump({k: v for k, v in settings.items() if k != "resolved"}), encoding="utf-8")
    command = ("gate", own, "--out", tmp_path / "out", "--policy", _policy(tmp_path, PASSES), "-o", tmp_path / "x.json")
    assert underfire(*command).code == 0
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))["verdict"] == "pass"
    assert (tmp_path / "out" / "report.html").is_file()
    parts = {part: part.stat().st_mtime_ns for part in (tmp_path / "out" / "records").glob("*.parquet")}
    next(iter(parts)).unlink()  # as if it had been killed
    gone = underfire("gate", tmp_path / "out", "--policy", tmp_path / "gate.yaml")
    assert gone.code in (2, 3)
    assert underfire(*command).code == 0
    assert set((tmp_path / "out" / "records").glob("*.parquet")) == set(parts)


def test_the_plan_of_an_audit_goes_on_in_its_folder(plan: Path, tmp_path: Path) -> None:
    ran = underfire("gate", plan, "--policy", _policy(tmp_path, PASSES))
    assert ran.code == 0
    assert str(plan.parent / "report.html") in ran.out.replace("\n", "")


def test_a_half_done_audit_is_3_and_undecided_rules_are_3_or_as_you_say(tmp_path: Path) -> None:
    policy = _policy(tmp_path, "rules:\n- {measure: forged, max: 0.2}\n")
    half = underfire("gate", audit(tmp_path / "half", rows(shares(0, 32)), units=3), "--policy", policy)
    assert half.code == 3
    assert "1 of 3 units" in half.out
    few = audit(tmp_path / "few", rows(shares(0, 6)))
    codes = [underfire("gate", few, "--policy", policy, *more).code for more in ([], ["--undecided", "pass"])]
    assert codes == [3, 0]
    assert underfire("gate", few, "--policy", policy, "--undecided", "fail").code == 1


def test_init_writes_a_policy_that_the_gate_reads_and_overwrites_nothing(plan: Path, tmp_path: Path) -> None:
    made = underfire("gate", plan.parent, "--init", "--policy", tmp_path / "new.yaml")
    assert made.code == 0
    assert underfire("gate", plan.parent, "--policy", tmp_path / "new.yaml").code in (0, 1, 3)
    assert "new.yaml" in _mistake(underfire("gate", plan.parent, "--init", "--policy", tmp_path / "new.yaml"))


def test_compare_and_card(plan: Path, tmp_path: Path) -> None:
    shown = underfire("compare", plan.parent, plan.parent, "-o", tmp_path / "c.html", "-o", tmp_path / "c.json")
    assert shown.code == 0
    assert "McNemar" in shown.out
    assert "map_iou" in shown.out
    assert (tmp_path / "c.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))["changes"]
    assert underfire("card", plan.parent).out.startswith("---\nmodel-index:")
    assert underfire("card", plan.parent, "--model", "m", "-o", tmp_path / "card.md").code == 0
    assert "name: m" in (tmp_path / "card.md").read_text(encoding="utf-8")


def test_mistakes_are_a_sentence_and_2(plan: Path, tmp_path: Path) -> None:
    good, out = _policy(tmp_path, PASSES), plan.parent
    for words, part in (
        (("gate", out, "--policy", tmp_path / "no.yaml"), "no.yaml"),
        (("gate", tmp_path / "gone", "--policy", good), "gone"),
        (("gate", tmp_path / "gone.yaml", "--policy", good), "gone.yaml"),
        (("gate", out, "--policy", good, "-o", "x.txt"), "x.txt"),
        (("gate", out, "--policy", good, "--baseline", out), "no rule compares"),
        (("gate", out, "--policy", good, "--out", tmp_path), "--out"),
        (("gate", out, "--policy", good, "-o", tmp_path / "no" / "x.md"), "x.md"),
        (("compare", out, tmp_path / "gone"), "gone"),
        (("compare", out, out, "-o", "x.pdf"), "x.pdf"),
        (("card", tmp_path / "gone"), "gone"),
    ):
        assert part in _mistake(underfire(*words)), words


def test_an_output_that_cannot_be_written_keeps_no_other_back(plan: Path, tmp_path: Path) -> None:
    (tmp_path / "folder.md").mkdir()
    outputs = ("-o", tmp_path / "folder.md", "-o", tmp_path / "b.md")
    assert "folder.md" in _mistake(underfire("gate", plan.parent, "--policy", _policy(tmp_path, PASSES), *outputs))
    assert (tmp_path / "b.md").is_file()


@pytest.mark.parametrize("verb", ["gate", "compare", "card"])
def test_help_shows_examples(verb: str) -> None:
    said = underfire(verb, "--help")
    assert said.code == 0
    assert f"underfire {verb} " in said.out
