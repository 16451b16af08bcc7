"""A study as it is run: refused, interrupted and resumed, with a part that fails; its attacks end to end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from test_study import TOY, agenda, noted, part, put, row
from torch import Tensor

from support import colours
from support.e2e import extended, photo, photos, records, underfire
from underfire.audit import run
from underfire.classifiers.base import TorchClassifier
from underfire.core import ClassifierOptions, UnderfireError
from underfire.interpreters.rts.card import Card, packed
from underfire.metrics.estimate import mean
from underfire.registry import maker, parts, register
from underfire.report.text import number
from underfire.store import Store
from underfire.study import matrix, numbers, results, verdicts
from underfire.study import plan as plan_
from underfire.study.agenda import Agenda, _folders
from underfire.study.page import render
from underfire.study.plan import Study, Subject
from underfire.study.run import estimate

FEW = {"pgd": {"steps": 2}, "adv2": {"steps": 2, "warmup": 0}}
SMALL = {"main": {"default": 2, "grad": 1}, "bends": 0, "random": {"default": 1, "grad": 0}, "budget": 0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plan of three audits of milliseconds, and its photos."""
    subject = TOY | {"images": str(photos(tmp_path / "in", 2)), "options": FEW}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({"classifiers": [subject], "photos": SMALL, "threads": 1}))
    return tmp_path


# -- refused, interrupted, resumed ----------------------------------------------------------------------------------


def test_a_study_stopped_in_the_middle_goes_on_from_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, begun = run.run, list[Path]()

    def stopped(settings: Any, out: Path, watcher: Any) -> Any:
        if begun:
            raise KeyboardInterrupt
        begun.append(out)
        return whole(settings, out, watcher)

    monkeypatch.setattr(run, "run", stopped)
    ran = underfire("study", folder / "plan.yaml", "--out", folder / "out")
    assert ran.code == 130
    assert "the same command goes on" in ran.out
    assert [p.parent.name for p in (folder / "out").rglob("plan.yaml")] == ["main-2"]
    assert re.findall(r"^(\S+): (.*)$", underfire("status", folder / "out").out, re.MULTILINE) == [
        ("toy/main-2", "1 of 1 units done, 0 failed"),
        ("toy/main-1", "not begun"),
        ("toy/random-1", "not begun"),
    ]
    before = {p: p.stat().st_mtime_ns for p in (folder / "out").rglob("*.parquet")}
    monkeypatch.setattr(run, "run", whole)
    monkeypatch.chdir(folder / "in")  # what study.yaml names lies where it lay
    ran = underfire("study", folder / "out")
    assert ran.code == 0, ran.err
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert {p.parent.name for p in (folder / "out").rglob("report.html")} == {"main-2", "main-1", "random-1"}
    page = (folder / "out" / "study.html").read_bytes()
    again = underfire("study", folder / "out" / "study.yaml")
    assert again.code == 0
    assert (folder / "out" / "study.html").read_bytes() == page  # nothing was done, its minutes of work included
    assert re.search(r"all of it +0 ", again.out)  # and nothing was missing, judgements across included
    assert not (folder / "in" / "underfire-out").exists()


def test_a_refused_study_leaves_its_file_and_says_how_to_go_on(folder: Path) -> None:
    words_: list[str | Path] = ["study", folder / "plan.yaml", "--out", folder / "out"]
    assert underfire(*words_).code == 0
    before = (folder / "out" / "study.yaml").read_bytes()
    ran = underfire(*words_, "--eps", "4")
    assert ran.code == 2
    assert "eps: 8 there, 4 now" in ran.err
    assert f"underfire study '{folder / 'out'}'" in ran.err
    assert (folder / "out" / "study.yaml").read_bytes() == before


def test_a_smaller_study_does_not_take_the_place_of_a_larger_one(folder: Path) -> None:
    words_: list[str | Path] = ["study", folder / "plan.yaml", "--out", folder / "out"]
    assert underfire(*words_).code == 0
    before = {p: p.read_bytes() for p in (folder / "out").glob("study.*")}
    ran = underfire(*words_, "--quick")
    assert ran.code == 2
    assert "holds a study with toy/main-1, toy/random-1, which this one leaves out" in ran.err
    assert {p: p.read_bytes() for p in before} == before
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    plan["photos"]["bends"] = {"default": 0, "cam": 1}
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    assert underfire(*words_).code == 0  # one audit more
    assert (folder / "out" / "toy" / "bends-1" / "report.html").is_file()


