"""Several seeds and targets of a photo in one audit, controls, and the checks of the attack itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from support.e2e import photos, records, underfire
from underfire.attacks.adv2 import adv2
from underfire.attacks.control import Noise, adv2_control
from underfire.core import UnderfireError
from underfire.metrics.summary import summarise
from underfire.report.sanity import sanity
from underfire.store import open_results

TOY = ("--classifier", "toy", "--threads", "1")
FEW = ("--set", "pgd.steps=3", "--attack", "pgd")


def run(tmp_path: Path, *words: str, n: int = 2) -> Path:
    folder = tmp_path / "in"
    if not folder.exists():
        photos(folder, n)
    said = underfire("run", "--images", folder, *TOY, *words, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    return tmp_path / "out"


def test_each_photo_comes_once_for_each_seed_and_target(tmp_path: Path) -> None:
    out = run(tmp_path, *FEW, "--seeds", "3", "--target", "random,least-likely,nearest")
    rows = records(out)
    found = {(row["image"], row["target"], row["seed"]) for row in rows}
    # a target that is not drawn is the same for every seed, and pgd draws nothing
    kinds = {("random", seed) for seed in (0, 1, 2)} | {("least-likely", 0), ("nearest", 0)}
    assert found == {(image, *kind) for image in ("p00.png", "p01.png") for kind in kinds}
    assert len(rows) == len({(row["image"], row["target"], row["seed"], row["interpreter"]) for row in rows})
    of = {(row["image"], row["target"]): row for row in rows}
    assert of["p00.png", "nearest"]["target_class"] != of["p00.png", "nearest"]["source_class"]
    assert len({row["adversarial"] for row in rows}) == 10
    summary = summarise(open_results(out).rows())[0]
    assert (summary.n, summary.success.photos) == (10, 2)
    again = underfire("run", out / "plan.yaml")
    assert again.code == 0 and len(records(out)) == len(rows)
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "each photo is attacked once for each" in page


def test_noise_draws_with_every_seed_and_stays_in_its_budget(tmp_path: Path) -> None:
    rows = records(run(tmp_path, "--attack", "noise", "--seeds", "2", "--target", "nearest"))
    assert {row["seed"] for row in rows} == {0, 1}
    assert {row["linf_levels"] for row in rows} == {8}
    assert {(row["steps"], row["passes"]) for row in rows} == {(0, 0.0)}
    with pytest.raises(UnderfireError, match="steps"):
        Noise.make("fast", None, 8, steps=3)


@pytest.mark.parametrize("against", ["cam", "grad", "mask", "rts"])
@pytest.mark.parametrize("preset", ["paper", "fast"])
def test_the_control_is_adv2_without_its_map_term(against: str, preset: str) -> None:
    own, control = adv2.make(preset, against, 8), adv2_control.make(preset, against, 8)
    assert {control.settings.lam.at(t / 10) for t in range(11)} == {0.0}
    same: dict[str, Any] = {"lam": own.settings.lam, "yields": own.settings.yields, "bisect": own.settings.bisect}
    assert dataclasses.replace(control, name="adv2", settings=dataclasses.replace(control.settings, **same)) == own


def test_the_attack_is_checked_beside_the_audit(tmp_path: Path) -> None:
    out = run(tmp_path, "--attack", "pgd", "--sanity", "2", "--set", "pgd.steps=12")
    checks = sanity(out)
    assert len(checks) == 5
    assert all(check.passed is not None for check in checks)
    assert {row["eps"] for row in open_results(out / "sanity" / "eps-255").rows()} == {255}
    assert len(records(out)) == 2, "the audit's own rows are its own"
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Is the attack sound?" in page and "What the attacker knows and can do" in page
    assert (not any(check.passed is False for check in checks)) == ("failed a check of itself" not in page)


def test_a_weak_attack_fails_its_checks(tmp_path: Path) -> None:
    out = run(tmp_path, "--attack", "pgd", "--sanity", "2", "--set", "pgd.steps=0")
    failed = {check.claim for check in sanity(out) if check.passed is False}
    assert "Without a bound the attack always reaches its class." in failed
    assert "The attack beats random noise of the same size." in failed
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.index("failed a check of itself") < page.index('<ul class="cards">'), "above the finding"


def test_without_being_asked_for_the_checks_cost_at_most_a_fifth(tmp_path: Path) -> None:
    said = underfire("run", "--images", photos(tmp_path / "in", 1), *TOY, *FEW, "--out", tmp_path / "out")
    assert not (tmp_path / "out" / "sanity").exists()
    assert "--sanity 4" in said.out + said.err
    assert not sanity(tmp_path / "out")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--attack", "noise", "--target", "own", "--sanity", "2"), "--target own"),
        (("--attack", "fgsm", "--at", "input", "--preset", "strong"), "no preset 'strong'"),
    ],
)
def test_where_the_checks_make_no_sense_the_report_is_written_and_says_so(
    tmp_path: Path, words: tuple[str, ...], why: str
) -> None:
    said = underfire("run", "--images", photos(tmp_path / "in", 1), *TOY, *words, "--out", tmp_path / "out")
    assert said.code == 0, said.err
    assert "The attack itself was not checked with pgd" in said.out and why in said.out
    assert (tmp_path / "out" / "report.html").is_file()


def test_checks_that_were_made_stay_whatever_number_is_asked_for_later(tmp_path: Path) -> None:
    words = ("run", "--images", photos(tmp_path / "in", 4), *TOY, *FEW, "--out", tmp_path / "out")
    assert underfire(*words, "--sanity", "1").code == 0
    assert "checked on 1 photo before" in (said := underfire(*words, "--sanity", "2")).out and said.code == 0
    assert "checked" not in underfire(*words).out
    assert {row["image"] for row in open_results(tmp_path / "out" / "sanity" / "step").rows()} == {"p00.png"}


def test_a_yardstick_of_another_interpreter_is_none_of_the_checks(tmp_path: Path) -> None:
    judges = ("--interpreter", "cam", "--interpreter", "grad")
    images = ("--images", photos(tmp_path / "in", 20), *TOY)
    assert underfire("yardstick", *images, "--interpreter", "grad", "--out", tmp_path / "grad.json").code == 0
    words = (*FEW, "--yardstick", tmp_path / "grad.json", "--limit", "1", "--sanity", "1")
    said = underfire("run", *images, *judges, *words, "--out", tmp_path / "out")
    assert (said.code, "not checked" in said.out, len(sanity(tmp_path / "out"))) == (0, False, 5), said.err
