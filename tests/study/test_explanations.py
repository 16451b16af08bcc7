"""A study of explanations: its audits, its league, and its page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from support import study
from support.e2e import photos, records, underfire
from support.study import TOY, agenda, audit, noted, put
from underfire.core import Record
from underfire.study import explanations, families, results
from underfire.study.counts import EXPLANATIONS, QUICK_EXPLANATIONS
from underfire.study.explanations_page import render
from underfire.study.plan import Study, asked, default_out

FEW: dict[str, Any] = {"main": 2, "bends": 0, "random": 0, "budget": {"default": 1, "grad": 0}, "noise": 2}


def row(photo: int, attack: str, against: str | None, judge: str, **more: Any) -> Record:
    return study.row(photo, attack, against, judge, iou_curve=[0.5] * 9, **more)


def test_its_audits_are_main_budgets_of_all_and_noise_for_the_own_class() -> None:
    found = agenda(classifiers=[TOY], photos=FEW, explanations=True).audits
    assert [(one.experiment, one.folder) for one in found] == [
        ("main", "toy/main-2"),
        *(("budget", f"toy/eps{eps}-1") for eps in (1, 2, 4)),
        ("noise", "toy/noise-2"),
    ]
    assert found[1].settings.interpreter == ("cam",)
    noise = found[-1].settings
    assert (noise.attack, noise.target, noise.interpreter) == (("noise",), "own", ("grad", "cam"))


def test_its_interpreters_are_all_that_fit_and_what_does_not_is_told() -> None:
    subject = {word: value for word, value in TOY.items() if word != "interpreter"}
    found = agenda(classifiers=[subject], photos=FEW, explanations=True)
    told = {name for _, name, _ in found.left_out}
    (one,) = found.subjects
    assert {"grad", "ig", "gradcam", "rise"} <= set(one.interpreters)
    assert {"rollout", "relevance"} <= told
    assert set(one.interpreters) | told == set(families.EXPLANATIONS)


def test_its_counts_are_its_own_unless_they_are_said(tmp_path: Path) -> None:
    assert asked(None, {"images": "a"}, quick=False, explanations=True).photos == EXPLANATIONS
    assert asked(None, {}, quick=True, explanations=True).photos == QUICK_EXPLANATIONS
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({"classifiers": [TOY], "photos": FEW, "explanations": True}))
    found = asked(tmp_path / "plan.yaml", {}, quick=False)
    assert found.explanations
    assert found.photos.main == 2
    assert default_out(found) != default_out(found.model_copy(update={"explanations": False}))
    assert "explanations" not in Study().as_plan()


L1 = {
    "cam": (0.4, [0.01, 0.02, 0.3]),
    "grad": (0.2, [0.01, 0.02, 0.01]),
    "ig": (0.1, [0.09] * 3),
    "rise": (0.1, [0.5] * 3),
}
"""Interpreter -> L1 of PGD on each photo, of ADV² on three photos; up to 0.05 is untouched."""
NOISE = {"cam": 0.1, "grad": 0.3, "ig": 0.02, "rise": 0.01}


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """Four explanations; cam was tried with two more ε, one photo less."""
    main = [row(i, "pgd", None, name, map_l1=far) for name, (far, _) in L1.items() for i in range(3)]
    main += [row(i, "adv2", name, name, map_l1=near[i]) for name, (_, near) in L1.items() for i in range(3)]
    put(tmp_path / "main", "records", main)
    put(tmp_path / "noise", "records", [row(i, "noise", None, n, map_l1=x) for n, x in NOISE.items() for i in range(3)])
    for eps, far in ((1, [0.2, 0.04, 0.2]), (2, [0.04, 0.2, 0.2])):
        rows = [row(i, "adv2", "cam", "cam", map_l1=far[i], eps=eps) for i in range(3 if eps == 2 else 2)]
        put(tmp_path / f"eps{eps}", "records", rows, scale=9.0)  # its own scale does not count
    names = list(L1)
    audits = [audit("main", "main", names), audit("noise", "noise", names)]
    return noted(tmp_path, [*audits, audit("budget", "eps1", ["cam"], 1), audit("budget", "eps2", ["cam"], 2)])


def test_the_league_by_hand(by_hand: Path) -> None:
    (subject,) = results.load(by_hand).subjects
    lines = explanations.league(subject)
    assert [one.name for one in lines] == ["rise", "ig", "cam", "grad"]  # none forged: rise left more of PGD's change
    assert [one.forged.value for one in lines] == pytest.approx([0, 0, 2 / 3, 1])
    assert [one.left for one in lines] == pytest.approx([5, 0.9, 0.33 / 3 / 0.4, 0.04 / 3 / 0.2])
    assert {(one.best, one.worst) for one in lines} == {(1, 4)}  # three photos tell nothing apart
    assert [one.family for one in lines] == ["removal", "back-propagation", "representation", "back-propagation"]


def test_rates_that_are_resolved_have_places(tmp_path: Path) -> None:
    rows = [row(i, "adv2", "cam", "cam", map_l1=0.01) for i in range(30)]
    rows += [row(i, "adv2", "grad", "grad", map_l1=0.4) for i in range(30)]
    rows += [row(i, "adv2", "ig", "ig", map_l1=0.01 if i < 2 else 0.4) for i in range(30)]
    put(tmp_path / "main", "records", rows)
    (subject,) = results.load(noted(tmp_path, [audit("main", "main", ["cam", "grad", "ig"])])).subjects
    lines = explanations.league(subject)
    assert [(one.name, one.best, one.worst) for one in lines] == [("grad", 1, 2), ("ig", 1, 2), ("cam", 3, 3)]


def test_the_smallest_budget_is_judged_by_the_main_audits_yardstick(by_hand: Path) -> None:
    (subject,) = results.load(by_hand).subjects
    found = {one.name: one for one in explanations.league(subject)}
    assert list(found["cam"].smallest.values()) == [2, 1]  # the third photo was not tried at ε = 1
    assert (found["cam"].count(1), found["cam"].count(2), found["cam"].count(None)) == (1, 1, 0)
    assert found["ig"].smallest == {}


def test_noise_and_attack_are_correlated_by_rank(by_hand: Path) -> None:
    (subject,) = results.load(by_hand).subjects
    lines = explanations.league(subject)
    found = explanations.agreement(lines)
    assert found.rank == pytest.approx(-1.0)
    assert found.n == 4
    assert explanations.agreement(lines[:3]) == explanations.Agreement(None, 3)


def test_the_page_says_what_it_does_not_say_and_loads_nothing(by_hand: Path) -> None:
    page = render(results.load(by_hand), samples=1)
    for words in ("What it does not say", "League table", "Random noise", "1: 1, 2: 1", "Rank correlation over 4"):
        assert words in page
    assert not re.search(r"<script|https?://(?!www\.w3\.org)|src=\"(?!data:)", page)


def test_the_verb_runs_it_and_goes_on(tmp_path: Path) -> None:
    options = {"pgd": {"steps": 2}, "adv2": {"steps": 2, "warmup": 0}}
    subject = TOY | {"images": str(photos(tmp_path / "in", 2)), "options": options}
    (tmp_path / "plan.yaml").write_text(
        yaml.safe_dump({"classifiers": [subject], "photos": FEW, "threads": 1, "workers": 1})
    )
    words: list[str | Path] = ["study", tmp_path / "plan.yaml", "--explanations", "--out", tmp_path / "out"]
    ran = underfire(*words)
    assert ran.code == 0, ran.err
    page = (tmp_path / "out" / "study.html").read_text()
    assert 'id="league"' in page
    assert 'id="transfer"' in page
    assert page.count('class="tile"') == 2
    noise = records(tmp_path / "out" / "toy" / "noise-2")
    assert {(r["attack"], r["target_class"] == r["source_class"], r["error"]) for r in noise} == {("noise", True, None)}
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.parquet")}
    assert underfire("study", tmp_path / "out").code == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.parquet")} == before
    assert (tmp_path / "out" / "study.html").read_text() == page
    (tmp_path / "out" / "study.html").unlink()
    assert underfire("report", tmp_path / "out").code == 0
    assert (tmp_path / "out" / "study.html").read_text() == page