def test_lanes_of_one_audit_are_judged_across(folder: Path) -> None:
    """MASK has units of its own, so a photo has a clean PNG for each lane."""
    small = {"mask": {"steps": 4, "size": 4}, "adv2": {"steps": 2, "warmup": 0}, "pgd": {"steps": 2}}
    (first,) = sorted((folder / "in").iterdir())[:1]
    (folder / "in" / f"a-copy{first.suffix}").write_bytes(first.read_bytes())
    subject = TOY | {"images": str(folder / "in"), "options": small, "interpreter": ["grad", "cam", "mask"]}
    plan = {"classifiers": [subject], "photos": {"main": 3, "bends": 0, "random": 0, "budget": 0}, "threads": 1}
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    ran = underfire("study", folder / "plan.yaml", "--out", folder / "out")
    assert ran.code == 0, ran.err + ran.out
    store = Store(folder / "out" / "toy" / "main-3")
    assert len({r["clean"] for r in store.rows()}) == 6  # three photos, of which two have the same bytes; two lanes
    made = {(r["image"], r["against"], r["interpreter"]) for r in store.rows("transfer") if r["attack"] == "adv2"}
    names = ("grad", "cam", "mask")
    photos_ = {r["image"] for r in store.rows()}
    assert made == {(i, a, b) for i in photos_ for a in names for b in names if a != b}
    clean: dict[Any, Any] = {}
    for r in store.rows("transfer"):
        assert r["error"] is None
        m = np.load(folder / "out" / "toy" / "main-3" / r["clean_map"])
        np.testing.assert_array_equal(clean.setdefault((r["image"], r["interpreter"]), m), m)
    (one,) = results.load(folder / "out").subjects
    assert {c.n for c in matrix.matrix(one).values()} == {2}


def test_folders_of_classifiers_never_meet() -> None:
    names = ["timm:resnet50.a1_in1k", "timm:resnet50.tv_in1k", "x" * 50 + "a", "x" * 50 + "b", "efficientnet-lite0"]
    found = _folders(names)
    assert found[:2] == ["timm-resnet50-a1_in1k", "timm-resnet50-tv_in1k"]
    assert found[4] == "efficientnet-lite0"
    assert len(set(found)) == 5


def test_a_study_without_main_audits_shows_the_others(folder: Path) -> None:
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    plan["photos"] = {"main": 0, "bends": 0, "random": 1, "budget": 2}
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    assert underfire("study", folder / "plan.yaml", "--out", folder / "out").code == 0
    page = (folder / "out" / "study.html").read_text(encoding="utf-8")
    assert '<h2 id="random_class-h">4. ' in page
    assert '<h2 id="budget-h">6. ' in page


def test_rts_trained_against_the_attack_has_a_verdict_of_its_own(tmp_path: Path) -> None:
    rows = [row(i, "adv2", name, name, map_l1=far) for i in range(2) for name, far in (("rts", 0.02), ("rts-a", 0.1))]
    rows += [row(i, "pgd", None, name, map_l1=0.3) for i in range(2) for name in ("rts", "rts-a")]
    put(tmp_path / "main", "records", rows)
    found = results.load(noted(tmp_path, [part("main", "main", ["rts", "rts-a"])]))
    security, _, training = verdicts.findings(found)
    assert training.verdict == "holds"
    assert "RTSᴬ’s map by L1 0.10 (0.10\u2009–\u20090.10), RTS’s by 0.020 (" in training.number
    assert not any("RTSᴬ" in check.where for check in verdicts.checks(found))  # success is not asked against it
    assert "1 of 1 cell" in security.number  # RTSᴬ is a countermeasure, and no evidence of the need for one


def test_paths_of_a_plan_hold_from_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    rts = {"rts": {"weights": "w.safetensors"}}
    made = agenda(classifiers=[TOY | {"images": "in", "interpreter": ["cam"]}], photos=SMALL).study.classifiers[0]
    assert made.images == str(folder / "in")
    own = Subject(images="in", weights="net.pt", options=rts).settings()
    assert (own["weights"], own["options"]["rts"]["weights"]) == (str(folder / "net.pt"), str(folder / "w.safetensors"))


