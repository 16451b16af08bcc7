"""The study: its audits, judgements across them, the numbers of its page by hand, and the page itself."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from support.e2e import extended, photos, underfire
from underfire import registry
from underfire.classifiers.base import TorchClassifier
from underfire.core import ClassifierOptions, Preprocess, Record, Scale, UnderfireError
from underfire.registry import parts
from underfire.report import published
from underfire.store import Store
from underfire.study import matrix, numbers, results
from underfire.study import plan as study
from underfire.study import verdicts as study_verdicts
from underfire.study.agenda import INTERPRETERS, Agenda
from underfire.study.page import render, write_study
from underfire.study.plan import Counts, Study, Subject
from underfire.study.verdicts import findings

# -- which audits a study means -------------------------------------------------------------------------------------


def agenda(**values: Any) -> Agenda:
    with extended():
        return Agenda(Study.parse(values))


TOY: dict[str, Any] = {"classifier": "toy", "images": "photos", "trained_on": "nothing", "interpreter": ["grad", "cam"]}


def test_interpreters_with_as_many_photos_share_an_audit() -> None:
    counts = {"main": {"default": 6, "cam": 3}, "bends": {"default": 2, "cam": 0}, "random": 2, "budget": 4}
    parts = agenda(classifiers=[TOY | {"interpreter": ["grad", "cam", "energy"]}], photos=counts).parts
    said = {p.folder: (p.settings.interpreter, p.settings.limit, p.settings.attack) for p in parts}
    assert said == {
        "toy/main-6": (("grad", "energy"), 6, ("pgd", "adv2")),
        "toy/main-3": (("cam",), 3, ("pgd", "adv2")),
        "toy/bends-2": (("grad", "energy"), 2, ("stadv", "adv2-stadv")),
        "toy/random-2": (("grad", "cam", "energy"), 2, ("pgd", "adv2")),
        "toy/eps1-4": (("cam",), 4, ("adv2",)),
        "toy/eps2-4": (("cam",), 4, ("adv2",)),
        "toy/eps4-4": (("cam",), 4, ("adv2",)),
    }
    assert {p.settings.target_map for p in parts if p.experiment == "random"} == {"class:random"}
    assert [p.settings.eps for p in parts if p.experiment == "budget"] == [1, 2, 4]
    assert {p.settings.eps for p in parts if p.experiment != "budget"} == {8}


def test_the_papers_counts_are_the_default_and_quick_bends_nothing_under_mask() -> None:
    counts = Counts()
    assert (counts.main, counts.bends) == ({"default": 24, "mask": 12}, {"default": 8, "mask": 2})
    assert (counts.random, counts.budget) == ({"default": 8, "mask": 4}, 12)
    assert study.QUICK.bends == {"default": 2, "mask": 0}
    assert study.QUICK.main == {"default": 2, "mask": 1}
    asked = study.asked(None, {"seed": 3}, quick=True)
    assert asked.classifiers == (Subject(),)
    assert (asked.seed, asked.photos) == (3, study.QUICK)


def test_what_does_not_fit_is_left_out_and_said_unless_it_was_named() -> None:
    made = agenda(classifiers=[{k: v for k, v in TOY.items() if k != "interpreter"}])
    assert set(made.interpreters[0]) >= {"grad", "cam"}
    assert all(name == "toy" and why for name, _, why in made.left_out)
    with pytest.raises(UnderfireError, match="no interpreter 'sparkle'"):
        agenda(classifiers=[TOY | {"interpreter": ["sparkle"]}])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("clasifiers: []", "'clasifiers' in the study's plan"),
        ("[1]", "lists 'classifiers'"),
        ("photos: {main: -1}", "in the study's plan"),
        ("classifiers: [{classifier: toy}, {classifier: toy}]", "takes each classifier once"),
        ("classifiers: [{classifier: toy, options: {adv3: {steps: 1}}}]", "study 'adv3'. Did you mean 'adv2'"),
    ],
)
def test_mistakes_in_a_plan_are_one_sentence(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "plan.yaml").write_text(content)
    ran = underfire("study", tmp_path / "plan.yaml", "--out", tmp_path / "out")
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_the_shared_study_names_four_interpreters_and_every_rts_network() -> None:
    root = Path(__file__).resolve().parents[2]
    shared_study = study.read(root / "benchmarks" / "study.yaml")
    for subject in shared_study.classifiers:
        assert set(subject.interpreter or ()) == set(INTERPRETERS)  # named: a misfit is an error, not a gap
        if subject.classifier != "efficientnet-lite0":  # which has a packaged network
            weights = root / subject.options["rts"]["weights"]
            assert subject.classifier in weights.name
            assert weights.is_file()
        trained = subject.options.get("rts-a")
        assert trained is None or (root / trained["weights"]).is_file()


def test_rts_stands_beside_the_network_trained_against_the_attack_where_there_is_one() -> None:
    made = Agenda(study.asked(None, {}, quick=True))
    (part,) = [part for part in made.parts if part.experiment == "trained"]  # packaged for the default classifier
    assert (part.folder, part.settings.interpreter) == ("efficientnet-lite0/trained-2", ("rts-a",))
    assert not agenda(classifiers=[TOY]).trained
    none = Counts(main={"default": 2, "rts": 0})
    assert "trained" not in {part.experiment for part in Agenda(Study.parse({"photos": none})).parts}


def test_nothing_to_study_is_said() -> None:
    assert "Nothing to study" in underfire("study").err
    assert "study.yaml" in underfire("study", "missing/study.yaml").err


# -- numbers by hand ------------------------------------------------------------------------------------------------


def row(photo: int, attack: str, against: str | None, judge: str, **more: Any) -> Record:
    values: dict[str, Any] = {
        "preset": "fast",
        "judge_classifier": "net",
        "defense": "none",
        "seed": 0,
        "eps": 8,
        "success": True,
        "confidence": 0.9,
        "map_iou": 0.5,
        "source_class": 1,
        "target_class": 2,
        "source_class_name": "fox",
        "target_class_name": "hen",
        "predicted_class_name": "hen",
        "predicted_confidence": 0.9,
        "clean_confidence": 0.8,
    }
    fixed: dict[str, Any] = {"image": f"{photo}.png", "image_sha256": f"{photo:064d}", "classifier": "net"}
    return Record(**fixed, attack=attack, against=against, interpreter=judge, **values | more)


def put(out: Path, stage: str, rows: list[Record], scale: float = 0.05) -> None:
    """Store rows as one unit of a stage; with records come a plan and the scale of their interpreters."""
    with Store(out).open() as store:
        if stage == "records":
            store.write("plan.yaml", b"images: photos")
            judges = sorted({row.interpreter for row in rows})
            store.put("scale", "scale", [Scale("0.png", "0", judge, scale) for judge in judges], {}, {})
        made = {"seconds": "45.5", "hardware": "2 × abacus", "underfire_version": f"0.1.0, commit {stage}"}
        made["written"] = "2026-01-02" if stage == "records" else "2026-01-01"
        store.put(stage, stage, rows, {}, made)


def part(experiment: str, folder: str, interpreters: list[str], eps: int = 8, subject: int = 0) -> dict[str, Any]:
    return {
        "experiment": experiment,
        "folder": folder,
        "subject": subject,
        "interpreter": interpreters,
        "photos": 9,
        "eps": eps,
    }


def noted(out: Path, parts: list[dict[str, Any]], trained_on: tuple[str, ...] = ("ImageNet",)) -> Path:
    resolved = {
        "parts": parts,
        "trained_on": list(trained_on),
        "left_out": [],
    }
    settings = {"preset": "fast", "eps": 8, "max_shift": 2.0, "seed": 0}
    out.mkdir(parents=True, exist_ok=True)
    (out / "study.yaml").write_text(yaml.safe_dump(settings | {"resolved": resolved}), encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two interpreters: cam on photos 0, 1, 2 and grad on 0, 1; every number below follows from these rows."""
    out = tmp_path_factory.mktemp("by-hand") / "study"
    cam = [row(i, "pgd", None, "cam", map_l1=[0.4, 0.2, 0.9][i]) for i in range(3)]
    cam += [row(i, "adv2", "cam", "cam", map_l1=[0.02, 0.04, 0.5][i], map_iou=1.0, success=i < 2) for i in range(3)]
    grad = [row(i, "pgd", None, "grad", map_l1=0.1) for i in range(2)]
    grad += [row(i, "adv2", "grad", "grad", map_l1=[0.03, 0.05][i], map_iou=0.8) for i in range(2)]
    put(out / "cam", "records", cam)
    put(out / "grad", "records", grad)
    # cam's pictures under grad; photo 2 is not among the shared ones and must not count
    put(out / "cam", "transfer", [row(i, "adv2", "cam", "grad", map_l1=[0.08, 0.1, 9.0][i]) for i in range(3)])
    put(out / "grad", "transfer", [row(i, "adv2", "grad", "cam", map_l1=[0.3, 0.3][i]) for i in range(2)])
    wanted = [(0.1, 0.4), (0.1, 0.2), (0.3, 0.0)]  # the last photo's wanted map is its benign one
    put(
        out / "random",
        "records",
        [row(i, "adv2", "cam", "cam", map_l1=a, target_l1=b, success=i > 0) for i, (a, b) in enumerate(wanted)]
        + [row(i, "pgd", None, "cam", map_l1=0.6, target_l1=b) for i, (_, b) in enumerate(wanted)],
    )
    put(out / "eps1", "records", [row(i, "adv2", "cam", "cam", eps=1, map_l1=[0.3, 0.04, 0.6][i]) for i in range(3)])
    put(out / "eps2", "records", [row(i, "adv2", "cam", "cam", eps=2, map_l1=[0.05, 0.2, 0.6][i]) for i in range(3)])
    return noted(
        out,
        [
            part("main", "cam", ["cam"]),
            part("main", "grad", ["grad"]),
            part("random", "random", ["cam"]),
            part("budget", "eps1", ["cam"], 1),
            part("budget", "eps2", ["cam"], 2),
        ],
    )


