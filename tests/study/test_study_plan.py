"""What a study is asked for, the settings of its classifiers, and the audits that it means."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import underfire
from support.e2e import extended
from support.e2e import underfire as command
from support.study import TOY, agenda
from underfire.core import UnderfireError
from underfire.core.naming import DEMO
from underfire.metrics.yardstick import PhotoDistances, Yardstick
from underfire.metrics.yardstick_file import YardstickFile
from underfire.plan.settings import Settings
from underfire.study import plan as study
from underfire.study.agenda import make_agenda
from underfire.study.counts import QUICK, Counts
from underfire.study.plan import Study, Subject
from underfire.study.results import INTERPRETERS


def test_interpreters_with_as_many_photos_share_an_audit() -> None:
    counts = {"main": {"default": 6, "cam": 3}, "bends": {"default": 2, "cam": 0}, "random": 2, "budget": 4}
    counts |= {"control": 0, "rerun": 0, "sanity": 0}
    audits = agenda(classifiers=[TOY | {"interpreter": ["grad", "cam", "energy"]}], photos=counts).audits
    said = {p.folder: (p.settings.interpreter, p.settings.limit, p.settings.attack) for p in audits}
    assert said == {
        "toy/main-6": (("grad", "energy"), 6, ("pgd", "adv2")),
        "toy/main-3": (("cam",), 3, ("pgd", "adv2")),
        "toy/bends-2": (("grad", "energy"), 2, ("stadv", "adv2-stadv")),
        "toy/random-2": (("grad", "cam", "energy"), 2, ("pgd", "adv2")),
        "toy/eps1-4": (("cam",), 4, ("adv2",)),
        "toy/eps2-4": (("cam",), 4, ("adv2",)),
        "toy/eps4-4": (("cam",), 4, ("adv2",)),
    }
    assert {p.settings.target_map for p in audits if p.experiment == "random"} == {"class:random"}
    assert [p.settings.eps for p in audits if p.experiment == "budget"] == [1, 2, 4]
    assert {p.settings.eps for p in audits if p.experiment != "budget"} == {8}


def test_controls_and_checks_of_the_attack_come_by_default() -> None:
    made = agenda(classifiers=[TOY], photos={"main": 2, "bends": 0, "random": 0, "budget": 0})
    said = {p.folder: (p.settings.interpreter, p.settings.limit, p.settings.attack) for p in made.audits}
    both, checks = ("grad", "cam"), ("pgd", "noise")
    assert said["toy/control-12"] == (both, 12, ("noise", "adv2-control"))
    assert said["toy/rerun-8"] == (both, 8, ("pgd", "adv2"))
    (rerun,) = [p for p in made.audits if p.experiment == "rerun"]
    assert rerun.settings.batch_size == 1, "other company than in the main audit"
    sound = {p.folder: p.settings for p in made.audits if p.experiment == "sanity"}
    levels = (1, 2, 4, 8, 16, 32, 64, 255)
    assert set(sound) == {f"toy/sanity/{name}" for name in ("step", "longer", *(f"eps-{eps}" for eps in levels))}
    assert all(s.attack == checks and s.limit == 12 and len(s.interpreter) == 1 for s in sound.values())
    assert {s.eps for s in sound.values()} == set(levels)
    assert Counts().control == {"default": 12, "mask": 4}


def test_a_yardstick_goes_to_the_audits_of_its_interpreter(tmp_path: Path) -> None:
    photos = tuple(PhotoDistances(f"{i}", ((0.1, 0.1, 0.1),), {}) for i in range(20))
    with extended():
        digest = underfire.classifier("toy").digest
    YardstickFile("toy", digest, "cam", Yardstick(photos)).write(tmp_path / "y.json")
    counts = {"main": {"default": 2, "cam": 3}, "bends": 0, "random": 2, "budget": 0, "control": 0, "rerun": 0}
    made = agenda(classifiers=[TOY | {"yardstick": [str(tmp_path / "y.json")]}], photos=counts | {"sanity": 0})
    named = {one.folder: one.settings.yardstick for one in made.audits}
    mine = (str(tmp_path / "y.json"),)
    assert named == {"toy/main-3": mine, "toy/main-2": None, "toy/random-2": mine}


def test_the_papers_counts_are_the_default_and_quick_bends_nothing_under_mask() -> None:
    counts = Counts()
    assert (counts.main, counts.bends) == ({"default": 24, "mask": 12}, {"default": 8, "mask": 2})
    assert (counts.random, counts.budget) == ({"default": 8, "mask": 4}, 12)
    assert QUICK.bends == QUICK.random == QUICK.control == {"default": 1, "mask": 0}
    assert (QUICK.budget, QUICK.sanity) == (1, 1)
    assert QUICK.main == {"default": 2, "mask": 1}
    asked = study.asked(None, {"seed": 3}, quick=True)
    assert asked.classifiers == (Subject(),)
    assert (asked.seed, asked.photos) == (3, QUICK)


def test_what_does_not_fit_is_left_out_and_said_unless_it_was_named() -> None:
    made = agenda(classifiers=[{k: v for k, v in TOY.items() if k != "interpreter"}])
    assert set(made.subjects[0].interpreters) >= {"grad", "cam"}
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
    ran = command("study", tmp_path / "plan.yaml", "--out", tmp_path / "out")
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_the_shared_study_names_four_interpreters_and_every_rts_network() -> None:
    root = Path(__file__).resolve().parents[2]
    shared_study = study.read(root / "benchmarks" / "study.yaml")
    for subject in shared_study.classifiers:
        assert set(subject.named) == set(INTERPRETERS)  # named: a misfit is an error, not a gap
        if subject.settings.classifier != "efficientnet-lite0":  # which has a packaged network
            weights = root / subject.settings.options["rts"]["weights"]
            assert subject.settings.classifier in weights.name
            assert weights.is_file()
        trained = subject.settings.options.get("rts-a")
        assert trained is None or (root / trained["weights"]).is_file()


def test_rts_stands_beside_the_network_trained_against_the_attack_where_there_is_one() -> None:
    made = make_agenda(study.asked(None, {}, quick=True))
    (audit,) = [audit for audit in made.audits if audit.experiment == "trained"]  # packaged for the default classifier
    assert (audit.folder, audit.settings.interpreter) == ("efficientnet-lite0/trained-2", ("rts-a",))
    assert not agenda(classifiers=[TOY]).subjects[0].has_trained
    none = Counts(main={"default": 2, "rts": 0})
    assert "trained" not in {audit.experiment for audit in make_agenda(Study.parse({"photos": none})).audits}


def test_nothing_to_study_is_said() -> None:
    assert "Nothing to study" in command("study").err
    assert "study.yaml" in command("study", "missing/study.yaml").err


# -- a subject contains the settings of its audits ------------------------------------------------------------------


_2, _ALL_BUT_MASK = {"default": 2, "mask": 1}, {"default": 2, "mask": 0}
QUICK_OF_BEFORE = {"main": _2, "bends": _ALL_BUT_MASK, "random": _2, "budget": 2}
QUICK_OF_BEFORE |= {"control": _ALL_BUT_MASK, "rerun": 0, "sanity": 2}
FULL: dict[str, Any] = {
    **{"classifier": "resnet50", "images": "tiles", "weights": "mine.safetensors", "trained_on": "tiles"},
    **{"interpreter": ["cam", "grad"], "input_size": 40, "resize": 44, "mean": [0.4, 0.5, 0.6], "std": [1, 1, 1]},
    **{"classes": "names.txt", "batch_size": 2, "precision": "bf16", "photos": {"main": {"default": 12}, "bends": 8}},
    "options": {"rts": {"weights": "mine-rts.safetensors"}, "adv2": {"steps": 3}},
}


@pytest.mark.parametrize(
    ("words", "digest"),
    [
        ({}, "dcbfa095"),
        ({"classifiers": [{"images": "photos"}]}, "6122cbb7"),
        ({"classifiers": [{"images": "photos", "precision": "auto"}]}, "e8333bbd"),
        ({"photos": QUICK, "workers": 3, "device": "cpu"}, "fcc3ac4c"),
        ({"photos": QUICK_OF_BEFORE, "workers": 3, "device": "cpu"}, "8198483b"),
        ({"classifiers": [FULL, {"classifier": "toy"}], "preset": "paper", "eps": "4", "threads": 1}, "9476e59b"),
    ],
)
def test_the_name_of_a_study_s_folder_stays_what_it_was(words: dict[str, Any], digest: str) -> None:
    assert study.default_out(Study.parse(words)) == Path("underfire-out") / f"study-{digest}"


def test_the_benchmark_s_folder_keeps_its_name() -> None:
    plan = Path(__file__).resolve().parents[2] / "benchmarks" / "study.yaml"
    assert study.default_out(study.read(plan)).name == "study-d1a2cdb7"
    assert study.default_out(study.asked(plan, {"eps": 4}, quick=True)).name == "study-3a4d83dc"


def test_a_subject_contains_settings_and_its_plan_is_flat() -> None:
    (subject,) = Study.parse({"classifiers": [FULL]}).classifiers
    own = {k: v for k, v in FULL.items() if k not in ("trained_on", "photos")}
    assert subject == Subject(settings=Settings.parse(own), trained_on="tiles", photos=Counts(**FULL["photos"]))
    assert subject.named == ("cam", "grad")
    said = {k: v for k, v in subject.as_plan().items() if v is not None}
    assert said == FULL | {"photos": Counts(**FULL["photos"]).model_dump()}
    assert Subject().as_plan()["interpreter"] is None
    (other,) = Study.parse({"classifiers": [{"interpreter": None}]}).classifiers
    assert (other.named, other.settings.images) == ((), DEMO)


@pytest.mark.parametrize("word", ["preset", "eps", "limit", "attack", "seed", "workers", "settings", "resolved"])
def test_what_all_audits_share_is_no_setting_of_one_classifier(word: str) -> None:
    with pytest.raises(UnderfireError, match=f"no setting of a study's classifier '{word}'"):
        Study.parse({"classifiers": [{word: 1}]})


def test_mistakes_in_a_classifier_s_settings_are_told_as_those_of_an_audit() -> None:
    for words, said in (
        ({"input_size": 3}, "--input-size 3: input should be greater"),
        ({"photos": {"main": -1}}, "'classifiers.0.photos.main"),
        ({"trained_on": 3}, "'classifiers.0.trained_on' in the study's plan"),
    ):
        with pytest.raises(UnderfireError, match=said):
            Study.parse({"classifiers": [words]})
    for wrong in (3, [3], None, {"images": "photos"}):
        with pytest.raises(UnderfireError, match="'classifiers"):
            Study.parse({"classifiers": wrong})


WRITTEN = """\
classifiers:
- images: /there/in
  classifier: toy
  trained_on: nothing
  interpreter:
  - grad
  - cam
  options:
    pgd:
      steps: 2
