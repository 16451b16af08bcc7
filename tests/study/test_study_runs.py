"""A study as it is run: refused, interrupted and resumed, with a part that fails; its attacks end to end."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from support import colours
from support.e2e import extended, photo, photos, records, underfire
from support.study import TOY, agenda, audit, noted, put, row
from underfire import registry
from underfire.audit import run
from underfire.classifiers.base import TorchClassifier
from underfire.core import ClassifierOptions, Listener, Outcome, UnderfireError
from underfire.interpreters.rts.card import Card, packed
from underfire.plan.settings import Settings
from underfire.registry import parts
from underfire.store import Store
from underfire.study import matrix, results, verdicts
from underfire.study import plan as plan_
from underfire.study import run as study_run
from underfire.study.agenda import folder_names, make_agenda
from underfire.study.crossing import MissingJudgements
from underfire.study.expectations import expectations
from underfire.study.listener import QuietStudy
from underfire.study.plan import Study, Subject
from underfire.study.planned import PlannedAudit, plan_audits
from underfire.study.run import run_study
from underfire.study.soundness import soundness

FEW = {"pgd": {"steps": 2}, "adv2": {"steps": 2, "warmup": 0}}
PLAIN = {"control": 0, "rerun": 0, "sanity": 0}
SMALL = {"main": {"default": 2, "grad": 1}, "bends": 0, "random": {"default": 1, "grad": 0}, "budget": 0} | PLAIN


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A plan of three audits of milliseconds, and its photos."""
    subject = TOY | {"images": str(photos(tmp_path / "in", 2)), "options": FEW}
    (tmp_path / "plan.yaml").write_text(
        yaml.safe_dump({"classifiers": [subject], "photos": SMALL, "threads": 1, "workers": 1})
    )
    return tmp_path


# -- refused, interrupted, resumed ----------------------------------------------------------------------------------


def test_a_study_stopped_in_the_middle_goes_on_from_its_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, begun = run.run, list[Path]()

    def stopped(settings: Any, out: Path, watcher: Any, plan: Any, executor: Any) -> Any:
        if begun:
            raise KeyboardInterrupt
        begun.append(out)
        return whole(settings, out, watcher, plan, executor)

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
    assert "holds a study with toy/main-1, which this one leaves out" in ran.err
    assert {p: p.read_bytes() for p in before} == before
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    plan["photos"]["bends"] = {"default": 0, "cam": 1}
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    assert underfire(*words_).code == 0  # one audit more
    assert (folder / "out" / "toy" / "bends-1" / "report.html").is_file()


def test_lanes_of_one_audit_are_judged_across(folder: Path) -> None:
    """MASK has units of its own, so a photo has a clean PNG for each lane."""
    small = {"mask": {"steps": 4, "size": 4}, "adv2": {"steps": 2, "warmup": 0, "rescue": False}, "pgd": {"steps": 2}}
    (first,) = sorted((folder / "in").iterdir())[:1]
    (folder / "in" / f"a-copy{first.suffix}").write_bytes(first.read_bytes())
    subject = TOY | {"images": str(folder / "in"), "options": small, "interpreter": ["grad", "cam", "mask"]}
    plan = {
        "classifiers": [subject],
        "photos": {"main": 3, "bends": 0, "random": 0, "budget": 0} | PLAIN,
        "threads": 1,
        "workers": 1,
    }
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
    found = folder_names(names)
    assert found[:2] == ["timm-resnet50-a1_in1k", "timm-resnet50-tv_in1k"]
    assert found[4] == "efficientnet-lite0"
    assert len(set(found)) == 5


def test_a_study_without_main_audits_shows_the_others(folder: Path) -> None:
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    plan["photos"] = {"main": 0, "bends": 0, "random": 1, "budget": 2} | PLAIN
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    assert underfire("study", folder / "plan.yaml", "--out", folder / "out").code == 0
    page = (folder / "out" / "study.html").read_text(encoding="utf-8")
    assert '<h2 id="random_class-h">4. ' in page
    assert '<h2 id="budget-h">5. ' in page, "what is not there has no number"


def test_the_attack_itself_is_checked(folder: Path) -> None:
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    plan["photos"] = {"main": 1, "bends": 0, "random": 0, "budget": 0} | PLAIN | {"sanity": 2}
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    assert underfire("study", folder / "plan.yaml", "--out", folder / "out").code == 0
    (found,) = soundness(results.load(folder / "out"))
    assert (found.photos, len(found.checks)) == (2, 6)
    assert " at 255" in found.checks[1].found and found.checks[1].found.startswith(("0 of 2 at 1,", "1 of 2 at 1,"))
    assert {check.passed for check in found.checks} == {None}, "two photos pass and fail nothing"
    page = (folder / "out" / "study.html").read_text(encoding="utf-8")
    assert "Is the attack sound?" in page and "of 2 with four times the steps" in page