def test_time_versions_and_machines_are_those_of_all_finished_parts(by_hand: Path) -> None:
    study = results.load(by_hand)
    assert study.seconds == 7 * 45.5  # five audits' records and two's judgements by others
    made = "0.1.0, commit transfer; 0.1.0, commit records on 2 × abacus, in 5.31 minutes of one worker"
    assert made in render(study, samples=0)


def test_a_study_that_is_not_finished_says_which_audits_lack_photos(tmp_path: Path) -> None:
    rows = [row(i, "adv2", name, name, map_l1=0.1) for i, name in ((0, "cam"), (0, "grad"), (1, "cam"))]
    put(tmp_path / "a", "records", rows)  # the second photo lacks GRAD's
    parts = [part("main", "a", ["cam", "grad"]) | {"photos": 2}, part("bends", "b", ["cam"])]
    page = render(results.load(noted(tmp_path, parts)), samples=0)
    assert "<br>a: 1 of 2 photos<br>b: 0 of 9 photos</p>" in page
    # Tried is done, and its reason is told; a judgement across audits that failed lies among the failed rows too.
    put(tmp_path / "a", "records", [*rows, row(1, "adv2", "grad", "grad", error="It is dark.")])
    Store(tmp_path / "a").put_failed("records", "late", [row(0, "adv2", "cam", "mask", error="It is late.")], {})
    assert results.load(noted(tmp_path, parts[:1])).unfinished == []


