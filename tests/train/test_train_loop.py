"""The training loop: killed and resumed, its checkpoints, the best epoch, patience."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from PIL import Image
from torch import Tensor

from support.colours import Colours, Noted, colours, few, fitted, squares, wrapped
from underfire.core import DamagedFileError, MismatchError
from underfire.train.finite import NotFiniteError
from underfire.train.loop import EpochResult, TrainingLoop
from underfire.train.photos import Photos
from underfire.train.rts import RtsTask
from underfire.train.run import train_rts


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return squares(tmp_path / "photos", 32)


def test_a_killed_training_goes_on_to_the_same_file(photos: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    fitted(photos, few(), whole)
    with pytest.raises(KeyboardInterrupt):
        fitted(photos, few(), parts, Noted(stop_after=1))
    assert not parts.exists() and parts.with_name("parts.safetensors.partial").exists()
    listener = Noted()
    fitted(photos, few(), parts, listener)
    assert len(listener.seen) == 2, "one epoch was done"
    assert whole.read_bytes() == parts.read_bytes()
    assert not list(tmp_path.glob("*.partial")) and not list(tmp_path.glob(".tmp-*"))


def test_averaged_weights_are_judged_and_go_on_after_a_kill(photos: Path, tmp_path: Path) -> None:
    settings = few(average=0.9)
    found = Photos(str(photos), None, colours())
    task = RtsTask(found, found.labelled(0.15, 0, 0.15), settings)
    seen = [task.net.gate_shift.detach().clone()]
    for _ in range(3):
        task.step(0, task.train[:4])
        seen.append(0.9 * seen[-1] + 0.1 * task.net.gate_shift.detach())
    torch.testing.assert_close(task.judge().state["gate_shift"], seen[-1])
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    fitted(photos, settings, whole)
    with pytest.raises(KeyboardInterrupt):
        fitted(photos, settings, parts, Noted(stop_after=1))
    fitted(photos, settings, parts)
    assert whole.read_bytes() == parts.read_bytes()


def test_a_foreign_or_damaged_checkpoint_is_told(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "rts.safetensors"
    with pytest.raises(KeyboardInterrupt):
        fitted(photos, few(), out, Noted(stop_after=1))
    with pytest.raises(MismatchError, match=r"rts\.safetensors\.partial"):
        fitted(photos, few(seed=1), out)
    partial = out.with_name("rts.safetensors.partial")
    partial.write_bytes(partial.read_bytes()[:1000])
    with pytest.raises(DamagedFileError, match=r"rts\.safetensors\.partial"):
        fitted(photos, few(), out)


class Scored:
    """A task that learns nothing: it marks its network with the epoch, and is given its scores."""

    kind: ClassVar[str] = "scored"

    def __init__(self, task: RtsTask, scores: list[float]) -> None:
        self.net, self.optimizer, self.evaluator = task.net, task.optimizer, task.evaluator
        self.train, self.held, self.test, self.steps = task.train, task.held, task.test, task.steps
        self.average = task.average
        self.scores, self.epochs, self.rates = scores, 0, list[tuple[int, int]]()

    def set_rate(self, step: int, total: int) -> None:
        self.rates.append((step, total))

    def step(self, epoch: int, photos: object) -> dict[str, float]:
        return {}

    def judge(self) -> EpochResult:
        self.epochs += 1
        torch.nn.init.constant_(self.net.gate_shift, float(self.epochs))
        return EpochResult({}, self.scores[self.epochs - 1], {k: v.clone() for k, v in self.net.state_dict().items()})

    def finish(self) -> tuple[float, dict[str, float]]:
        return float(self.net.gate_shift.detach()), {}


def test_the_best_epoch_is_kept_and_patience_ends_the_training(photos: Path) -> None:
    settings = replace(few(), epochs=9, patience=2)
    found = Photos(str(photos), None, colours())
    task = Scored(RtsTask(found, found.labelled(0.15, 0), settings), [3.0, 1.0, 2.0, 1.0, 0.0])
    loop = TrainingLoop(task, settings)
    while not loop.over:
        loop.run_epoch(Noted())
    assert (loop.epoch, loop.best_epoch, loop.best) == (4, 2, 1.0), "an equal score is no better one"
    assert loop.finish() == (2.0, {}), "the network of that epoch"
    steps = 4 * task.steps
    assert task.rates == [(step, 9 * task.steps) for step in range(steps)]


def test_a_network_without_a_best_epoch_is_not_finished(photos: Path) -> None:
    found = Photos(str(photos), None, colours())
    loop = TrainingLoop(Scored(RtsTask(found, found.labelled(0.15, 0), few()), [math.nan]), few())
    loop.run_epoch(Noted())
    with pytest.raises(NotFiniteError):
        loop.finish()


class Gamma(Colours):
    """Undoes a gamma, whose slope is infinite where a photo is black."""

    def levels(self, x: Tensor) -> list[Tensor]:
        return super().levels((x ** (1 / 2.2)) ** 2.2)


def test_a_photo_that_would_destroy_the_network_is_named_and_nothing_is_written(photos: Path, tmp_path: Path) -> None:
    with Image.open(photos / "004.png") as picture:
        picture.paste((0, 0, 0), (0, 0, 30, 30))
        picture.save(photos / "004.png")
    out = tmp_path / "rts.safetensors"
    with pytest.raises(NotFiniteError, match=r"gradient is not finite at '004\.png': "):
        train_rts(wrapped(Gamma(), "gamma"), str(photos), out, epochs=1, batch_size=8, test=0.0)
    assert not list(tmp_path.glob("rts*"))


def test_a_photo_without_a_figure_is_named(photos: Path) -> None:
    found = Photos(str(photos), None, colours())
    task = RtsTask(found, found.labelled(0.15, 0), few())
    torch.nn.init.constant_(task.net.gate_shift, 99.0)  # all of the photo is kept
    one = task.held[1]
    seen = {p.photo.path: x for p in task.held for x in found.clean([p])[0]}
    logits = task.classifier.logits

    def odd(x: Tensor) -> Tensor:
        same = (x - seen[one.photo.path]).abs().amax((1, 2, 3)) < 1e-3
        return torch.where(same[:, None], math.nan, logits(x))

    task.classifier.logits = odd  # type: ignore[method-assign]
    with pytest.raises(NotFiniteError, match=f"at '{one.photo.path}': "):
        task.judge()


def test_each_epoch_shows_each_photo_once_in_an_order_of_its_own(photos: Path) -> None:
    settings = few()
    found = Photos(str(photos), None, colours())
    loop = TrainingLoop(RtsTask(found, found.labelled(0.15, 0), settings), settings)
    first = [p for batch in loop._batches() for p in batch]
    loop.epoch = 1
    second = [p for batch in loop._batches() for p in batch]
    by_path = [sorted(p.photo.path for p in seen) for seen in (first, second, loop.task.train)]
    assert first != second and by_path[0] == by_path[1] == by_path[2]