def test_rts_trained_against_the_attack_has_a_verdict_of_its_own(tmp_path: Path) -> None:
    rows = [row(i, "adv2", name, name, map_l1=far) for i in range(90) for name, far in (("rts", 0.02), ("rts-a", 0.1))]
    rows += [row(i, "pgd", None, name, map_l1=0.3) for i in range(90) for name in ("rts", "rts-a")]
    put(tmp_path / "main", "records", rows)
    found = results.load(noted(tmp_path, [audit("main", "main", ["rts", "rts-a"])]))
    security, _, training = verdicts.findings(found)
    assert training.verdict == "holds"
    assert "RTSᴬ’s map by L1 0.10, RTS’s by 0.020 (" in training.number
    assert not any("RTSᴬ" in check.where for check in expectations(found))  # success is not asked against it
    assert "1 of 1 cell" in security.number  # RTSᴬ is a countermeasure, and no evidence of the need for one


def test_paths_of_a_plan_hold_from_anywhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    made = agenda(classifiers=[TOY | {"images": "in", "interpreter": ["cam"]}], photos=SMALL).study.classifiers[0]
    assert made.settings.images == str(folder / "in")
    rts = {"rts": {"weights": "w.safetensors"}}
    own = Subject(settings=Settings(images="in", weights="net.pt", options=rts)).with_absolute_paths().settings
    assert (own.weights, own.options["rts"]["weights"]) == (str(folder / "net.pt"), str(folder / "w.safetensors"))


def two_classes(variant: str, options: ClassifierOptions) -> TorchClassifier:
    """The extension's classifier with two of its outputs."""
    made: TorchClassifier = registry.maker("classifiers", "toy")(variant, options)
    last: Any = made.module[-1]  # type: ignore[index]
    last.weight, last.bias = torch.nn.Parameter(last.weight[:2]), torch.nn.Parameter(last.bias[:2])
    last.out_features = 2
    classes = type(made.classes)(made.classes.names[:2], made.classes.ids[:2])
    return TorchClassifier(made.module, name="two", preprocess=made.preprocess, classes=classes)


@pytest.fixture
def two() -> Iterator[None]:
    registry.register("classifiers", "two")(two_classes)
    yield
    parts.MAKERS["classifiers"].pop("two")


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

    def broken(settings: Any, out: Path, watcher: Any, plan: Any, executor: Any) -> Any:
        if out.name == "main-1":
            raise UnderfireError("The moon is in the way.")
        return whole(settings, out, watcher, plan, executor)

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


# -- from Python ----------------------------------------------------------------------------------------------------


class Notes(QuietStudy):
    """Writes down what it hears."""

    def __init__(self) -> None:
        self.costs: list[tuple[int, bool, bool]] = []
        self.heard: list[str] = []

    def planned(self, audits: Sequence[PlannedAudit], across: MissingJudgements) -> None:
        self.costs.append((len(audits), sum(one.seconds for one in audits) > 0, across.passes > 0))

    def step(self, n: int, of: int, name: str) -> contextlib.AbstractContextManager[Listener]:
        self.heard.append(f"{n}/{of} {name}")
        return contextlib.nullcontext(self)

    def advance(self, outcome: Outcome) -> None:
        self.heard.append(outcome.unit.stage)

    def note(self, text: str) -> None:
        self.heard.append(text)


def test_a_study_runs_from_python_and_prints_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = Notes()
    with extended():
        study = plan_.read(folder / "plan.yaml")
        ran = run_study(study, folder / "out", notes, samples=0)
        again = run_study(study, folder / "out")
    assert capsys.readouterr() == ("", "")
    assert notes.costs == [(3, True, True)]
    mains = ["toy/main-2", "toy/main-1"]
    names = [*mains, *(f"{name}, judged by others" for name in mains), "toy/random-1"]
    steps = [f"{n}/5 {name}" for n, name in enumerate(names, 1)]
    assert [word for word in notes.heard if "/" in word] == steps
    assert notes.heard.index("records") < notes.heard.index(steps[1])
    assert "transfer" in notes.heard[notes.heard.index(steps[2]) : notes.heard.index(steps[4])]
    assert (ran.page, ran.failed, dict(ran.stopped)) == (folder / "out" / "study.html", 0, {})
    judged = sum(
        len(Store(p.parent).rows(s)) for p in (folder / "out").rglob("plan.yaml") for s in ("records", "transfer")
    )
    assert ran.good == again.good == judged > 0


def test_an_audit_s_report_is_written_anew_where_something_was_done(folder: Path) -> None:
    study = plan_.read(folder / "plan.yaml")
    with extended():
        run_study(study, folder / "out")
        reports = sorted((folder / "out").rglob("report.html"))
        for report in reports:
            report.write_text("as it was")
        (folder / "out" / "toy" / "main-1" / "report.html").unlink()
        (unit,) = (folder / "out" / "toy" / "random-1" / "records").glob("*.parquet")
        unit.unlink()
        run_study(study, folder / "out")
    kept = {report.parent.name for report in reports if report.read_text() == "as it was"}
    assert kept == {"main-2"}