def test_training_against_the_attack_is_measured_on_shared_photos(tmp_path: Path) -> None:
    put(tmp_path / "m", "records", [row(i, "adv2", "rts", "rts", map_l1=[0.01, 0.03, 9][i]) for i in range(3)])
    put(tmp_path / "t", "records", [row(i, "adv2", "rts-a", "rts-a", map_l1=0.1, success=i > 0) for i in range(2)])
    study = results.load(noted(tmp_path, [part("main", "m", ["rts"]), part("trained", "t", ["rts-a"])]))
    (subject,) = study.subjects
    assert subject.interpreters == ("rts",)  # the trained one has no cells beside it
    found = numbers.training(subject)
    assert found is not None
    assert (found.l1.value, found.plain_l1.value, found.success.value) == pytest.approx((0.1, 0.02, 0.5))
    verdict = findings(study)[2]
    assert verdict.verdict == "holds"  # five times as far
    assert "RTSᴬ’s map by L1 0.10" in verdict.number
    assert "(2 photos; against RTSᴬ it reaches its class on 50\u00a0%)" in verdict.number


def test_photos_without_any_adv2_result_have_no_panel(tmp_path: Path) -> None:
    put(tmp_path / "m", "records", [row(0, "pgd", None, "cam", map_l1=0.3)])
    page = render(results.load(noted(tmp_path, [part("main", "m", ["cam"])])), samples=2)
    assert 'id="samples"' not in page


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
    parts = [part("main", "net", ["cam"]), part("main", "web", ["cam"], subject=1)]
    net, web = results.load(noted(tmp_path, parts, ("ImageNet", "ImageNet"))).subjects
    (line,) = matrix.across(net, web)
    assert (line.made, line.judge, line.interpreter) == (net, web, "cam")
    assert (line.adv2.value, line.pgd.value, line.at_home.value) == (0.5, 0, 1)  # at home on the same two photos
    assert line.cell.relative == pytest.approx(0.2 / 0.4)
    assert line.cell.iou == pytest.approx(0.6)
    assert line.cell.n == 2
    assert matrix.across(web, net) == []


