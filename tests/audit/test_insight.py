"""What is said of a classifier before it is attacked: measured facts, kept beside the results and shown on the page."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

import underfire
from support.onnx_nets import exported
from support.toys import CLASSES, KinkedNet, kinked, seeded, toy
from underfire.audit.insight import grids, look, steps
from underfire.audit.run import _blunt
from underfire.classifiers import inputs
from underfire.classifiers.base import TorchClassifier, wrap
from underfire.cli.app import app
from underfire.core import ClassifierOptions, DamagedFileError, Preprocess, UnknownNameError
from underfire.core.insight import Insight
from underfire.report.page import write_report
from underfire.store.insight import FILE, LARGEST, dumped, read_insight


def test_the_facts_of_a_toy_are_its_own() -> None:
    built = toy()
    found = underfire.inspect(built)
    assert found.problem == found.sharp == ""
    assert found.parameters == sum(p.numel() for p in built.module.parameters())
    assert (found.outputs, found.classes, found.classes_from) == (CLASSES, built.classes.names, "given to wrap")
    assert found.head == "the logits are a linear function of the average of 6 maps of 6 × 6 of last (Softplus)"
    assert found.twin is not None
    assert (found.twin.kinks, found.twin.logits) == (0, 0)
    fits = {one.name: one for one in found.maps}
    assert {name for name, one in fits.items() if not one.reason} >= {"cam", "grad"}
    assert (fits["cam"].passes, fits["cam"].measured, fits["grad"].passes) == (1, True, 3)
    assert "'toy' has no feature pyramid" in fits["rts"].reason
    assert fits["rts"].passes is None
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_slope_is_the_gradients_norm_and_a_kink_is_counted() -> None:
    built = kinked()
    found = look(built, names=["cam"])
    assert found.twin is not None
    assert found.twin.kinks == 2
    x = torch.zeros(1, 3, 16, 16, dtype=torch.float64).requires_grad_()
    z = built.logits(x).topk(2).values[0]
    norm = float(torch.autograd.grad(z[0] - z[1], x)[0].norm())
    assert found.gradients["black"] == pytest.approx(norm, rel=1e-4)
    assert set(found.gradients) == {"black", "white", "photo"}


def test_layers_are_the_last_of_each_stride() -> None:
    found = list(grids(kinked(), torch.rand(1, 3, 16, 16).double()))
    assert [(layer.name, layer.shape, layer.stride) for layer in found] == [("body.3", (8, 16, 16), 1)]


def test_the_input_is_told_step_by_step() -> None:
    said = " / ".join(steps(Preprocess(64, 72, (0.1, 0.2, 0.3), (1, 1, 1), "nearest")))
    for words in ("72 px", "nearest", "64 × 64", "0.1 0.2 0.3"):
        assert words in said


@pytest.mark.parametrize(
    ("door", "words"),
    [("timm:pad", "64 px on its longer side"), ("torch:squash", "on both sides"), ("mine.py:load", "asked as it is")],
)
def test_the_input_is_told_by_its_door(door: str, words: str) -> None:
    said = " / ".join(steps(Preprocess(48, 64, (0.5,), (1,), width=96), door))
    assert all(word in said for word in (words, door, "48 × 96", "grey"))
    assert "by colour" not in said


def test_the_names_of_classes_are_told_with_where_they_are_from(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("a\nb\n")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()).eval()
    exported(net, tmp_path / "net.onnx", (1, 3, 32, 32))
    given: dict[str, Any] = {"classes": str(tmp_path / "names.txt")}
    for options, said in (({}, "numbers"), (given, "the file ")):
        named: Any = underfire.classifier(f"onnx:{tmp_path}/net.onnx", **options)
        assert named.classes_from.startswith(said)
    assert wrap(net, input_size=32, classes=["x", "y"]).classes_from == "given to wrap"
    assert inputs.classes_from(1000, {}, ClassifierOptions()).startswith("those of ImageNet-1k")


class Sharp(KinkedNet):
    """Hides a kink in scripted code."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = torch.jit.script(nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.hidden(self.body(x) - 0.1).mean((2, 3)))
        return logits


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_kink_that_stays_sharp_is_named() -> None:
    built = wrap(seeded(Sharp()).float(), input_size=16, classes=list("abcd"), name="sharp")
    found = look(built, names=["cam", "grad"])
    assert found.twin is None
    assert re.search(r"'sharp' cannot smooth relu in hidden", found.sharp)
    for against, said in (("grad", [found.sharp]), ("cam", []), (None, [])):  # before the search, where it matters
        plan: Any = SimpleNamespace(job=SimpleNamespace(cells=[SimpleNamespace(against=against)]))
        assert _blunt(plan, found) == said