photos:
  main:
    default: 2
    grad: 1
  bends: 0
  random: 1
  budget: 0
preset: fast
eps: 8
max_shift: 2.0
seed: 0
threads: 1
workers: 1
device: auto
resolved:
  parts:
  - {experiment: main, folder: toy/main-2, subject: 0, interpreter: [cam], photos: 2, eps: 8}
  left_out: []
  failed: []
  trained_on: [nothing]
"""
"""What the version before wrote into the folder of a study."""


def test_a_folder_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(WRITTEN)
    found = study.read(tmp_path)
    (subject,) = found.classifiers
    own = Settings(images="/there/in", classifier="toy", interpreter=("grad", "cam"), options={"pgd": {"steps": 2}})
    assert subject == Subject(settings=own, trained_on="nothing")
    assert found.threads == 1
    assert study.home(tmp_path) == study.home(tmp_path / "study.yaml") == tmp_path
    assert study.audits_in(tmp_path) == ["toy/main-2"]
    assert study.asked(tmp_path, {}, quick=False) == found


def test_a_plan_by_itself_has_no_folder_to_go_on_in(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(WRITTEN.partition("resolved")[0])
    assert study.home(tmp_path) is None
    assert study.home(tmp_path / "study.yaml") is None
    assert study.audits_in(tmp_path) == []