def test_the_curve_over_thresholds_by_hand(tmp_path: Path) -> None:
    curves = [[0.2, None] + [0.5] * 7, [0.4, None] + [0.7] * 7]
    put(
        tmp_path / "a", "records", [row(i, "adv2", "cam", "cam", map_l1=0.1, iou_curve=c) for i, c in enumerate(curves)]
    )
    (subject,) = results.load(noted(tmp_path, [part("main", "a", ["cam"])])).subjects
    curve = numbers.distance(subject, "adv2", "cam").curve
    assert curve[1] is None
    assert (curve[0], curve[8]) == pytest.approx((0.3, 0.6))
    assert numbers.distance(subject, "pgd", "cam").curve == ()


def test_there_is_no_gap_where_the_wanted_maps_look_like_the_benign_ones(tmp_path: Path) -> None:
    for way, known in ((0.003, False), (0.005, True)):
        rows = [row(i, "adv2", "cam", "cam", map_l1=0.2, target_l1=way) for i in range(2)]
        put(tmp_path / f"{way}", "records", rows)
        study = results.load(noted(tmp_path, [part("random", f"{way}", ["cam"])]))
        gap = numbers.random_class(study.subjects[0], "cam")
        assert (gap.gap.value is not None, gap.success.n) == (known, 2)
        assert ("−3900\u00a0%" in render(study, samples=0)) == known


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
    assert numbers.random_class(results.load(by_hand).subjects[0], "grad").gap.value is None


def test_the_smallest_budget_by_hand(by_hand: Path) -> None:
    found = numbers.budget(results.load(by_hand).subjects[0], "cam")
    assert found is not None
    assert [found.smallest[f"{i:064d}"] for i in range(3)] == [2, 1, None]
    assert [found.count(eps) for eps in (1, 2, 8, None)] == [1, 1, 0, 1]
    assert {eps: c.forged.value for eps, (c, _) in found.cells.items()} == pytest.approx({1: 1 / 3, 2: 1 / 3, 8: 2 / 3})


def test_verdicts_follow_the_numbers(by_hand: Path) -> None:
    found = results.load(by_hand)
    verdicts = findings(found)
    assert [v.verdict for v in verdicts] == ["holds in part", "does not hold", "not tested here"]
    assert "1 of 2 cells" not in verdicts[1].number
    checks = {(c.where, c.wanted): c.met for c in study_verdicts.checks(found)}
    assert checks["net, CAM", "ADV² success at least 100\u00a0%"] is False
    assert checks["net, GRAD", "ADV² success at least 100\u00a0%"] is True
    assert checks["net, CAM", "ADV² nearer to benign than PGD, at least 3 × in L1 and nearer in IoU"] is False
    assert checks["net, GRAD", "ADV² nearer to benign than PGD, at least 2 × in L1 and nearer in IoU"] is True
    assert checks["net, judged by CAM", "transfer: the diagonal is the smallest"] is True