def two_classes(variant: str, options: ClassifierOptions) -> TorchClassifier:
    """The extension's classifier with two of its outputs."""
    made: TorchClassifier = maker("classifiers", "toy")(variant, options)
    last: Any = made.module[-1]  # type: ignore[index]
    last.weight, last.bias = torch.nn.Parameter(last.weight[:2]), torch.nn.Parameter(last.bias[:2])
    last.out_features = 2
    classes = type(made.classes)(made.classes.names[:2], made.classes.ids[:2])
    return TorchClassifier(made.module, name="two", preprocess=made.preprocess, classes=classes)


@pytest.fixture
def two() -> Iterator[None]:
    register("classifiers", "two")(two_classes)
    yield
    parts._makers["classifiers"].pop("two")


@pytest.mark.usefixtures("two")
def test_a_section_that_cannot_be_is_left_out_with_its_reason_and_the_rest_goes_on(folder: Path) -> None:
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    plan["classifiers"][0] |= {"classifier": "two"}
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    ran = underfire("study", folder / "plan.yaml", "--out", folder / "out")
    assert ran.code == 3, ran.err
    assert "has no class besides" in ran.out
    page = (folder / "out" / "study.html").read_text(encoding="utf-8")
    assert 'id="effectiveness"' in page
    assert 'id="random_class"' not in page
    assert "two/random-1: A classifier of 2 classes has no class besides" in page


