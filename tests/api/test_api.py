"""The library: one's own network under fire in a few lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

import underfire
from support.e2e import extended, photo, photos


def _network() -> nn.Module:
    with torch.random.fork_rng([]):
        torch.manual_seed(4)
        layers = [nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


def test_ones_own_network_in_one_line(tmp_path: Path) -> None:
    classifier = underfire.wrap(_network(), input_size=32, classes=list("abcdefghij"), name="mine")
    folder = photos(tmp_path / "in", 2)
    given: list[str | Path | NDArray[np.uint8]] = [folder / "p00.png", str(folder / "p01.png"), np.asarray(photo(2))]
    result = underfire.attack(classifier, "cam", given, eps=16, target="least-likely")
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
        assert result.verdicts[i].untouched == ((record.map_l1 or 0) <= result.scale["cam"])
        assert result.verdicts[i].forged == (record.success and result.verdicts[i].untouched)
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
        result = underfire.attack(underfire.classifier("toy"), "cam", paths, steps=5)
    for row, record, verdict in zip(rows, result.records, result.verdicts, strict=True):
        assert row["target_class"] == record.target_class
        assert row["image_sha256"] == record.image_sha256
        assert row["map_l1"] == pytest.approx(record.map_l1, abs=1e-6)
        assert row["untouched_l1"] == pytest.approx(verdict.untouched_l1, abs=1e-6)
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


def test_mistakes_are_told(tmp_path: Path) -> None:
    classifier = underfire.wrap(_network(), input_size=32)
    x = torch.rand(1, 3, 32, 32)
    with pytest.raises(underfire.UnderfireError, match="'cma'"):
        underfire.attack(classifier, "cma", x)
    with pytest.raises(underfire.UnderfireError, match=r"\(1, 3, 30, 30\).*\(N, 3, 32, 32\)"):
        underfire.attack(classifier, "cam", x[:, :, 1:-1, 1:-1])
    with pytest.raises(underfire.UnderfireError, match="probabilities"):
        underfire.attack(underfire.wrap(nn.Sequential(_network(), nn.Softmax(1)), input_size=32), "cam", x)
    with pytest.raises(underfire.UnderfireError, match=r"nowhere\.png"):
        underfire.attack(classifier, "cam", [tmp_path / "nowhere.png"])
    with pytest.raises(underfire.UnderfireError, match="no images"):
        underfire.attack(classifier, "cam", [])
    with pytest.raises(underfire.UnderfireError, match="target"):
        underfire.attack(classifier, "cam", x, target=10)
    with pytest.raises(underfire.UnderfireError, match="eps"):
        underfire.attack(classifier, "cam", x, eps=0)
