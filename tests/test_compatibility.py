"""The short form of docs/compatibility.md: a few of its networks, and a page of their rows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
if not BENCHMARKS.is_dir():  # the source package has the tests alone
    pytest.skip("needs the folder benchmarks", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))

import compatibility  # noqa: E402 (it lies beside the tests)
from networks import Made, networks  # noqa: E402

SHORT = (
    "wrap: logits in a dictionary",
    "wrap: a head of two layers",
    "wrap: a softmax at the end",
    "wrap: channels last",
    "timm:test_vit",
    "timm:mobilenetv3_small_050",
    "torchvision:squeezenet1_1",
    "hf:ResNet",
    "onnx:regnetx_002.onnx",
)
LOADED, REFUSED = compatibility.LOADED, "wrap: a softmax at the end"
found: list[dict[str, Any]] = []


def test_there_are_enough_networks_of_every_kind() -> None:
    names = [made.name for made in networks()]
    assert len(names) == len(set(names)) >= 80
    assert set(SHORT) <= set(names)
    assert sum(name.startswith("onnx:") for name in names) == 5


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", SHORT)
def test_each_loads_and_each_misfit_has_a_sentence(name: str, tmp_path: Path) -> None:
    made: Made = next(one for one in networks() if one.name == name)
    rows = list(compatibility.tried(made, tmp_path, ["cam"]))
    found.extend(rows)
    assert rows[0]["what"] == LOADED
    if name != REFUSED:
        assert rows[0]["works"], rows[0]["reason"]
    for row in rows:
        assert row["works"] or not row["reason"].startswith("FAULT"), row["reason"]
        assert row["works"] or row["reason"]


def test_the_page_is_of_the_rows() -> None:
    row = {"network": "timm:a", "kind": "k", "px": "64", "seconds": "1", "versions": "torch=1 timm=2"}
    rows = [
        {**row, "what": LOADED, "works": "True", "reason": ""},
        {**row, "what": "cam", "works": "False", "reason": "'timm:a' is odd."},
        {**row, "what": "grad", "works": "True", "reason": ""},
    ]
    page = compatibility.page(rows)
    assert "torch 1, timm 2" in page
    assert "| `timm:a` | 64 | ✓ | 1 | ✓ |" in page
    assert "1. the network is odd." in page
    assert "1 networks, 1 of them loaded; 2 pairs" in page
