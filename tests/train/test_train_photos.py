"""The photos of a training: labelled, split by class, refused where they teach nothing."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from support.colours import Colours, K, colours, few, squares, wrapped
from underfire.classifiers.base import TorchClassifier
from underfire.core import TooFewError, UnderfireError
from underfire.images.pixels import load, to_tensor
from underfire.registry import build_door
from underfire.train import photos as photos_module
from underfire.train.photos import Photos
from underfire.train.rts import RtsTask

SPLITS = ((False, False), (True, False), (False, True))
"""Of (validation, test): photos that teach, choose, judge."""


def test_the_split_is_by_class_and_fixed(tmp_path: Path) -> None:
    folder = str(squares(tmp_path / "photos", 32))
    labelled = Photos(folder, None, colours()).labelled(0.15, 0)
    again = Photos(folder, None, colours()).labelled(0.15, 0)
    assert [p.validation for p in labelled] == [p.validation for p in again]
    held, kept = ({p.label for p in labelled if p.validation is v} for v in (True, False))
    assert held and kept and not held & kept


def as_before(labels: list[int], share: float, seed: int, taken: set[int]) -> set[int]:
    """The choice among classes of equal sizes, on which cards of networks depend."""
    order = sorted(set(labels) - taken, key=lambda c: hashlib.sha256(f"{seed}/class/{c}".encode()).hexdigest())
    held: set[int] = set()
    for c in order[:-2]:
        if sum(label in held for label in labels) >= share * len(labels):
            break
        held.add(c)
    return held


@pytest.mark.parametrize("seed", range(6))
def test_a_large_class_does_not_take_the_place_of_the_share(seed: int) -> None:
    labels = [0] * 900 + [1] * 50 + [2] * 50 + [3] * 50
    assert 0 not in photos_module._held_back(labels, 0.15, seed)
    for n in (3, 4, 7, 40):
        equal = [*range(n)] * 5
        held, before = photos_module._held_back(equal, 0.15, seed), as_before(equal, 0.15, seed, set())
        assert held == before
        assert photos_module._held_back(equal, 0.15, seed, held) == as_before(equal, 0.15, seed, before)


def test_photos_that_judge_choose_nothing(tmp_path: Path) -> None:
    photos = Photos(str(squares(tmp_path / "photos", 32)), None, colours())
    labelled = photos.labelled(0.15, 0, test=0.3)
    assert [p.validation for p in labelled] == [p.validation for p in photos.labelled(0.15, 0)]
    groups = [{p.label for p in labelled if (p.validation, p.test) == group} for group in SPLITS]
    assert all(groups) and sum(map(len, groups)) == len(set.union(*groups)), "whole classes, each in one split"
    settings = few()
    task = RtsTask(photos, labelled, settings)
    assert {p.label for p in task.train} == groups[0]
    t, figures = task.finish()
    alone = task.evaluator.each(task.net, task.test, t)
    assert figures["saliency_metric"] == pytest.approx(sum(alone) / len(alone), abs=1e-5)


def test_photos_that_teach_nothing(tmp_path: Path) -> None:
    with pytest.raises(TooFewError, match=r"five.* 5 .* 16"):
        Photos(str(squares(tmp_path / "five", 5)), None, colours()).labelled(0.15, 0)
    one = tmp_path / "one"
    one.mkdir()
    for i in range(16):
        Image.new("RGB", (80, 80), (230, 40, 30 + i)).save(one / f"{i}.png")
    with pytest.raises(TooFewError, match=r"one'.*class 0"):
        Photos(str(one), None, colours()).labelled(0.15, 0)
    with pytest.raises(UnderfireError, match=r"hardly recognises anything in .* \(mean probability 0\.\d+"):
        Photos(str(squares(tmp_path / "many", 16)), None, colours_of_many()).labelled(0.15, 0)


def colours_of_many() -> TorchClassifier:
    """Forty classes, none of which is likely."""
    net = Colours(0.01)
    net.head = nn.Linear(K, 40)
    nn.init.normal_(net.head.weight, std=0.01, generator=torch.Generator().manual_seed(0))
    nn.init.zeros_(net.head.bias)
    return wrapped(net, "unsure")


def test_a_photo_that_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    folder = squares(tmp_path / "photos", 32)
    (folder / "bad.png").write_bytes(b"no picture")
    photos = Photos(str(folder), None, colours())
    assert len(photos.labelled(0.15, 0)) == 32
    assert list(photos.skipped) == ["bad.png"] and "bad.png" in photos.skipped["bad.png"]


class Blind(Colours):
    """Has no scores for pictures with black in them."""

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = super().forward(x)
        return torch.where(x.amin((1, 2, 3))[:, None] > 0, scores, float("nan"))


def test_a_photo_without_finite_scores_is_left_out_and_named(tmp_path: Path) -> None:
    folder = squares(tmp_path / "photos", 32)
    with Image.open(folder / "003.png") as picture:
        picture.paste((0, 0, 0), (20, 20, 60, 60))
        picture.save(folder / "003.png")
    photos = Photos(str(folder), None, wrapped(Blind(), "blind"))
    assert "003.png" not in [p.photo.path for p in photos.labelled(0.15, 0)]
    assert photos.skipped == {"003.png": "'003.png': the scores of 'blind' are not finite."}


def test_photos_come_through_the_classifiers_own_door(tmp_path: Path) -> None:
    for i in range(18):  # the square is where only a door that squashes shows it
        picture = Image.new("RGB", (240, 80), (110, 110, 110))
        picture.paste([(230, 40, 30), (30, 220, 40), (40, 30, 230)][i % 3], (0, 5 + i % 2, 75, 70))
        picture.save(tmp_path / f"{i:02d}.png")
    classifier = colours()
    classifier.door = build_door("pillow:squash", classifier)
    photos = Photos(str(tmp_path), None, classifier)
    labelled = photos.labelled(0.15, 0)
    assert [p.label for p in labelled[:6]] == [0, 1, 2, 0, 1, 2]
    shown = to_tensor([classifier.door.open((tmp_path / "00.png").read_bytes(), "00.png")])
    assert torch.equal(photos.clean(labelled[:1])[0], shown)
    assert photos.augmented(labelled[:3], "0/1").shape == photos.clean(labelled[:3])[0].shape


def test_the_default_door_shows_what_it_always_has(tmp_path: Path) -> None:
    photos = Photos(str(squares(tmp_path / "photos", 16)), None, colours())
    one, policy = photos.photos[0], photos.policy
    content = photos.folder.bytes(one.path)
    assert np.array_equal(photos.shown(one), load(content, one.path, policy))
    assert np.array_equal(photos.around(one), load(content, one.path, replace(policy, input_size=policy.resize)))


def test_a_crop_is_drawn_from_the_photo_and_the_purpose(tmp_path: Path) -> None:
    photos = Photos(str(squares(tmp_path / "photos", 32)), None, colours())
    some = photos.labelled(0.15, 0)[:3]
    x = photos.augmented(some, "0/1")
    assert x.shape == photos.clean(some)[0].shape and 0 <= float(x.min()) <= float(x.max()) <= 1
    assert torch.equal(photos.augmented(some[1:2], "0/1")[0], x[1]), "whatever else is in the batch"
    assert not torch.equal(photos.augmented(some, "0/2"), x)
