"""The training loop, one for both tasks: epochs over the photos, the best network kept, a checkpoint after each epoch.

for epoch:  for batch:  task.set_rate(step, total);  task.step(epoch, batch)
task.judge() -> figures, score             the network of the least score is kept
task.finish()                                          the final figures, of the best network
"""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, final

import torch
from torch import Tensor

from underfire.core import DamagedFileError, ImageErrors, MismatchError
from underfire.core.files import write_whole
from underfire.interpreters.rts.net import MaskNet
from underfire.train.evaluate import Evaluator
from underfire.train.finite import NotFiniteError, not_finite
from underfire.train.photos import LabelledPhoto, seed_of
from underfire.train.settings import TrainSettings


class TrainListener(Protocol):
    """Who hears how a training goes on."""

    def begin(self, photos: int, validation: int, epochs: int, steps: int, epoch: int) -> None:
        """Hear that it starts.

        Args:
            photos: so many it learns from.
            validation: so many it is judged by in the end.
            epochs: at most so many.
            steps: in each epoch.
            epoch: so many are done already.
        """

    def step(self, epoch: int, terms: Mapping[str, float]) -> None:
        """Hear of a step, with the batch means of the objective's terms; ``epoch`` counts from 0."""

    def figures(self, epoch: int, figures: Mapping[str, float], best: bool) -> None:
        """Hear what the network is worth after ``epoch`` epochs, and whether it is the best so far."""


class Nobody:
    """A listener that does nothing."""

    def begin(self, photos: int, validation: int, epochs: int, steps: int, epoch: int) -> None:
        """Ignore it."""

    def step(self, epoch: int, terms: Mapping[str, float]) -> None:
        """Ignore it."""

    def figures(self, epoch: int, figures: Mapping[str, float], best: bool) -> None:
        """Ignore it."""


@dataclass(frozen=True)
class EpochResult:
    """What a network is worth after an epoch.

    Args:
        figures: by name.
        score: lower is better.
        state: the network's weights, as it would be used; a copy.
    """

    figures: dict[str, float]
    score: float
    state: dict[str, Any]


class Task(Protocol):
    """What a network is trained for and judged by: `RtsTask` or `AdversarialTask`."""

    kind: ClassVar[str]
    """The interpreter that the network is for."""
    net: MaskNet
    optimizer: torch.optim.Optimizer
    evaluator: Evaluator
    train: Sequence[LabelledPhoto]
    """Photos that the network learns from."""
    held: Sequence[LabelledPhoto]
    """Photos of other classes, which choose the best epoch."""
    test: Sequence[LabelledPhoto]
    """Photos of still others, which choose nothing, for the final figures; empty: `held` is for these too."""
    average: MaskNet | None
    """The network's weights averaged over the last steps, where these are what counts."""
    steps: int
    """Batches of an epoch."""

    def set_rate(self, step: int, total: int) -> None:
        """Set the learning rate for one of ``total`` steps."""

    def step(self, epoch: int, photos: Sequence[LabelledPhoto]) -> dict[str, float]:
        """Learn from a batch; returns the means of the objective's terms."""

    def judge(self) -> EpochResult:
        """Judge the network after an epoch; the training goes on with it as it was."""

    def finish(self) -> tuple[float, dict[str, float]]:
        """Choose t for the network as it is; returns it with the final figures."""


