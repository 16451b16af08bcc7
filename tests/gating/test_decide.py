"""Rules are decided on the interval; what is missing is never a pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.gates import audit, rows, shares
from underfire.core import MismatchError, UnderfireError
from underfire.gating import GateFailedError, Ruling, gate, ruling
from underfire.gating.decide import matching
from underfire.gating.measures import MeasuredCell
from underfire.gating.policy import Rule, Where
from underfire.gating.policy_file import read_policy


def decide(out: Path, *rules: dict[str, Any], baseline: Path | None = None, **more: Any) -> Ruling:
    undecided = more.pop("undecided", None)
    return ruling(out, read_policy({"rules": list(rules), **more}), baseline, undecided)


@pytest.mark.parametrize(
    ("hits", "n", "rule", "word", "status"),
    [
        (0, 32, {"max": 0.2}, "holds", 0),
        (0, 6, {"max": 0.2}, "undecided", 3),  # 0 % is seen, and 46 % is possible
        (32, 32, {"max": 0.2}, "fails", 1),
        (7, 32, {"max": 0.2}, "undecided", 3),  # 22 % is seen, above the bound, and 10 % is possible
        (32, 32, {"min": 0.8}, "holds", 0),
        (0, 32, {"min": 0.8}, "fails", 1),
        (28, 32, {"min": 0.8}, "undecided", 3),
    ],
)
def test_a_rate_is_decided_on_its_interval(
    tmp_path: Path, hits: int, n: int, rule: dict[str, float], word: str, status: int
) -> None:
    found = decide(audit(tmp_path, rows(shares(hits, n))), {"measure": "forged", **rule})
    (decision,) = found.decisions
    assert (decision.word, found.status, decision.n) == (word, status, n)
    assert (decision.needed is not None) == (word == "undecided")


def test_an_undecided_rule_says_how_many_photos_would_decide(tmp_path: Path) -> None:
    (decision,) = decide(audit(tmp_path, rows(shares(0, 6))), {"measure": "forged", "max": 0.2}).decisions
    assert decision.needed == 17  # the first n with 1 - 0.025 ** (1 / n) <= 0.2
    assert "17 photos" in decision.says


def test_undecided_rules_pass_or_fail_on_demand_but_an_incomplete_audit_never_passes(tmp_path: Path) -> None:
    rule = {"measure": "forged", "max": 0.2}
    out = audit(tmp_path / "a", rows(shares(0, 6)))
    assert decide(out, rule, undecided="pass").status == 0
    assert decide(out, rule, undecided="fail").status == 1
    half = audit(tmp_path / "b", rows(shares(0, 32)), units=2)
    for undecided in (None, "pass"):
        found = decide(half, rule, undecided=undecided)
        assert (found.verdict, found.status) == ("incomplete", 3)
        assert "1 of 2 units" in found.gaps[0]


def test_a_rule_that_fails_fails_an_audit_that_is_half_done_too(tmp_path: Path) -> None:
    assert decide(audit(tmp_path, rows(shares(32, 32)), units=2), {"measure": "forged", "max": 0.2}).status == 1


def test_failed_units_and_an_unfinished_scale_are_gaps(tmp_path: Path) -> None:
    found = decide(audit(tmp_path / "a", rows(shares(0, 32)), failed=1, units=2), {"measure": "forged", "max": 0.2})
    assert (found.status, "failed" in found.gaps[0]) == (3, True)
    bare = decide(audit(tmp_path / "b", rows(shares(0, 32)), scale=None), {"measure": "forged", "max": 0.2})
    assert (bare.decisions[0].word, bare.decisions[0].n, bare.status) == ("undecided", 0, 3)
    assert "no verdict" in bare.decisions[0].says
    measured = decide(tmp_path / "b", {"measure": "success", "min": 0.8})
    assert (measured.decisions[0].word, measured.status) == ("holds", 3)


def test_photos_without_a_result_are_a_gap_unless_the_policy_accepts_them(tmp_path: Path) -> None:
    out = audit(tmp_path, rows([*shares(0, 32), None, None]))
    rule = {"measure": "forged", "max": 0.2}
    found = decide(out, rule)
    assert (found.verdict, found.status, found.decisions[0].n) == ("incomplete", 3, 32)
    assert "2 photos without a result" in found.gaps[0]
    assert "a/32&.png" in found.gaps[0]
    assert decide(out, rule, errors=2).status == 0
    assert decide(out, rule, errors=1).status == 3


def test_errors_of_cells_that_no_rule_is_about_do_not_count(tmp_path: Path) -> None:
    out = audit(tmp_path, [*rows(shares(0, 32)), *rows([None] * 3, judge="grad")])
    assert decide(out, {"measure": "forged", "max": 0.2, "where": {"interpreter": "cam"}}).status == 0


def test_a_measure_that_was_not_taken_is_undecided_never_a_pass(tmp_path: Path) -> None:
    found = decide(audit(tmp_path, rows(shares(0, 32))), {"measure": "alarm", "min": 0.9})
    assert (found.decisions[0].word, found.status) == ("undecided", 3)
    assert "no defense" in found.decisions[0].says


def test_a_mean_is_decided_on_its_interval_and_needs_enough_photos(tmp_path: Path) -> None:
    out = audit(tmp_path / "a", rows(shares(0, 30)))  # IoU about 0.21
    assert decide(out, {"measure": "map_iou", "max": 0.4}).decisions[0].word == "holds"
    assert decide(out, {"measure": "map_iou", "min": 0.4}).decisions[0].word == "fails"
    few = decide(audit(tmp_path / "b", rows(shares(0, 6))), {"measure": "map_iou", "max": 0.4}).decisions[0]
    assert (few.word, few.low, few.needed) == ("undecided", None, 12)
    assert "needs 12 photos" in few.says


def test_rules_select_cells_by_column_and_a_list_means_any(tmp_path: Path) -> None:
    out = audit(tmp_path, [*rows(shares(0, 32)), *rows(shares(32, 32), judge="grad"), *rows(shares(9, 9), "pgd")])
    both = decide(out, {"measure": "forged", "max": 0.2, "where": {"attack": "adv2"}})
    assert [(d.cell["interpreter"], d.word) for d in both.decisions] == [("cam", "holds"), ("grad", "fails")]
    one = decide(out, {"measure": "forged", "max": 0.2, "where": {"attack": "adv2", "interpreter": "cam", "eps": 8}})
    assert len(one.decisions) == 1
    many = decide(out, {"measure": "forged", "max": 0.2, "where": {"attack": ["adv2", "pgd"]}})
    assert len(many.decisions) == 3
    assert [d.rule_id for d in both.decisions] == ["UF-FORGED-CAM", "UF-FORGED-GRAD"]


def test_at_is_ignored_where_records_do_not_say_it() -> None:
    rule = Rule(measure="forged", max=0.2, where=Where(at="front"))
    old = MeasuredCell({"attack": "adv2"}, [])
    assert matching(rule, [old], "the rule") == [old]
    told = [MeasuredCell({"attack": "adv2", "at": at}, []) for at in ("front", "back")]
    assert matching(rule, told, "the rule") == told[:1]


@pytest.mark.parametrize(
    ("where", "parts"),
    [
        ({"attack": "adv3"}, ["matches nothing", "'adv3'", "'adv2'"]),
        ({"interpreter": "cma"}, ["'cma'", "'cam'"]),
        ({"eps": 4}, ["'4'", "8"]),
        ({"attack": "pgd", "interpreter": "grad"}, ["no cell", "attack pgd", "interpreter grad"]),
    ],
)
def test_a_rule_that_matches_nothing_is_a_mistake(tmp_path: Path, where: dict[str, Any], parts: list[str]) -> None:
    out = audit(tmp_path, [*rows(shares(0, 32)), *rows(shares(0, 9), judge="grad"), *rows(shares(0, 9), "pgd")])
    with pytest.raises(UnderfireError) as told:
        decide(out, {"measure": "forged", "max": 0.2, "where": where})
    assert all(part in str(told.value) for part in parts), told.value


def test_the_proofs_are_the_worst_photos_the_quietest_first(tmp_path: Path) -> None:
    out = audit(tmp_path, rows(shares(9, 12)))
    (decision,) = decide(out, {"measure": "forged", "max": 0.2}).decisions
    assert [proof.photo for proof in decision.proofs] == [f"a/{i}&.png" for i in range(5)]
    assert decision.proofs[0].adversarial == "images/000000-0123456789abcdef/0.adv.png"
    (least,) = decide(out, {"measure": "forged", "min": 0.99}).decisions
    assert [proof.photo for proof in least.proofs] == [f"a/{i}&.png" for i in (9, 10, 11)]
    (held,) = decide(out, {"measure": "success", "min": 0.5}).decisions
    assert held.proofs == ()


def test_a_picture_without_a_map_counts_as_not_forged(tmp_path: Path) -> None:
    lost = [replace(one, error="no map", map_l1=None, map_iou=None) for one in rows(shares(0, 32))[30:]]
    out = audit(tmp_path, [*rows(shares(30, 30)), *lost])
    (decision,) = decide(out, {"measure": "forged", "min": 0.99}).decisions
    assert (decision.n, decision.value) == (32, 30 / 32)
    assert [proof.photo for proof in decision.proofs] == ["a/30&.png", "a/31&.png"]
    assert decide(out, {"measure": "success", "min": 0.5}).status == 0
    assert decide(out, {"measure": "map_iou", "min": 0.5}).decisions[0].n == 30


def test_a_verdict_that_cannot_tell_is_none() -> None:
    row = {**rows([True])[0].__dict__, "untouched": True, "forged": True}
    values = [MeasuredCell({}, [{**row, "power": power}]).values("forged") for power in (None, 0.9, 0.7)]
    assert [list(value.values()) for value in values] == [[1.0], [1.0], []]


def test_several_rows_of_a_photo_are_one_photo(tmp_path: Path) -> None:
    """The same file under several names is one photo: 40 rows of 8 photos are 8 values."""
    many = [replace(one, image=f"{i}/{one.image}") for i in range(5) for one in rows(shares(0, 8))]
    (decision,) = decide(audit(tmp_path, many), {"measure": "forged", "max": 0.3}).decisions
    assert (decision.n, decision.word) == (8, "undecided")


# --- against a baseline


def test_an_increase_is_paired_by_photo(tmp_path: Path) -> None:
    before = audit(tmp_path / "before", rows(shares(10, 60)))
    rule = {"measure": "forged", "increase": 0.15}
    same = decide(audit(tmp_path / "same", rows(shares(10, 60))), rule, baseline=before)
    assert same.decisions[0].word == "holds"  # two rates of 10 of 60 that are not paired differ by up to 15 %
    worse = decide(audit(tmp_path / "worse", rows(shares(50, 60))), rule, baseline=before).decisions[0]
    assert worse.word == "fails"
    assert worse.value == pytest.approx(40 / 60)
    assert worse.proofs[0].photo == "a/10&.png"  # not forged before
    few = decide(audit(tmp_path / "few", rows(shares(8, 8))), rule, baseline=before).decisions[0]
    assert (few.word, few.n, few.needed is not None) == ("undecided", 8, True)


def test_a_decrease_and_a_mean_are_paired_too(tmp_path: Path) -> None:
    before = audit(tmp_path / "before", rows(shares(60, 60)))
    now = audit(tmp_path / "now", rows(shares(0, 60)))
    for measure in ("forged", "map_iou"):
        found = decide(now, {"measure": measure, "decrease": 0.1}, baseline=before).decisions[0]
        assert (found.word, found.bound) == ("fails", "decrease")
        assert found.value is not None
        assert found.value < -0.5
        assert decide(before, {"measure": measure, "decrease": 0.2}, baseline=before).decisions[0].word == "holds"


def test_classifiers_of_other_names_are_compared(tmp_path: Path) -> None:
    before = audit(tmp_path / "before", rows(shares(0, 60), classifier="old", judge_classifier="old"))
    now = audit(tmp_path / "now", rows(shares(0, 60)))
    assert decide(now, {"measure": "forged", "increase": 0.15}, baseline=before).status == 0


def test_a_baseline_that_is_missing_idle_or_of_other_things_is_a_mistake(tmp_path: Path) -> None:
    now, rule = audit(tmp_path / "now", rows(shares(0, 20))), {"measure": "forged", "increase": 0.15}
    with pytest.raises(UnderfireError, match="--baseline"):
        decide(now, rule)
    with pytest.raises(UnderfireError, match="no rule compares"):
        decide(now, {"measure": "forged", "max": 0.2}, baseline=now)
    strangers = [replace(one, image_sha256="f" + one.image_sha256[1:]) for one in rows(shares(0, 20))]
    with pytest.raises(MismatchError, match="none of this audit's photos"):
        decide(now, rule, baseline=audit(tmp_path / "others", strangers))
    with pytest.raises(MismatchError, match="no such attack"):
        decide(now, rule, baseline=audit(tmp_path / "eps", rows(shares(0, 20), eps=4)))
    with pytest.raises(UnderfireError, match="gone"):
        decide(now, rule, baseline=tmp_path / "gone")


def test_a_baseline_that_is_half_done_is_a_gap(tmp_path: Path) -> None:
    now = audit(tmp_path / "now", rows(shares(0, 60)))
    before = audit(tmp_path / "before", rows(shares(0, 60)), units=2)
    found = decide(now, {"measure": "forged", "increase": 0.15}, baseline=before)
    assert (found.decisions[0].word, found.status) == ("holds", 3)


# --- in pytest


def test_the_function_returns_what_passes_and_fails_in_words(tmp_path: Path) -> None:
    import underfire

    assert underfire.gate is gate
    policy = {"rules": [{"measure": "forged", "max": 0.2}]}
    assert gate(str(audit(tmp_path / "good", rows(shares(0, 32)))), policy).verdict == "pass"
    bad = audit(tmp_path / "bad", rows(shares(30, 32)))
    with pytest.raises(GateFailedError) as told:
        gate(bad, policy)
    said = str(told.value)
    for part in ("FAIL", "forged max 0.2", "94 %", "at most 20 %", "32 photos", "a/0&.png", "ADV² on CAM"):
        assert part in said, said
    assert told.value.ruling.status == 1
    with pytest.raises(GateFailedError, match="UNDECIDED"):
        gate(audit(tmp_path / "few", rows(shares(0, 6))), policy)
    assert gate(tmp_path / "few", policy, undecided="pass").number("undecided") == 1


def test_no_records_no_audit_no_answer(tmp_path: Path) -> None:
    with pytest.raises(UnderfireError, match="no folder of an underfire audit"):
        gate(tmp_path, {"rules": [{"measure": "forged", "max": 0.2}]})
    with pytest.raises(UnderfireError, match="no finished records"):
        gate(audit(tmp_path / "empty", []), {"rules": [{"measure": "forged", "max": 0.2}]})
