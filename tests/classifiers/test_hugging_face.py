"""Folders of transformers: the network's own logits, and its own processor's policy, measured."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import underfire
from support.transformers_nets import LABELS, config, saved_vit
from underfire.classifiers.hugging_face import _interpolation
from underfire.classifiers.measured import measured
from underfire.core import MismatchError, NotFoundError, UnderfireError, UnsafeFileError, UnsuitableError
from underfire.core.naming import DEMO
from underfire.images import pixels
from underfire.images.photos import Folder
from underfire.plan.check import check

transformers = pytest.importorskip("transformers")
SQUARE = {"height": 32, "width": 32}
SIZES: dict[str, tuple[Any, tuple[int, int, str, str]]] = {
    "vit": (lambda: transformers.ViTImageProcessor(size=SQUARE), (32, 32, "squash", "rgb")),
    "bit": (
        lambda: transformers.BitImageProcessor(size={"shortest_edge": 36}, crop_size=SQUARE),
        (32, 36, "crop", "rgb"),
    ),
    "deit": (
        lambda: transformers.DeiTImageProcessor(size={"height": 36, "width": 36}, crop_size=SQUARE),
        (32, 36, "squash", "rgb"),
    ),
    "convnext": (
        lambda: transformers.ConvNextImageProcessor(size={"shortest_edge": 32}, crop_pct=0.875),
        (32, 36, "crop", "rgb"),
    ),
    "levit": (
        lambda: transformers.LevitImageProcessor(size={"shortest_edge": 32}, crop_size=SQUARE),
        (32, 36, "crop", "rgb"),
    ),
    "mobilevit": (
        lambda: transformers.MobileViTImageProcessor(size={"shortest_edge": 36}, crop_size=SQUARE),
        (32, 36, "crop", "bgr"),
    ),
    "efficientnet": (lambda: transformers.EfficientNetImageProcessor(size=SQUARE), (32, 32, "squash", "rgb")),
}


@pytest.mark.parametrize("kind", SIZES)
def test_a_processors_policy_is_measured(kind: str) -> None:
    make, want = SIZES[kind]
    processor = make()

    def process(picture: Any) -> Any:
        return np.asarray(processor(images=picture, return_tensors="pt")["pixel_values"][0], np.float64)

    found = measured(process, _interpolation(processor.resample), kind)
    p = found.policy
    assert (p.input_size, p.resize, found.fit, found.channels) == want


def test_what_cannot_be_followed_is_refused() -> None:
    def process(picture: Any) -> Any:
        return np.asarray(picture.resize((32, 32)), np.float64).transpose(2, 0, 1) / 255

    oddities = {
        "mixes colours": lambda v: np.stack([v.mean(0)] * 3),
        "do not grow evenly": lambda v: v**2.2,
        "channels": lambda v: v[:1],
        "does not keep the centre|bends or pads": lambda v: np.concatenate([v[:, :, 8:], np.zeros((3, 32, 8))], 2),
    }
    for why, odd in oddities.items():
        with pytest.raises(UnsuitableError, match=rf"'mine'.*({why}).*--input-size"):
            measured(partial(_then, odd, process), "bilinear", "mine")
    with pytest.raises(UnsuitableError, match=r"'mine'.*levels from a plain resize"):
        measured(_equalised, "bilinear", "mine")


def _then(after: Any, process: Any, picture: Any) -> Any:
    return after(process(picture))


def _equalised(picture: Any) -> Any:
    """Stretch the contrast of what is a photo, which the test pictures are not."""
    v = np.asarray(picture.resize((32, 32)), np.float64).transpose(2, 0, 1) / 255
    return v if np.ptp(v[2]) == 0 else 1 - v


def test_a_folder_gives_the_networks_logits_and_names(tmp_path: Path) -> None:
    folder = saved_vit(tmp_path / "vit")
    built: Any = underfire.classifier(f"hf:{folder}")
    net = transformers.AutoModelForImageClassification.from_pretrained(folder).eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        want = net((x - built._mean) / built._std).logits
    torch.testing.assert_close(built.logits(x), want, rtol=1e-4, atol=1e-5)
    assert built.classes.names == LABELS
    assert built.name == "hf:vit"
    check(built)


def test_a_photo_becomes_what_the_processor_makes_of_it(tmp_path: Path) -> None:
    from PIL import Image

    folder = saved_vit(tmp_path / "vit")
    built: Any = underfire.classifier(f"hf:{folder}")
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    photo = Folder(DEMO).root / "coffee.png"
    ours = pixels.to_tensor([pixels.load(Path(str(photo)).read_bytes(), "coffee.png", built.preprocess)])
    theirs = processor(images=Image.open(str(photo)), return_tensors="pt")["pixel_values"]
    assert float(((ours - built._mean) / built._std - theirs).abs().mean()) < 0.02


def test_the_config_is_in_the_digest(tmp_path: Path) -> None:
    one = saved_vit(tmp_path / "one", hidden_act="gelu")
    other = saved_vit(tmp_path / "other", hidden_act="relu")
    digests = {underfire.classifier(f"hf:{folder}").digest for folder in (one, other)}
    assert len(digests) == 2


def test_multi_label_networks_say_so(tmp_path: Path) -> None:
    built: Any = underfire.classifier(f"hf:{saved_vit(tmp_path / 'v', problem_type='multi_label_classification')}")
    assert built.head_kind == "multilabel"
    assert any("multi-label" in sentence for sentence in built.notes)


def test_what_is_no_classifier_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(NotFoundError, match=r"has no config.json.*save_pretrained"):
        underfire.classifier(f"hf:{tmp_path / 'empty'}")
    with pytest.raises(NotFoundError, match=r"There is no folder"):
        underfire.classifier(f"hf:{tmp_path / 'nothing' / 'there'}")
    folder = saved_vit(tmp_path / "vit")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(NotFoundError, match=r"no preprocessor_config.json.*--mean"):
        underfire.classifier(f"hf:{folder}")
    given: dict[str, Any] = {"input_size": 32, "resize": 32, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    assert len(underfire.classifier(f"hf:{folder}", **given).classes) == 3
    headless = transformers.ViTModel(transformers.ViTConfig(**config()))
    headless.save_pretrained(folder)
    with pytest.raises(MismatchError, match=r"no weights for classifier.*no classifier that was trained"):
        underfire.classifier(f"hf:{folder}", **given)


def test_weights_that_the_config_does_not_use_are_refused(tmp_path: Path) -> None:
    folder = saved_vit(tmp_path / "vit", num_hidden_layers=2)
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"num_hidden_layers": 1}))
    with pytest.raises(MismatchError, match=r"'hf:vit' has weights that its config.json has no use for \(.*layer.*1\."):
        underfire.classifier(f"hf:{folder}")


@pytest.mark.parametrize("spare", ["vit.pooler.dense.weight", "vit.embeddings.position_ids"])
def test_what_no_classifier_computes_with_is_left_out(tmp_path: Path, spare: str) -> None:
    folder = saved_vit(tmp_path / "vit")
    before: Any = underfire.classifier(f"hf:{folder}")
    state = load_file(folder / "model.safetensors") | {spare: torch.zeros(2, 2)}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    assert underfire.classifier(f"hf:{folder}").digest == before.digest


@pytest.mark.parametrize(
    ("option", "word", "there"),
    [("order", "bgr", "rgb"), ("layout", "nhwc", "nchw"), ("key", "teacher", "one set of weights")],
)
def test_what_a_folder_does_not_heed_is_refused(tmp_path: Path, option: str, word: str, there: str) -> None:
    folder = saved_vit(tmp_path / "vit")
    given: dict[str, Any] = {option: word}
    with pytest.raises(UnderfireError, match=rf"--{option} {word}: 'hf:vit' has {there}; leave it out"):
        underfire.classifier(f"hf:{folder}", **given)


def test_a_folder_with_its_own_code_is_refused(tmp_path: Path) -> None:
    folder = saved_vit(tmp_path / "vit")
    content = json.loads((folder / "config.json").read_text())
    content |= {
        "model_type": "mine",
        "auto_map": {"AutoConfig": "mine.Config", "AutoModelForImageClassification": "mine.Net"},
    }
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(UnsafeFileError, match=r"brings its own Python code"):
        underfire.classifier(f"hf:{folder}")
    assert not (tmp_path / "ran").exists()


def test_a_damaged_folder_is_a_sentence(tmp_path: Path) -> None:
    folder = saved_vit(tmp_path / "vit")
    (folder / "model.safetensors").write_bytes(b"abc")
    with pytest.raises(UnderfireError, match=r"transformers cannot load 'hf:vit'") as e:
        underfire.classifier(f"hf:{folder}")
    assert "\n" not in str(e.value)
