"""The numbers, verdicts and expectations of a study, by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.study import audit, noted, put, row, write_by_hand
from underfire.metrics.estimate import mean
from underfire.report.text import number
from underfire.store import Store
from underfire.study import matrix, numbers, results, verdicts
from underfire.study.budget import budget
from underfire.study.expectations import expectations, published_success
from underfire.study.page import render
from underfire.study.verdicts import findings

WORDS: dict[str, Any] = {"success": True, "confidence": 0.9, "passes": 3.0, "flow_mean_px": None, "error": None}
"""Columns of a row that a cell is made of."""


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_by_hand(tmp_path_factory.mktemp("by-hand") / "study")


def test_training_against_the_attack_is_measured_on_shared_photos(tmp_path: Path) -> None:
    put(tmp_path / "m", "records", [row(i, "adv2", "rts", "rts", map_l1=[0.01, 0.03][i % 2]) for i in range(12)])
    put(tmp_path / "t", "records", [row(i, "adv2", "rts-a", "rts-a", map_l1=0.1, success=i % 2 > 0) for i in range(10)])
    study = results.load(noted(tmp_path, [audit("main", "m", ["rts"]), audit("trained", "t", ["rts-a"])]))
    (subject,) = study.subjects
    assert subject.interpreters == ("rts",)  # the trained one has no cells beside it
    found = numbers.robustness(subject)
    assert found is not None
    assert (found.l1.value, found.plain_l1.value, found.success.value) == pytest.approx((0.1, 0.02, 0.5))
    verdict = findings(study)[2]
    assert verdict.verdict == "holds"  # five times as far
    assert "RTSᴬ’s map by L1 0.10" in verdict.number
    assert "(10 photos; against RTSᴬ it reaches the target class on 50\u00a0%)" in verdict.number


def test_a_judgement_that_an_earlier_version_made_too_counts_once(tmp_path: Path) -> None:
    put(tmp_path / "a", "records", [row(0, "adv2", "cam", "cam", map_l1=0.1)])
    again = [row(0, "adv2", "cam", "grad", map_l1=0.2), row(1, "adv2", "cam", "grad", map_l1=0.3)]
    put(tmp_path / "a", "transfer", again)
    with Store(tmp_path / "a").open() as store:
        store.put("transfer", "000001-transfer-0123456789abcdef", again[:1], {}, {})
    study = results.load(noted(tmp_path, [audit("main", "a", ["cam"])]))
    assert [r["map_l1"] for r in study.subjects[0].audits[0].transfer] == [0.2, 0.3]


def test_the_transfer_matrix_by_hand(by_hand: Path) -> None:
    (subject,) = results.load(by_hand).subjects
    cells = matrix.matrix(subject)
    assert {key: c.n for key, c in cells.items()} == dict.fromkeys(cells, 2)
    assert {key: pytest.approx(c.relative) for key, c in cells.items()} == {
        ("cam", "cam"): 0.03 / 0.3,  # photos 0 and 1 alone, since grad has no more
        ("grad", "cam"): 0.3 / 0.3,
        ("cam", "grad"): 0.09 / 0.1,
        ("grad", "grad"): 0.04 / 0.1,
    }
    assert cells["grad", "grad"].iou == pytest.approx(0.8)
    assert cells["grad", "cam"].l1 == pytest.approx(0.3)


def test_effectiveness_and_distances_by_hand(by_hand: Path) -> None:
    (subject,) = results.load(by_hand).subjects
    cells = numbers.effectiveness(subject)
    assert cells["pgd", None].success.n == 3
    assert cells["adv2", "cam"].success.value == pytest.approx(2 / 3)
    assert cells["adv2", "grad"].success.value == 1
    assert cells["adv2-stadv", "cam"].success.value is None
    far, near = (numbers.distance(subject, attack, "cam") for attack in ("pgd", "adv2"))
    assert (far.l1.value, near.l1.value) == pytest.approx((0.5, 0.56 / 3))
    assert numbers.ratio(far.l1, near.l1) == pytest.approx(1.5 / 0.56)


def test_what_travels_between_classifiers_by_hand(tmp_path: Path) -> None:
    made = [row(i, "adv2", "cam", "cam", map_l1=0.01, success=i < 2) for i in range(3)]
    made += [row(i, "pgd", None, "cam", map_l1=0.3) for i in range(3)]
    other: dict[str, Any] = {"judge_classifier": "web"}
    seen = [row(i, "adv2", "cam", "cam", map_l1=[0.1, 0.3][i], map_iou=0.6, success=i == 0, **other) for i in range(2)]
    seen += [row(i, "pgd", None, "cam", map_l1=0.4, success=i > 0, **other) for i in range(2)]
    moved = [replace(seen[0], image_sha256="f" * 64, source_class=2), replace(seen[3], source_class=2)]
    seen[3:] = moved  # the judge takes the clean photo for the attacker's class already
    put(tmp_path / "net", "records", made)
    put(tmp_path / "net", "transfer", seen)
    put(tmp_path / "web", "records", [replace(one, classifier="web", judge_classifier="web") for one in made])
    audits = [audit("main", "net", ["cam"]), audit("main", "web", ["cam"], subject=1)]
    net, web = results.load(noted(tmp_path, audits, ("ImageNet", "ImageNet"))).subjects
    (line,) = matrix.across(net, web)
    assert (line.made, line.judge, line.interpreter) == (net, web, "cam")
    assert (line.adv2.value, line.pgd.value, line.at_home.value) == (0.5, 0, 1)  # at home on the same two photos
    assert line.exposure.relative == pytest.approx(0.2 / 0.4)
    assert line.exposure.iou == pytest.approx(0.6)
    assert line.exposure.n == 2
    assert matrix.across(web, net) == []


def test_the_curve_over_thresholds_by_hand(tmp_path: Path) -> None:
    curves = [[0.2, None] + [0.5] * 7, [0.4, None] + [0.7] * 7]
    put(
        tmp_path / "a", "records", [row(i, "adv2", "cam", "cam", map_l1=0.1, iou_curve=c) for i, c in enumerate(curves)]
    )
    (subject,) = results.load(noted(tmp_path, [audit("main", "a", ["cam"])])).subjects
    curve = numbers.distance(subject, "adv2", "cam").curve
    assert curve[1] is None
    assert (curve[0], curve[8]) == pytest.approx((0.3, 0.6))
    assert numbers.distance(subject, "pgd", "cam").curve == ()


def test_there_is_no_gap_where_the_wanted_maps_look_like_the_benign_ones(tmp_path: Path) -> None:
    for way, known in ((0.003, False), (0.04, False), (0.06, True)):  # the scale is 0.05
        rows = [row(i, "adv2", "cam", "cam", map_l1=0.2, target_l1=way) for i in range(2)]
        put(tmp_path / f"{way}", "records", rows)
        study = results.load(noted(tmp_path, [audit("random", f"{way}", ["cam"])]))
        gap = numbers.random_class(study.subjects[0], "cam")
        assert (gap.gap.value is not None, gap.success.n) == (known, 2)
        assert ("the maps of both classes are alike" in render(study, samples=0)) != known


def test_the_gap_by_hand(by_hand: Path) -> None:
    gap = numbers.random_class(results.load(by_hand).subjects[0], "cam")
    assert gap.gap.value == pytest.approx(1 - 0.5 / 0.6)  # the third photo's wanted map was there, and is lost
    assert gap.gap.n == 3
    assert gap.gap.value is not None
    assert gap.gap.low is not None
    residuals = np.array([0.1, 0.1, 0.3]) - 0.5 / 0.6 * np.array([0.4, 0.2, 0.0])
    by_text = np.sqrt((residuals**2).sum() / 2 / 3) / 0.2  # of a ratio, and Student's factor for three
    assert gap.gap.value - gap.gap.low == pytest.approx(4.302653 * by_text, rel=1e-5)
    assert gap.success.value == pytest.approx(2 / 3)
    assert gap.pgd_l1.value == pytest.approx(0.6)
    assert gap.benign_l1.value == pytest.approx(0.2)
    assert gap.pgd_gap.value == pytest.approx(1 - 0.6 / 0.2), "PGD's, beside it"
    assert numbers.random_class(results.load(by_hand).subjects[0], "grad").gap.value is None


def test_the_smallest_budget_by_hand(by_hand: Path) -> None:
    found = budget(results.load(by_hand).subjects[0], "cam")
    assert found is not None
    assert [found.smallest[f"{i:064d}"] for i in range(3)] == [2, 1, None]
    assert [found.count(eps) for eps in (1, 2, 8, None)] == [1, 1, 0, 1]
    assert list(found.quartiles) == [1, 2, None]
    assert [(eps, within.value, within.n) for eps, within in found.curve] == [
        (1, 1 / 3, 3),
        (2, 2 / 3, 3),
        (8, 2 / 3, 3),
    ]
    assert {eps: c.forged.value for eps, (c, _) in found.cells.items()} == pytest.approx({1: 1 / 3, 2: 1 / 3, 8: 2 / 3})


def test_all_budgets_are_judged_by_what_judges_the_main_audit(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out / "a", "records", [row(i, "adv2", "cam", "cam", map_l1=0.04) for i in range(3)], scale=0.05)
    put(out / "b", "records", [row(i, "adv2", "cam", "cam", eps=1, map_l1=0.04) for i in range(3)], scale=0.01)
    study = results.load(noted(out, [audit("main", "a", ["cam"]), audit("budget", "b", ["cam"], 1)]))
    found = budget(study.subjects[0], "cam")
    assert found is not None
    assert {eps: c.forged.value for eps, (c, _) in found.cells.items()} == {1: 1.0, 8: 1.0}


def test_what_cannot_be_told_has_no_smallest_budget(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for name, eps in (("a", 8), ("b", 1)):
        put(out / name, "records", [row(i, "adv2", "cam", "cam", eps=eps, map_l1=0.0) for i in range(3)], scale=None)
    study = results.load(noted(out, [audit("main", "a", ["cam"]), audit("budget", "b", ["cam"], 1)]))
    found = budget(study.subjects[0], "cam")
    assert found is not None
    assert {c.in_place for c, _ in found.cells.values()} == {"not calibrated"}
    assert found.smallest == {} and found.n == 3
    page = render(study, 0)
    section = page.partition('<section id="budget"')[2].partition("</section>")[0]
    assert "not calibrated" in section and "A quarter of the photos" not in section and "<svg" not in section


def test_cells_without_power_or_yardstick_say_so() -> None:
    cells = [numbers.effectiveness_of([{**WORDS, "forged": f, "power": p}]) for f, p in ((True, 0.9), (True, 0.5))]
    assert [cell.in_place for cell in cells] == ["", "this explanation cannot tell"]
    assert numbers.effectiveness_of([{**WORDS, "forged": None, "power": None}]).in_place == "not calibrated"


def test_verdicts_follow_the_numbers(by_hand: Path) -> None:
    found = results.load(by_hand)
    verdicts = findings(found)
    assert [v.verdict for v in verdicts] == ["too few photos (n = 3)", "too few photos (n = 3)", "not tested here"]
    assert "1 of 2 cells" not in verdicts[1].number
    assert {c.met for c in expectations(found)} == {None}, "three photos decide nothing"
    page = render(found, 0)
    assert "First look." in page and "<h3>none resolved</h3>" in page
    assert 'class="tag yes"' not in page and "2 of 3" in page


def _security(tmp_path: Path, photos: int, hits: int, far: float = 0.2) -> tuple[str, list[bool | None]]:
    rows = [row(i, "pgd", None, "cam", map_l1=far + i % 7 / 100, map_iou=0.3) for i in range(photos)]
    rows += [
        row(i, "adv2", "cam", "cam", map_l1=0.02, confidence=0.99, map_iou=0.9, success=i < hits) for i in range(photos)
    ]
    out = tmp_path / f"{photos}-{hits}-{far}"
    put(out / "a", "records", rows)
    found = results.load(noted(out, [audit("main", "a", ["cam"])]))
    return findings(found)[0].verdict, [c.met for c in expectations(found)]


def test_verdicts_are_those_that_the_intervals_resolve(tmp_path: Path) -> None:
    assert _security(tmp_path, 80, 80) == ("holds", [True, True, True])
    assert _security(tmp_path, 80, 60) == ("does not hold", [False, True, True])
    verdict, met = _security(tmp_path, 24, 24)
    assert verdict.startswith("not resolved (n = 24, would take about 7"), "24 of 24 may be 86 %"
    assert met == [True, True, True]
    assert _security(tmp_path, 80, 80, far=0.001)[0] == "does not hold", "the map is not twice as near"
    assert _security(tmp_path, 9, 9)[0] == "too few photos (n = 9)"


def test_a_perfect_map_is_infinitely_nearer_and_counts(tmp_path: Path) -> None:
    rows = [row(i, "pgd", None, "cam", map_l1=0.3, map_iou=0.2) for i in range(75)]
    rows += [row(i, "adv2", "cam", "cam", map_l1=0.0, map_iou=1.0) for i in range(75)]
    put(tmp_path / "out" / "a", "records", rows)
    found = results.load(noted(tmp_path / "out", [audit("main", "a", ["cam"])]))
    (check,) = [c for c in expectations(found) if "nearer" in c.expected]
    assert check.met is True
    assert check.found == "∞ ×, IoU 1.0 against 0.20"
    assert verdicts.findings(found)[0].verdict == "holds"
    assert "∞" in render(found, 0)
    nothing = mean([0.0])
    assert numbers.nearer(nothing, nothing) is None
    assert numbers.ratio(nothing, mean([0.3])) == 0
    assert number(float("inf")) == "∞"
    assert number(9.97, 1) == "10"


def test_nearer_in_l1_alone_is_not_nearer(tmp_path: Path) -> None:
    rows = [row(i, "pgd", None, "cam", map_l1=0.3, map_iou=0.6) for i in range(10)]
    rows += [row(i, "adv2", "cam", "cam", map_l1=0.01, map_iou=0.5) for i in range(10)]
    put(tmp_path / "out" / "a", "records", rows)
    found = results.load(noted(tmp_path / "out", [audit("main", "a", ["cam"])]))
    assert [c.met for c in expectations(found) if "nearer" in c.expected] == [False]


def test_success_is_asked_for_as_printed_for_the_network() -> None:
    asked = published_success
    assert [asked("mask", name) for name in ("resnet50", "densenet169", "timm:resnet50.a1_in1k", "lite0")] == [
        *(0.98, 0.96, 0.98, 0.96)
    ]
    assert asked("sparkle", "resnet50") == 1


def test_photos_not_tried_at_every_budget_are_in_none_of_its_numbers(tmp_path: Path) -> None:
    def at(eps: int, some: range) -> list[Any]:
        return [row(i, "adv2", "cam", "cam", eps=eps, map_l1=0.9) for i in some]

    out = tmp_path / "out"
    put(out / "a", "records", at(8, range(3)))
    put(out / "b", "records", at(1, range(1, 5)))
    study = results.load(noted(out, [audit("main", "a", ["cam"]), audit("budget", "b", ["cam"], 1)]))
    found = budget(study.subjects[0], "cam")
    assert found is not None
    assert set(found.smallest) == {f"{i:064d}" for i in (1, 2)}
    assert {eps: c.success.n for eps, (c, _) in found.cells.items()} == {1: 2, 8: 2}


def test_a_diagonal_that_is_not_the_smallest_says_why(tmp_path: Path) -> None:
    def rows(judge: str, l1: float, **more: Any) -> list[Any]:
        return [row(0, "pgd", None, judge, map_l1=0.5), row(0, "adv2", judge, judge, map_l1=l1, **more)]

    for name, more, why in (
        (
            "scale",
            {},
            "smaller if made against GRAD (both leave this judge’s maps within the yardstick)",
        ),
        ("close", {}, "smaller if made against GRAD (0.10 of PGD’s distance, not 0.20)"),
        (
            "missed",
            {"success": False},
            "smaller if made against GRAD (ADV² against CAM reaches the target class on only 0\u00a0%)",
        ),
    ):
        out = tmp_path / name
        put(out / "a", "records", [*rows("cam", 0.1, **more), *rows("grad", 0.1)], 0.2 if name == "scale" else 0.05)
        put(out / "a", "transfer", [row(0, "adv2", "grad", "cam", map_l1=0.05)])
        found = results.load(noted(out, [audit("main", "a", ["cam", "grad"])]))
        (check,) = [c for c in expectations(found) if c.where.endswith("judged by CAM")]
        assert check.found == why


def test_what_has_no_result_is_told_with_its_reason_also_where_nothing_else_is(tmp_path: Path) -> None:
    put(tmp_path / "out" / "m", "records", [row(0, "pgd", None, "cam", map_l1=0.3)])
    put(tmp_path / "out" / "r", "records", [row(i, "pgd", None, "cam", error="It is dark.") for i in range(2)])
    audits = [audit("main", "m", ["cam"]), audit("random", "r", ["cam"])]
    page = render(results.load(noted(tmp_path / "out", audits)), 0)
    assert "r, 2 judgements: It is dark." in page


def test_bends_show_their_way_and_their_passes(tmp_path: Path) -> None:
    put(tmp_path / "out" / "m", "records", [row(0, "pgd", None, "cam", map_l1=0.3)])
    bent = {"map_l1": 0.1, "flow_mean_px": 0.32, "passes": 301.0, "eps": None}
    put(tmp_path / "out" / "b", "records", [row(0, "stadv", None, "cam", **bent)])
    audits = [audit("main", "m", ["cam"]), audit("bends", "b", ["cam"])]
    assert "mean flow 0.32 px, 301 F" in render(results.load(noted(tmp_path / "out", audits)), 0)
