"""The page of a study: what it says, and what it shows beside the published numbers."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.study import audit, noted, put, row, write_by_hand
from underfire.core import UnderfireError
from underfire.metrics.decision import FEW
from underfire.report import published
from underfire.store import Store
from underfire.study import results
from underfire.study.controls import controls
from underfire.study.page import render, write_study
from underfire.study.plan import Study, default_out
from underfire.study.soundness import soundness, white_box


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_by_hand(tmp_path_factory.mktemp("by-hand") / "study")


def test_time_versions_and_machines_are_those_of_all_finished_parts(by_hand: Path) -> None:
    study = results.load(by_hand)
    assert study.seconds == 7 * 45.5  # five audits' records and two's judgements by others
    made = "0.1.0, commit transfer; 0.1.0, commit records on 2 × abacus, in 5.31 minutes of one worker"
    assert made in render(study, samples=0)


def test_a_study_that_is_not_finished_says_which_audits_lack_photos(tmp_path: Path) -> None:
    rows = [row(i, "adv2", name, name, map_l1=0.1) for i, name in ((0, "cam"), (0, "grad"), (1, "cam"))]
    put(tmp_path / "a", "records", rows)  # the second photo lacks GRAD's
    audits = [audit("main", "a", ["cam", "grad"]) | {"photos": 2}, audit("bends", "b", ["cam"])]
    page = render(results.load(noted(tmp_path, audits)), samples=0)
    assert "<br>a: 1 of 2 photos<br>b: 0 of 9 photos</p>" in page
    # Tried is done, and its reason is told; a judgement across audits that failed lies among the failed rows too.
    put(tmp_path / "a", "records", [*rows, row(1, "adv2", "grad", "grad", error="It is dark.")])
    Store(tmp_path / "a").put_failed(
        "records", "000001-0123456789abcdef", [row(0, "adv2", "cam", "mask", error="It is late.")], {}
    )
    assert results.load(noted(tmp_path, audits[:1])).unfinished == []


def test_photos_without_any_adv2_result_have_no_panel(tmp_path: Path) -> None:
    put(tmp_path / "m", "records", [row(0, "pgd", None, "cam", map_l1=0.3)])
    page = render(results.load(noted(tmp_path, [audit("main", "m", ["cam"])])), samples=2)
    assert 'id="samples"' not in page


def test_every_published_number_stands_in_one_file_with_its_source() -> None:
    figures = published.published()
    assert figures["source"]["venue"] == "USENIX Security 2020"
    assert {
        (c["attack"], c["interpreter"], c["network"]): (c["success"], c["confidence"]) for c in figures["success"]
    } == {
        ("pgd", None, "ResNet-50"): (1.0, 1.0),
        ("pgd", None, "DenseNet-169"): (1.0, 1.0),
        ("adv2", "grad", "ResNet-50"): (1.0, 0.99),
        ("adv2", "cam", "ResNet-50"): (1.0, 1.0),
        ("adv2", "mask", "ResNet-50"): (0.98, 0.99),
        ("adv2", "rts", "ResNet-50"): (1.0, 1.0),
        ("adv2", "grad", "DenseNet-169"): (1.0, 0.98),
        ("adv2", "cam", "DenseNet-169"): (1.0, 1.0),
        ("adv2", "mask", "DenseNet-169"): (0.96, 0.98),
        ("adv2", "rts", "DenseNet-169"): (1.0, 1.0),
    }
    cells = {(c["interpreter"], c["images"]): c["map_l1"] for c in figures["adversarial_interpretation"]}
    assert cells == {("RTS", "ADV²"): 0.01, ("RTS^A", "benign"): 0.03, ("RTS^A", "ADV²"): 0.1}
    assert published.printed("adv2", "mask", "DenseNet-169") == {
        **{"attack": "adv2", "interpreter": "mask", "network": "DenseNet-169"},
        **{"success": 0.96, "confidence": 0.98},
    }
    assert published.printed("adv2", "sparkle", "ResNet-50") is None


def test_published_numbers_are_shown_and_never_mixed_with_ours(by_hand: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ours(page: str) -> str:
        """Without the published rows, and without what is measured against them."""
        page = re.sub(r'<tr class="pub">.*?</tr>', "", page, flags=re.DOTALL)
        page = re.sub(r"ADV² success at least.*?</tr>", "", page)
        return re.sub(r"\d+ of \d+ reached", "", page)

    before = render(results.load(by_hand), 0)
    assert before.count('<tr class="pub">') == 4
    assert re.search(
        r'ADV² <small>DenseNet-169</small></th>\n<td class="num pub" data-label="GRAD">100\u00a0% \(0.98\)', before
    )
    cells = published.published()["success"]
    monkeypatch.setitem(published.published(), "success", [{**c, "success": 0.125, "confidence": 0.625} for c in cells])
    after = render(results.load(by_hand), 0)
    assert after.count("(0.625)") == 6
    assert after != before
    assert ours(after) == ours(before)


def test_the_curve_of_budgets_has_a_band_for_each_interpreter_and_its_quartiles_in_words(
    by_hand: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "A quarter of the photos is forged within ε = 1, half within 2, three quarters not within these."
    for few in (FEW, 3):  # three photos have no quarters
        monkeypatch.setattr("underfire.study.budget.FEW", few)
        section = render(results.load(by_hand), 0).partition('<section id="budget"')[2].partition("</section>")[0]
        tables = section.count("Photo by photo")
        assert section.count('class="band') == tables > 0
        assert (said in section) == (few == 3)


def test_other_data_s_cells_stand_beside_no_published_ones(by_hand: Path, tmp_path: Path) -> None:
    audits = yaml.safe_load((by_hand / "study.yaml").read_text(encoding="utf-8"))["resolved"]["parts"]
    shutil.copytree(by_hand, tmp_path / "study")
    page = render(results.load(noted(tmp_path / "study", audits, ("20 classes",))), 1)
    for name in ("effectiveness", "misinterpretation", "random_class", "transfer", "budget", "findings"):
        section = page.partition(f'<section id="{name}"')[2].partition("</section>")[0]
        assert "trained on 20 classes" in section, name
    assert '<tr class="pub">' not in page
    assert "trained on 20 classes" in page
    assert "Not comparable with the published ImageNet numbers" in page


def test_a_folder_that_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnderfireError, match="no folder of an underfire study"):
        write_study(tmp_path)
    with pytest.raises(UnderfireError, match="no finished records yet"):
        write_study(noted(tmp_path / "empty", [audit("main", "x", ["cam"])]))


def test_controls_stand_beside_the_attacks(tmp_path: Path) -> None:
    n = 4
    rows = [row(i, "pgd", None, "cam", map_l1=0.3) for i in range(n)]
    rows += [row(i, "adv2", "cam", "cam", map_l1=0.01) for i in range(n)]
    put(tmp_path / "m", "records", rows)
    own = [row(i, "noise", None, "cam", map_l1=0.05, success=False) for i in range(2)]
    own += [row(i, "adv2-control", "cam", "cam", map_l1=0.25) for i in range(2)]
    put(tmp_path / "c", "records", own)
    put(tmp_path / "r", "records", [row(i, "pgd", None, "cam", map_l1=[0.28, 0.32][i]) for i in range(2)])
    parts = [audit("main", "m", ["cam"]), audit("control", "c", ["cam"]), audit("rerun", "r", ["cam"])]
    study = results.load(noted(tmp_path, parts))
    found = controls(study.subjects[0], "cam")
    assert found is not None
    means = [e.value for e in (found.adv2, found.without, found.pgd, found.noise, found.rerun)]
    assert means == pytest.approx([0.01, 0.25, 0.3, 0.05, 0.02])
    assert found.adv2.n == 2, "on the photos that have all of them"
    assert "Controls say what an attack owes to its aim" in render(study, 0)


def test_usual_controls_do_not_rename_a_folder() -> None:
    usual = {"control": {"default": 12, "mask": 4}, "sanity": 12}
    assert default_out(Study()) == default_out(Study.parse({"photos": usual}))
    assert default_out(Study()) != default_out(Study.parse({"photos": {"control": 3}}))


def checked(out: Path, n: int, wins: int) -> list[dict[str, object]]:
    """Write the checks of the attack, where PGD without a bound reaches its class on some of the photos."""
    parts = []
    for name, eps in (("step", 1), ("eps-8", 8), ("eps-255", 255), ("longer", 8)):
        rows = [row(i, "noise", None, "cam", eps=eps, success=False, confidence=0.01) for i in range(n)]
        hits = wins if name == "eps-255" else min(wins, n // 2)
        rows += [row(i, "pgd", None, "cam", eps=eps, success=i < hits, confidence=0.2) for i in range(n)]
        put(out / "net" / "sanity" / name, "records", rows)
        parts.append(audit("sanity", f"net/sanity/{name}", ["cam"], eps))
    return parts


def test_the_page_begins_with_its_verdicts_below_a_failed_check(tmp_path: Path) -> None:
    put(tmp_path / "m", "records", [row(i, "pgd", None, "cam", map_l1=0.3) for i in range(12)])
    parts = [audit("main", "m", ["cam"]), *checked(tmp_path, 12, 11)]
    page = render(results.load(noted(tmp_path, parts)), 0)
    failed, verdicts = page.index("The attack failed a check of itself"), page.index("1. Findings")
    assert failed < verdicts < page.index("2. Effectiveness")
    assert "11 of 12 at ε = 255/255" in page and "no other classifier of the same classes" in page
    parts = [audit("main", "m", ["cam"]), *checked(tmp_path / "b", 12, 12)]
    for part in parts[1:]:
        part["folder"] = f"b/{part['folder']}"
    (found,) = soundness(results.load(noted(tmp_path, parts)))
    assert [check.passed for check in found.checks] == [True] * 5 + [None]


def test_few_photos_pass_and_fail_no_check(tmp_path: Path) -> None:
    put(tmp_path / "m", "records", [row(i, "pgd", None, "cam", map_l1=0.3) for i in range(3)])
    study = results.load(noted(tmp_path, [audit("main", "m", ["cam"]), *checked(tmp_path, 3, 2)]))
    (found,) = soundness(study)
    assert found.photos == 3 and {check.passed for check in found.checks} == {None}
    assert "failed a check" not in render(study, 0)


def test_a_white_box_must_beat_transfer(tmp_path: Path) -> None:
    parts = []
    for k, (name, other, own, theirs) in enumerate((("net", "web", 11, 3), ("web", "net", 1, 12))):
        of: dict[str, Any] = {"classifier": name, "judge_classifier": name}
        rows = [row(i, "pgd", None, "cam", map_l1=0.3, success=i < own) for i in range(12)]
        put(tmp_path / name, "records", [replace(one, **of) for one in rows])
        seen = [row(i, "pgd", None, "cam", map_l1=0.3, success=i < theirs) for i in range(12)]
        put(tmp_path / name, "transfer", [replace(one, classifier=name, judge_classifier=other) for one in seen])
        parts.append(audit("main", name, ["cam"], subject=k))
    study = results.load(noted(tmp_path, parts, ("ImageNet", "ImageNet")))
    net, web = (white_box(study, subject) for subject in study.subjects)
    assert (net.passed, web.passed) == (False, False)
    assert net.found == "11 of 12 by its own gradient, 12 by pictures that were made on another classifier"
    assert web.found.startswith("1 of 12 by its own gradient, 3 by")


def test_where_all_reach_all_nothing_is_compared(tmp_path: Path) -> None:
    parts = []
    for k, (name, other) in enumerate((("net", "web"), ("web", "net"))):
        of: dict[str, Any] = {"classifier": name, "judge_classifier": name}
        rows = [row(i, "pgd", None, "cam", map_l1=0.3, success=True) for i in range(12)]
        put(tmp_path / name, "records", [replace(one, **of) for one in rows])
        put(tmp_path / name, "transfer", [replace(one, classifier=name, judge_classifier=other) for one in rows])
        parts.append(audit("main", name, ["cam"], subject=k))
    study = results.load(noted(tmp_path, parts, ("ImageNet", "ImageNet")))
    assert {white_box(study, subject).passed for subject in study.subjects} == {None}