def test_a_number_of_the_twin_that_is_not_finite_is_no_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = SimpleNamespace(spreads=[1.0], found={"logits": 0.0, "gradient": float("nan"), "second": 1.0})
    monkeypatch.setattr("underfire.audit.insight.twin_of", lambda classifier, x: broken)
    found = look(toy()).to_dict()
    assert found["twin"] is None
    assert "not finite: gradient" in json.dumps(found)


def test_a_whole_library_is_no_interpreter_that_misfits() -> None:
    tried = {one.name for one in look(toy()).maps}
    assert {"cam", "grad"} <= tried
    assert not tried & {"captum", "grad-cam"}


def test_what_is_refused_says_so_and_shows_the_rest() -> None:
    class Nan(KinkedNet):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) * float("nan")

    found = look(wrap(Nan(), input_size=16, classes=list("abcd"), name="mine"))
    assert "not finite" in found.problem
    assert (found.maps, found.twin, found.twice) == ((), None, None)
    assert found.steps
    with pytest.raises(UnknownNameError):
        look(toy(), names=["can"])


def test_the_side_file_comes_back_and_a_bad_one_is_told(tmp_path: Path) -> None:
    assert read_insight(tmp_path) is None
    found = look(toy(), names=["cam"])
    (tmp_path / FILE).write_bytes(dumped(found))
    assert read_insight(tmp_path) == found
    bad = [
        b"",
        b"{",
        b"[1]",
        b"\xff",
        b"[" * 100_000,
        b" " * (LARGEST + 2),
        dumped(found).replace(b"data:image", b"http://x"),
    ]
    for content in bad:
        (tmp_path / FILE).write_bytes(content)
        with pytest.raises(DamagedFileError, match=FILE):
            read_insight(tmp_path)


QUICK = ("--interpreter", "cam", "--input-size", "96", "--threads", "1")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).resize((300, 300)).save(tmp_path / "photos" / "a <b>.png")
    return tmp_path / "photos"


def test_an_audit_keeps_it_and_the_page_shows_it(photos: Path, lite0: TorchClassifier, tmp_path: Path) -> None:
    settings = underfire.Settings(
        images=str(photos), input_size=96, threads=1, attack=("pgd",), options={"pgd": {"steps": 2}}
    )
    audit = underfire.run(settings, tmp_path / "out")
    found = read_insight(tmp_path / "out")
    assert isinstance(found, Insight)
    assert (found.name, found.photo) == ("efficientnet-lite0", "a <b>.png")
    assert [one.name for one in found.maps] == ["cam"]
    page = Path(write_report(tmp_path / "out")).read_text("utf-8")
    assert "How underfire understands this classifier" in page
    assert "What the network sees of a &lt;b&gt;.png" in page
    assert "1280 maps of 3 × 3" in page
    (tmp_path / "out" / FILE).write_text("{")
    assert "delete it, and the page comes without it" in Path(write_report(tmp_path / "out")).read_text("utf-8")
    (tmp_path / "out" / FILE).unlink()
    assert "How underfire understands" not in Path(write_report(tmp_path / "out")).read_text("utf-8")
    assert audit.plan.rows


def test_the_terminal_shows_it_in_80_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "seen.png"
    done = CliRunner().invoke(app, ["inspect", *QUICK, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines())) <= 80
    for words in ("efficientnet-lite0", "1280 maps", "resized to 110 px", "33 kinks", "stride 32", "cam"):
        assert words in done.output
    with Image.open(out) as picture:
        assert picture.size == (96, 96)


def test_the_terminal_prints_json() -> None:
    done = CliRunner().invoke(app, ["inspect", *QUICK, "--json"])
    found = json.loads(done.output)
    assert found["maps"][0]["passes"] == 1
    assert found["seconds"] > 0


@pytest.mark.parametrize("flags", [["--classifier", "resnet5"], ["--images", "nowhere"], ["--interpreter", "can"]])
def test_bad_input_is_one_sentence(flags: list[str]) -> None:
    done = CliRunner().invoke(app, ["inspect", "--threads", "1", "--input-size", "96", *flags])
    assert isinstance(done.exception, underfire.UnderfireError)
    assert flags[1] in str(done.exception)