# -- published numbers ----------------------------------------------------------------------------------------------


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
    assert re.search(r'ADV² <small>DenseNet-169</small></th>\n<td class="num pub">100\u00a0% \(0.98\)', before)
    cells = published.published()["success"]
    monkeypatch.setitem(published.published(), "success", [{**c, "success": 0.125, "confidence": 0.625} for c in cells])
    after = render(results.load(by_hand), 0)
    assert after.count("(0.625)") == 6
    assert after != before
    assert ours(after) == ours(before)


def test_other_data_s_cells_stand_beside_no_published_ones(by_hand: Path, tmp_path: Path) -> None:
    parts = yaml.safe_load((by_hand / "study.yaml").read_text(encoding="utf-8"))["resolved"]["parts"]
    for one in parts:
        one["folder"] = str(by_hand / one["folder"])
    page = render(results.load(noted(tmp_path / "study", parts, ("20 classes",))), 1)
    for name in ("effectiveness", "misinterpretation", "random_class", "transfer", "budget", "findings"):
        section = page.partition(f'<section id="{name}"')[2].partition("</section>")[0]
        assert "trained on 20 classes" in section, name
    assert '<tr class="pub">' not in page
    assert "trained on 20 classes" in page
    assert "Not comparable with ImageNet’s cells" in page


# -- a whole study --------------------------------------------------------------------------------------------------


def other_toy(variant: str, options: ClassifierOptions) -> TorchClassifier:
    """The extension's classes, other weights and another input size."""
    import torch

    made: TorchClassifier = registry.maker("classifiers", "toy")(variant, replace(options, input_size=40, resize=45))
    for i, p in enumerate(made.module.parameters()):
        noise = torch.randn(p.shape, generator=torch.Generator().manual_seed(i))
        p.data += 0.05 * p.data.abs().mean() * noise
    made.name, made.preprocess = "toy2", Preprocess(40, 45)
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[str | Path]]]:
    registry.register("classifiers", "toy2")(other_toy)
    folder = tmp_path_factory.mktemp("whole")
    few = {attack: {"steps": 4} for attack in ("pgd", "stadv")} | {
        attack: {"steps": 6, "warmup": 0} for attack in ("adv2", "adv2-stadv")
    }
    subject = TOY | {"images": str(photos(folder / "in", 3)), "options": few}
    counts = {"main": {"default": 3, "grad": 2}, "bends": {"default": 1, "grad": 0}, "random": 1, "budget": 2}
    plan = {"classifiers": [subject, subject | {"classifier": "toy2"}], "photos": counts, "threads": 1}
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    words: list[str | Path] = ["study", folder / "plan.yaml", "--out", folder / "out"]
    ran = underfire(*words)
    assert ran.code == 0, ran.err
    assert ran.out.index("all of it") < ran.out.index("[1/15] toy/main-3")
    yield folder / "out", words
    parts._makers["classifiers"].pop("toy2")


def test_a_study_is_a_set_of_ordinary_audits(whole: tuple[Path, list[str | Path]]) -> None:
    out, _ = whole
    for name in ("main-3", "main-2", "bends-1", "random-1", "eps1-2", "eps2-2", "eps4-2"):
        for classifier in ("toy", "toy2"):
            assert (out / classifier / name / "plan.yaml").is_file()
            rows = Store(out / classifier / name).rows()
            assert {r["classifier"] for r in rows} == {classifier}
            assert len({r["image"] for r in rows}) == int(name[-1])
            for made in Store(out / classifier / name).provenance():
                assert made["underfire_version"].startswith(importlib.metadata.version("underfire"))
                assert made["hardware"].startswith(f"{os.cpu_count()} × ")
                assert float(made["seconds"]) > 0


