"""The library: one's own network under fire in a few lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

import underfire
from support.e2e import extended, photo, photos
from support.toys import pictures


def _network() -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(4)
        layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def test_ones_own_network_in_one_line(tmp_path: Path) -> None:
    classifier = underfire.wrap(_network(), input_size=32, classes=list("abcdefghij"), name="mine")
    folder = photos(tmp_path / "in", 2)
    given: list[str | Path | NDArray[np.uint8]] = [folder / "p00.png", str(folder / "p01.png"), np.asarray(photo(2))]
    result = underfire.attack(classifier, "cam", given, eps=16, target="least-likely", at="input")
    assert result.clean.shape == result.images.shape == (3, 3, 32, 32)
    assert result.maps.shape == result.clean_maps.shape == (3, 8, 8)
    assert float((result.images - result.clean).abs().max()) <= 16 / 255 + 1e-6
    assert bool(((result.images * 255 - (result.images * 255).round()).abs() < 1e-4).all())
    assert [r.classifier for r in result.records] == ["mine"] * 3
    predicted = classifier.logits(result.images).argmax(1).tolist()
    for i, record in enumerate(result.records):
        assert record.error is None
        assert record.predicted_class == predicted[i]
        assert record.map_l1 == pytest.approx(float((result.maps[i] - result.clean_maps[i]).abs().mean()), abs=1e-5)
        assert result.verdicts[i].forged is None  # three images are too few to say what an untouched map is
    assert result.rulers == {}
    assert result.records[0].source_class_name in set("abcdefghij")


def test_the_same_numbers_as_the_command(tmp_path: Path) -> None:
    folder = photos(tmp_path / "in", 2)
    out = tmp_path / "out"
    with extended():
        settings = underfire.Settings.parse(
            {"images": str(folder), "classifier": "toy", "attack": "adv2", "options": {"adv2": {"steps": 5}}}
        )
        rows = underfire.run(settings, out).results.rows()
        paths = [folder / "p00.png", folder / "p01.png"]
        result = underfire.attack(underfire.classifier("toy"), "cam", paths, steps=5, at="input")
    for row, record, verdict in zip(rows, result.records, result.verdicts, strict=True):
        assert row["target_class"] == record.target_class
        assert row["image_sha256"] == record.image_sha256
        assert row["map_l1"] == pytest.approx(record.map_l1, abs=1e-6)
        assert row["untouched_l1"] is verdict.untouched_l1 is None  # two photos are too few
        assert row["linf_levels"] == record.linf_levels


def test_bad_images_have_records_but_no_rows_in_the_tensors(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("hello")
    folder = photos(tmp_path / "in", 2)
    classifier = underfire.wrap(_network(), input_size=32)
    given = [folder / "p00.png", tmp_path / "text.png", folder / "p01.png"]
    result = underfire.attack(classifier, "cam", given, steps=2)
    assert [r.error is None for r in result.records] == [True, False, True]
    assert result.records[1].map_l1 is None
    assert len(result.images) == len(result.maps) == 2


def test_a_tensor_of_the_input_size_is_taken_as_it_is() -> None:
    classifier = underfire.wrap(_network(), input_size=32)
    x = pictures(3, size=32).float()
    result = underfire.attack(classifier, "cam", x, steps=20, target="least-likely", eps=32)
    torch.testing.assert_close(result.clean, x, rtol=0, atol=1e-7)
    assert [r.source_class for r in result.records] == classifier.logits(x).argmax(1).tolist()
    again = underfire.attack(classifier, "cam", result.images, steps=1)
    assert torch.equal(again.clean, result.images)
    assert [r.source_class for r in again.records] == [r.predicted_class for r in result.records]
    listed = underfire.attack(classifier, "cam", [*result.images], steps=1)
    assert torch.equal(listed.clean, result.images)


def test_maps_of_other_photos_are_those_of_the_tensor_too() -> None:
    classifier = underfire.wrap(_network(), input_size=32)
    x = pictures(2, size=32).float()
    result = underfire.attack(classifier, "cam", x, steps=1, target_map="image:random", attack="pgd")
    maps = underfire.interpreter("cam", classifier).explain(x, classifier.logits(x).argmax(1))
    apart = float((maps[0] - maps[1]).abs().mean())
    assert [r.target_l1 for r in result.records] == pytest.approx([apart] * 2, abs=1e-5)


def test_all_that_a_notebook_holds_is_taken(tmp_path: Path) -> None:
    classifier = underfire.wrap(_network(), input_size=32)
    array = np.asarray(photo(0))
    Image.fromarray(array).save(tmp_path / "photo.png")
    paths: list[str | Path] = [tmp_path / "photo.png", str(tmp_path / "photo.png")]
    several: list[Any] = [*paths, array, Image.fromarray(array), Image.fromarray(array).convert("CMYK")]
    more: list[Any] = [[paths[0], paths[0]], array[None]]
    for given in several + more:
        clean = underfire.attack(classifier, "cam", given, steps=0).clean
        assert float((clean - underfire.attack(classifier, "cam", [array], steps=0).clean).abs().max()) < 0.02
    assert len(underfire.attack(classifier, "cam", [paths[0], paths[0]], steps=0).records) == 2


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ([np.zeros((3, 32, 32), np.uint8)], r"images\[0\] is an array of uint8 \(3, 32, 32\)"),
        ([np.zeros((32, 32, 3))], r"array of float64.*8-bit"),
        (np.zeros((32, 32), np.uint8), r"array of uint8 \(32, 32\)"),
        ([b"PNG"], r"images\[0\] is bytes"),
        ([torch.zeros(3, 32, 32), torch.zeros(3, 16, 16)], "several shapes"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.uint8), "torch.uint8"),
        (torch.full((1, 3, 32, 32), float("nan")), r"in \[0, 1\]"),
        (torch.full((1, 3, 32, 32), 255.0), r"in \[0, 1\]"),
        (torch.zeros(1, 32, 32, 3), r"\(1, 32, 32, 3\)"),
        (torch.zeros(0, 3, 32, 32), "no images"),
    ],
)
def test_what_is_no_picture_is_told(given: Any, reason: str) -> None:
    with pytest.raises(underfire.UnderfireError, match=reason):
        underfire.attack(underfire.wrap(_network(), input_size=32), "cam", given)


class Shares(nn.Module):
    """A softmax that is written by hand, so that it cannot be taken off."""

    def forward(self, z: Tensor) -> Tensor:
        e = (z - z.amax(1, keepdim=True)).exp()
        return e / e.sum(1, keepdim=True)


def test_mistakes_are_told(tmp_path: Path) -> None:
    classifier = underfire.wrap(_network(), input_size=32)
    x = torch.rand(1, 3, 32, 32)
    with pytest.raises(underfire.UnderfireError, match="'cma'"):
        underfire.attack(classifier, "cma", x)
    with pytest.raises(underfire.UnderfireError, match=r"\(1, 3, 30, 30\).*\(N, 3, 32, 32\)"):
        underfire.attack(classifier, "cam", x[:, :, 1:-1, 1:-1])
    with pytest.raises(underfire.UnderfireError, match="probabilities"):
        underfire.attack(underfire.wrap(nn.Sequential(_network(), Shares()), input_size=32), "cam", x)
    with pytest.raises(underfire.UnderfireError, match=r"nowhere\.png"):
        underfire.attack(classifier, "cam", [tmp_path / "nowhere.png"])
    with pytest.raises(underfire.UnderfireError, match="no images"):
        underfire.attack(classifier, "cam", [])
    with pytest.raises(underfire.UnderfireError, match="target"):
        underfire.attack(classifier, "cam", x, target=10)
    with pytest.raises(underfire.UnderfireError, match="eps"):
        underfire.attack(classifier, "cam", x, eps=0)