def test_an_audit_that_breaks_stops_no_other(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run.run

    def broken(settings: Any, out: Path, watcher: Any) -> Any:
        if out.name == "main-1":
            raise UnderfireError("The moon is in the way.")
        return whole(settings, out, watcher)

    monkeypatch.setattr(run, "run", broken)
    ran = underfire("study", folder / "plan.yaml", "--out", folder / "out")
    assert ran.code == 3
    assert "Not finished: toy/main-1. The moon is in the way." in ran.out
    page = (folder / "out" / "study.html").read_text(encoding="utf-8")
    assert "toy/main-1: The moon is in the way." in page
    assert 'id="random_class"' in page


def test_photos_without_a_result_are_told_and_make_the_exit_status(folder: Path) -> None:
    (folder / "in" / "p00.png").write_bytes(b"no picture")
    ran = underfire("study", folder / "plan.yaml", "--out", folder / "out")
    assert ran.code == 3, ran.err
    assert "without a full result" in ran.out
    page = (folder / "out" / "study.html").read_text(encoding="utf-8")
    assert re.search(r"toy/main-2, 2 judgements: .*p00\.png", page)


# -- what is asked for ----------------------------------------------------------------------------------------------


def test_settings_beside_a_plan_are_added_to_its_own(folder: Path) -> None:
    made = plan_.asked(folder / "plan.yaml", {"options": {"adv2": {"check": 5}, "cam": {}}}, quick=False)
    assert made.classifiers[0].options == FEW | {"adv2": FEW["adv2"] | {"check": 5}, "cam": {}}


def test_mistakes_are_told(folder: Path) -> None:
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    two = {"classifiers": [*plan["classifiers"], {"classifier": "other"}]}
    (folder / "two.yaml").write_text(yaml.safe_dump(two))
    ran = underfire("study", folder / "two.yaml", "--set", "adv2.steps=3")
    assert ran.code == 2
    assert "each with its own 'options': say it in the plan" in ran.err
    assert "--options" not in ran.err
    ran = underfire("study", "--quick", "--out", "s3://bucket/study")
    assert ran.code == 2
    assert "--out s3://bucket/study: a study writes into a folder" in ran.err
    with pytest.raises(UnderfireError, match=r"counts of photos for 'main' 'garbage'.*Known: .*default"):
        agenda(classifiers=[TOY], photos={"main": {"default": 3, "garbage": 1}})


def test_a_study_s_classifier_takes_what_an_audit_s_does(folder: Path) -> None:
    flags = ("--input-size", "40", "--resize", "44", "--mean", "0.4,0.4,0.4", "--batch-size", "1")
    ran = underfire("study", folder / "plan.yaml", "--out", folder / "out", *flags)
    assert ran.code == 0, ran.err
    stored = yaml.safe_load((folder / "out" / "toy" / "main-2" / "plan.yaml").read_text())
    assert {k: stored[k] for k in ("input_size", "resize", "mean", "batch_size")} == {
        **{"input_size": 40, "resize": 44, "mean": [0.4, 0.4, 0.4], "batch_size": 1}
    }


def test_classes_that_are_not_imagenet_s_are_never_beside_its_cells() -> None:
    made = agenda(classifiers=[{k: v for k, v in TOY.items() if k != "trained_on"}])
    assert made.trained_on == ["other data (10 classes)"]
    assert agenda(classifiers=[TOY | {"trained_on": "ImageNet"}]).trained_on == ["other data (10 classes)"]
    assert agenda(classifiers=[TOY]).trained_on == ["nothing"]
    assert agenda(classifiers=[{"interpreter": ["cam"]}]).trained_on == ["ImageNet"]


def test_lanes_that_share_a_count_are_estimated_each_on_its_own_photos(folder: Path) -> None:
    subject = TOY | {"images": str(folder / "in"), "interpreter": ["cam", "mask"]}
    with extended():
        made = Agenda(Study.parse({"classifiers": [subject], "photos": SMALL | {"main": 2}, "threads": 1}))
        (whole, *_) = estimate(made, folder / "none")
    lanes = whole.plan.lanes
    assert len(lanes) == 2  # MASK's share PGD with nobody
    scale = sum(1 + 2 * made.map_passes[0, name] for name in whole.plan.job.interpreters)
    assert whole.passes == pytest.approx(2 * (sum(lane.passes for lane in lanes) + scale))


# -- numbers --------------------------------------------------------------------------------------------------------


def test_a_perfect_map_is_infinitely_nearer_and_counts(tmp_path: Path) -> None:
    rows = [row(0, "pgd", None, "cam", map_l1=0.3, map_iou=0.2), row(0, "adv2", "cam", "cam", map_l1=0.0, map_iou=1.0)]
    put(tmp_path / "out" / "a", "records", rows)
    found = results.load(noted(tmp_path / "out", [part("main", "a", ["cam"])]))
    (check,) = [c for c in verdicts.checks(found) if "nearer" in c.wanted]
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
    rows = [row(0, "pgd", None, "cam", map_l1=0.3, map_iou=0.6), row(0, "adv2", "cam", "cam", map_l1=0.01, map_iou=0.5)]
    put(tmp_path / "out" / "a", "records", rows)
    found = results.load(noted(tmp_path / "out", [part("main", "a", ["cam"])]))
    assert [c.met for c in verdicts.checks(found) if "nearer" in c.wanted] == [False]


def test_success_is_asked_for_as_printed_for_the_network() -> None:
    asked = verdicts._published_success
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
    found = results.load(noted(out, [part("main", "a", ["cam"]), part("budget", "b", ["cam"], 1)]))
    budget = numbers.budget(found.subjects[0], "cam")
    assert budget is not None
    assert set(budget.smallest) == {f"{i:064d}" for i in (1, 2)}
    assert {eps: c.success.n for eps, (c, _) in budget.cells.items()} == {1: 2, 8: 2}


def test_a_diagonal_that_is_not_the_smallest_says_why(tmp_path: Path) -> None:
    def rows(judge: str, l1: float, **more: Any) -> list[Any]:
        return [row(0, "pgd", None, judge, map_l1=0.5), row(0, "adv2", judge, judge, map_l1=l1, **more)]

    for name, more, why in (
        ("scale", {}, "made against GRAD is: both are within what JPEG does to its maps"),
        ("close", {}, "made against GRAD is: 0.10 of PGD’s distance against 0.20"),
        ("missed", {"success": False}, "made against GRAD is: ADV² against it reaches its class on 0\u00a0% only"),
    ):
        out = tmp_path / name
        put(out / "a", "records", [*rows("cam", 0.1, **more), *rows("grad", 0.1)], 0.2 if name == "scale" else 0.05)
        put(out / "a", "transfer", [row(0, "adv2", "grad", "cam", map_l1=0.05)])
        found = results.load(noted(out, [part("main", "a", ["cam", "grad"])]))
        (check,) = [c for c in verdicts.checks(found) if c.where.endswith("judged by CAM")]
        assert check.found == why


def test_what_has_no_result_is_told_with_its_reason_also_where_nothing_else_is(tmp_path: Path) -> None:
    put(tmp_path / "out" / "m", "records", [row(0, "pgd", None, "cam", map_l1=0.3)])
    put(tmp_path / "out" / "r", "records", [row(i, "pgd", None, "cam", error="It is dark.") for i in range(2)])
    parts = [part("main", "m", ["cam"]), part("random", "r", ["cam"])]
    page = render(results.load(noted(tmp_path / "out", parts)), 0)
    assert "r, 2 judgements: It is dark." in page


def test_bends_show_their_way_and_their_passes(tmp_path: Path) -> None:
    put(tmp_path / "out" / "m", "records", [row(0, "pgd", None, "cam", map_l1=0.3)])
    bent = {"map_l1": 0.1, "flow_mean_px": 0.32, "passes": 301.0, "eps": None}
    put(tmp_path / "out" / "b", "records", [row(0, "stadv", None, "cam", **bent)])
    parts = [part("main", "m", ["cam"]), part("bends", "b", ["cam"])]
    assert "mean flow 0.32 px, 301 F" in render(results.load(noted(tmp_path / "out", parts)), 0)


# -- end to end on every interpreter --------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["benign", "shape:box", "class:random"])
@pytest.mark.parametrize("name", ["grad", "cam", "mask"])
def test_both_families_run_on_every_interpreter_whatever_map_is_wanted(name: str, word: str, tmp_path: Path) -> None:
    short = ["--set", "adv2.steps=2", "--set", "adv2-stadv.steps=2"]
    if name == "grad":
        short += ["--set", "adv2.warmup=0", "--set", "adv2-stadv.warmup=0"]
    if name == "mask":
        short += ["--set", "mask.steps=4", "--set", "mask.size=5"]
    command: list[str | Path] = ["run", "--images", photos(tmp_path / "in", 1), "--classifier", "toy", *short]
    command += ["--threads", "1"]
    more = ("--interpreter", name, "--attack", "adv2", "--attack", "adv2-stadv", "--target-map", word)
    ran = underfire(*command, *more, "--out", tmp_path / "out")
    assert ran.code == 0, ran.out + ran.err
    for made in records(tmp_path / "out"):
        assert made["error"] is None
        assert made["map_l1"] is not None
        assert (made["flow_mean_px"] is None) == (made["attack"] == "adv2")


class SoftColours(colours.Colours):
    """With a slope everywhere."""

    def levels(self, x: Tensor) -> list[Tensor]:
        out = [F.softplus(self.see(F.avg_pool2d(x, 4)))]
        while len(out) < 4:
            out.append(F.avg_pool2d(out[-1], 2))
        return out


@pytest.fixture
def decoder(tmp_path: Path) -> Iterator[Path]:
    """An RTS network for a toy classifier with a pyramid, as `train` starts it."""
    classifier = colours.wrapped(SoftColours(), "colours")
    register("classifiers", "colours")(lambda variant, options: colours.wrapped(SoftColours(), "colours"))
    size = colours.SIZE
    net = colours.started(
        classifier, torch.rand(2, 3, size, size, generator=torch.manual_seed(0)), torch.tensor([0, 1])
    )
    path = tmp_path / "rts.safetensors"
    path.write_bytes(packed(net, Card("colours", classifier.digest, 0.5)))
    yield path
    parts._makers["classifiers"].pop("colours")


@pytest.mark.parametrize("word", ["benign", "file"])
def test_both_families_run_on_rts(word: str, decoder: Path, tmp_path: Path) -> None:
    if word == "file":
        photo(5).convert("L").save(tmp_path / "m.png")
        word = f"file:{tmp_path / 'm.png'}"
    settings = (f"rts.weights={decoder}", "adv2.steps=2", "adv2-stadv.steps=2")
    command: list[str | Path] = ["run", "--images", photos(tmp_path / "in", 1), "--classifier", "colours"]
    command += ["--interpreter", "rts"]
    more = ["--attack", "adv2", "--attack", "adv2-stadv", "--target-map", word, "--threads", "1"]
    ran = underfire(*command, *more, *(w for s in settings for w in ("--set", s)), "--out", tmp_path / "out")
    assert ran.code == 0, ran.out + ran.err
    assert {made["attack"]: made["error"] for made in records(tmp_path / "out")} == {"adv2": None, "adv2-stadv": None}