def test_judgements_again_forge_nothing_and_measure_as_the_judge_s_own_audit_does(
    whole: tuple[Path, list[str | Path]],
) -> None:
    out, _ = whole
    made = Store(out / "toy" / "main-3").rows("transfer")
    assert {(r["attack"], r["against"], r["judge_classifier"], r["interpreter"]) for r in made} == {
        ("adv2", "cam", "toy", "grad"),
        ("adv2", "cam", "toy2", "cam"),
        ("pgd", None, "toy2", "cam"),
    }
    assert len({r["image"] for r in made}) == 2  # those that every interpreter's audit has
    assert not list((out / "toy").glob("*/images/*-grad-*/*.png"))
    grads = {r["image"]: r for r in Store(out / "toy" / "main-2").rows() if r["attack"] == "pgd"}
    for r in made:
        assert r["error"] is None
        assert (out / "toy" / "main-3" / r["adversarial"]).is_file()
        if r["judge_classifier"] == "toy":  # the clean side is the one that GRAD's own audit found
            mine = np.load(out / "toy" / "main-3" / r["clean_map"])
            theirs = np.load(out / "toy" / "main-2" / grads[r["image"]]["clean_map"])
            np.testing.assert_allclose(mine, theirs, atol=1e-3)
            assert r["source_class"] == grads[r["image"]]["source_class"]


def test_the_same_pictures_under_the_same_judge_have_the_same_numbers(
    whole: tuple[Path, list[str | Path]],
) -> None:
    from underfire.audit import desk, transfer
    from underfire.plan import make
    from underfire.plan.settings import read

    out, _ = whole
    source = out / "toy" / "main-3"
    with extended():
        settings = read(source / "plan.yaml")
        planned = make.make_plan(settings, earlier=settings)
        transfer.run(source, planned, ["cam"], lambda r: r.against == "cam", desk.Quiet())
    own = {r["image"]: r for r in Store(source).rows() if r["against"] == "cam"}
    again = [r for r in Store(source).rows("transfer") if (r["against"], r["interpreter"]) == ("cam", "cam")]
    again = [r for r in again if r["judge_classifier"] == "toy"]
    assert len(again) == 3
    for r in again:
        for column in ("success", "source_class", "target_class", "predicted_class", "steps"):
            assert r[column] == own[r["image"]][column]
        for column in ("map_l1", "map_iou", "benign_l1", "confidence", "predicted_confidence"):
            assert r[column] == pytest.approx(own[r["image"]][column], abs=1e-5)


def test_the_same_study_again_does_nothing_twice(whole: tuple[Path, list[str | Path]]) -> None:
    out, words = whole
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*.parquet")}
    ran = underfire(*words)
    assert ran.code == 0
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*.parquet")} == before
    assert underfire("study", out / "study.yaml").code == 0  # goes on in its own folder
    again = underfire("report", out)
    assert again.code == 0
    assert "study.html" in again.out


def test_the_page_has_the_seven_sections_and_loads_nothing(whole: tuple[Path, list[str | Path]]) -> None:
    out, _ = whole
    page = (out / "study.html").read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)"', page) == [
        *("effectiveness", "misinterpretation", "samples", "random_class", "transfer", "budget", "findings")
    ]
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert not re.search(r"https?://|@import|url\(|<script", page)
    assert "toy → toy2" in page
    assert page.count("trained on nothing") > 4
    assert page.count("<img") == page.count('alt="')
    bare = render(results.load(out), 0)
    assert "<img" not in bare
    assert 'id="samples"' not in bare


def test_the_page_is_made_without_torch(whole: tuple[Path, list[str | Path]], tmp_path: Path) -> None:
    out, _ = whole
    first = (out / "study.html").read_bytes()
    (tmp_path / "torch.py").write_text("raise ImportError('no torch here')")
    code = "import sys, pathlib; from underfire.study.page import write_study; write_study(pathlib.Path(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}", str(out)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (out / "study.html").read_bytes() == first


def test_a_folder_that_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnderfireError, match="no folder of an underfire study"):
        write_study(tmp_path)
    with pytest.raises(UnderfireError, match="no finished records yet"):
        write_study(noted(tmp_path / "empty", [part("main", "x", ["cam"])]))
