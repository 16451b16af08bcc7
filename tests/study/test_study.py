"""A whole study of two toys, end to end."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pytest
import yaml

from support.e2e import extended, photos, underfire
from support.study import TOY
from underfire import registry
from underfire.classifiers.base import TorchClassifier
from underfire.core import ClassifierOptions, Preprocess
from underfire.registry import parts
from underfire.store import Store
from underfire.study import results
from underfire.study.page import render


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
    counts |= {"control": 0, "rerun": 0, "sanity": 0}
    plan = {"classifiers": [subject, subject | {"classifier": "toy2"}], "photos": counts, "threads": 1, "workers": 1}
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    words: list[str | Path] = ["study", folder / "plan.yaml", "--out", folder / "out"]
    ran = underfire(*words)
    assert ran.code == 0, ran.err
    assert ran.out.index("all of it") < ran.out.index("[1/18] toy/main-3: ")
    yield folder / "out", words
    parts.MAKERS["classifiers"].pop("toy2")


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
    from underfire.audit import transfer
    from underfire.core import Quiet
    from underfire.plan import make
    from underfire.plan.file import read

    out, _ = whole
    source = out / "toy" / "main-3"
    with extended():
        settings = read(source / "plan.yaml")
        planned = make.make_plan(settings, earlier=settings)
        transfer.run(source, planned, ["cam"], lambda r: r.against == "cam", Quiet())
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


def test_the_page_has_its_sections_and_loads_nothing(whole: tuple[Path, list[str | Path]]) -> None:
    out, _ = whole
    page = (out / "study.html").read_text(encoding="utf-8")
    assert re.findall(r'<section id="(\w+)"', page) == [
        *("findings", "samples", "effectiveness", "misinterpretation", "random_class", "transfer", "budget"),
        *("expected", "audits", "threat"),
    ]
    assert not re.findall(r'src="(?!data:)', page)
    linked = re.findall(r'href="(?!data:|#)([^"]*)"', page)
    assert linked and all((out / unquote(path)).exists() for path in linked)
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