@final
class TrainingLoop:
    """A task on its way through the epochs.

    Args:
        task: what is trained.
        settings: how many epochs, how long without a better one, photos a batch, and the seed of their order.
    """

    def __init__(self, task: Task, settings: TrainSettings) -> None:
        self.task, self.settings = task, settings
        self.epoch, self.best, self.best_epoch = 0, math.inf, 0
        self.best_state: dict[str, Any] = copy.deepcopy(task.net.state_dict())
        self.history: list[dict[str, float]] = []

    @property
    def over(self) -> bool:
        """Whether all epochs are run, or none was better for too long."""
        return self.epoch >= self.settings.epochs or self.epoch - self.best_epoch >= self.settings.patience

    def run_epoch(self, listener: TrainListener) -> None:
        """Pass over the photos once, in an order of the epoch's own, and judge the network.

        Raises:
            NotFiniteError: a loss, a gradient or a figure is not finite.
        """
        self.task.net.train()
        done, total = self.epoch * self.task.steps, self.settings.epochs * self.task.steps
        for step, photos in enumerate(self._batches()):
            self.task.set_rate(done + step, total)
            listener.step(self.epoch, self._step(photos))
        self.epoch += 1
        judgement = self.task.judge()
        better = judgement.score < self.best
        if better:
            self.best, self.best_epoch, self.best_state = judgement.score, self.epoch, judgement.state
        self.history.append(judgement.figures)
        listener.figures(self.epoch, judgement.figures, better)

    def _step(self, photos: Sequence[LabelledPhoto]) -> dict[str, float]:
        """Learn from a batch; where something is not finite, find at which of its photos."""
        try:
            return self.task.step(self.epoch, photos)
        except (NotFiniteError, ImageErrors):
            alone = [p for p in photos if not self._learns_from(p)]
            raise not_finite("the loss or its gradient", alone or photos) from None

    def _learns_from(self, photo: LabelledPhoto) -> bool:
        try:
            self.task.step(self.epoch, [photo])
        except (NotFiniteError, ImageErrors):
            return False
        return True

    def _batches(self) -> Iterator[list[LabelledPhoto]]:
        train, generator = (
            self.task.train,
            torch.Generator().manual_seed(seed_of(self.settings.seed, "order", self.epoch)),
        )
        order = torch.randperm(len(train), generator=generator)
        for rows in torch.split(order, self.settings.batch_size)[: self.task.steps]:
            yield [train[i] for i in rows.tolist()]

    def finish(self) -> tuple[float, dict[str, float]]:
        """Go back to the best epoch's network; returns its t and its final figures.

        Raises:
            NotFiniteError: no epoch was the best, or a final figure is not finite.
        """
        if not self.best_epoch:  # a checkpoint from before figures were looked at
            raise NotFiniteError("No epoch of this training has figures: delete its checkpoint to start again.")
        self.task.net.load_state_dict(self.best_state)
        return self.task.finish()

    def save(self, path: Path, fingerprint: str) -> None:
        """Write the whole state; a kill meanwhile leaves the file as it was."""
        content = {
            "fingerprint": fingerprint,
            "net": self.task.net.state_dict(),
            "average": None if self.task.average is None else self.task.average.state_dict(),
            "best_net": self.best_state,
            "optimizer": self.task.optimizer.state_dict(),
            "epoch": self.epoch,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "history": self.history,
        }
        buffer = io.BytesIO()
        torch.save(content, buffer)
        write_whole(path, buffer.getvalue())

    def resume(self, path: Path, fingerprints: Collection[str]) -> None:
        """Go on from a checkpoint that has one of these fingerprints.

        Raises:
            UnderfireError: it is damaged, or of a training with other photos or settings.
        """
        content = _checkpoint(path, self.task.evaluator.classifier.head.device)
        if content.get("fingerprint") not in fingerprints:
            raise MismatchError(
                f"'{path}' belongs to a training with other photos, settings or another classifier: delete it to start "
                "again, or give another --out."
            )
        self.task.net.load_state_dict(content["net"])
        if self.task.average is not None:
            self.task.average.load_state_dict(content["average"])
        self.best_state = content["best_net"]
        self.task.optimizer.load_state_dict(content["optimizer"])
        self.epoch, self.best, self.best_epoch = content["epoch"], content["best"], content["best_epoch"]
        self.history = content["history"]


def _checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, pickle.UnpicklingError) as e:
        raise DamagedFileError(f"The checkpoint '{path}' is damaged: delete it, and the training starts again.") from e
    return content


def descend(net: MaskNet, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """Step down a loss once; gradients are clipped to a norm of 1 over all weights that learn.

    Raises:
        NotFiniteError: the loss or its gradient is not finite; the network is as it was.
    """
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    norm = torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    if not bool((loss.detach() + norm).isfinite()):
        raise NotFiniteError("The loss or its gradient is not finite.")
    optimizer.step()