def test_a_study_without_any_result_has_no_page(folder: Path) -> None:
    for path in (folder / "in").iterdir():
        path.write_bytes(b"no picture")
    with extended():
        ran = run_study(plan_.read(folder / "plan.yaml"), folder / "out")
    assert (ran.page, ran.good) == (None, 0)
    assert ran.failed == len(ran.errors) + len(ran.stopped) > 0
    assert not (folder / "out" / "study.html").exists()


def test_interpreters_that_do_not_fit_are_told_from_python_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    del plan["classifiers"][0]["interpreter"]
    notes = Notes()
    monkeypatch.setattr(study_run, "plan_audits", stop)
    with extended(), pytest.raises(KeyboardInterrupt):
        run_study(Study.parse(plan), folder / "out", notes)
    assert any(text.startswith("Left out: rts on toy. ") for text in notes.heard)


def stop(*_: object) -> None:
    raise KeyboardInterrupt


# -- what is asked for ----------------------------------------------------------------------------------------------


def test_settings_beside_a_plan_are_added_to_its_own(folder: Path) -> None:
    made = plan_.asked(folder / "plan.yaml", {"options": {"adv2": {"check": 5}, "cam": {}}}, quick=False)
    assert made.classifiers[0].settings.options == FEW | {"adv2": FEW["adv2"] | {"check": 5}, "cam": {}}


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
    def trained_on(words: dict[str, Any]) -> str:
        (subject,) = agenda(classifiers=[words]).subjects
        return subject.trained_on

    assert trained_on({k: v for k, v in TOY.items() if k != "trained_on"}) == "other data (10 classes)"
    assert trained_on(TOY | {"trained_on": "ImageNet"}) == "other data (10 classes)"
    assert trained_on(TOY) == "nothing"
    assert trained_on({"interpreter": ["cam"]}) == "ImageNet"


def test_lanes_that_share_a_count_are_estimated_each_on_its_own_photos(folder: Path) -> None:
    subject = TOY | {"images": str(folder / "in"), "interpreter": ["cam", "mask"]}
    with extended():
        made = make_agenda(Study.parse({"classifiers": [subject], "photos": SMALL | {"main": 2}, "threads": 1}))
        (whole, *_) = plan_audits(made, folder / "none")
    lanes = whole.plan.lanes
    assert len(lanes) == 2  # MASK's share PGD with nobody
    scale = sum(1 + 2 * made.subjects[0].map_passes[name] for name in whole.plan.job.interpreters)
    assert whole.passes == pytest.approx(2 * (sum(lane.passes for lane in lanes) + scale))


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
    registry.register("classifiers", "colours")(lambda variant, options: colours.wrapped(SoftColours(), "colours"))
    size = colours.SIZE
    net = colours.started(
        classifier, torch.rand(2, 3, size, size, generator=torch.manual_seed(0)), torch.tensor([0, 1])
    )
    path = tmp_path / "rts.safetensors"
    path.write_bytes(packed(net, Card("colours", classifier.digest, 0.5)))
    yield path
    parts.MAKERS["classifiers"].pop("colours")


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


def test_audits_of_a_study_that_goes_on_have_the_batches_of_the_others_and_not_of_the_rerun(folder: Path) -> None:
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan | {"photos": SMALL | {"rerun": {"default": 1, "grad": 0}}}))
    assert underfire("study", folder / "plan.yaml", "--out", folder / "out").code == 0
    of = {p.parent.name: yaml.safe_load(p.read_text()) for p in (folder / "out" / "toy").glob("*/plan.yaml")}
    assert of["rerun-1"]["batch_size"] == 1
    usual = of["random-1"]["batch_size"]
    assert usual > 1
    shutil.rmtree(folder / "out" / "toy" / "random-1")
    assert underfire("study", folder / "plan.yaml", "--out", folder / "out").code == 0
    again = yaml.safe_load((folder / "out" / "toy" / "random-1" / "plan.yaml").read_text())
    assert (again["batch_size"], again["precision"]) == (usual, of["random-1"]["precision"])


def test_a_command_that_says_no_workers_goes_on_with_the_study_s(folder: Path) -> None:
    plan = yaml.safe_load((folder / "plan.yaml").read_text())
    del plan["workers"]
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    fresh = plan_.asked(folder / "plan.yaml", {"device": "cpu"}, quick=False, out=folder / "out")
    assert fresh.workers == min(plan_.WORKERS, os.cpu_count() or 1)
    assert underfire("study", folder / "plan.yaml", "--workers", "1", "--out", folder / "out").code == 0
    assert plan_.asked(folder / "plan.yaml", {"device": "cpu"}, quick=False, out=folder / "out").workers == 1
    assert plan_.asked(folder / "plan.yaml", {"workers": "3"}, quick=False, out=folder / "out").workers == 3
