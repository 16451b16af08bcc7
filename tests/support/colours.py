"""A classifier of coloured squares, small enough to train RTS for in seconds, and photos for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from underfire.classifiers.base import TorchClassifier, wrap
from underfire.interpreters.rts.net import MaskNet
from underfire.train.loop import TrainListener
from underfire.train.rts import RtsTask
from underfire.train.run import Trained, fit
from underfire.train.settings import TrainSettings

SIZE, K = 64, 4


class Colours(nn.Module):
    """Sees coloured squares: four detectors on 4×4 averages, then plain averaging to strides 8, 16, 32."""

    def __init__(self, gain: float = 20.0) -> None:
        super().__init__()
        self.see = nn.Conv2d(3, K, 1)
        self.head = nn.Linear(K, K)
        third = 1 / 3
        self.see.weight.data = torch.tensor([[1, -1, -1], [-1, 1, -1], [-1, -1, 1], [third, third, third]])[
            ..., None, None
        ]
        self.see.bias = nn.Parameter(torch.tensor([-0.1, -0.1, -0.1, -0.9]))
        self.head.weight.data = gain * torch.eye(K)
        self.head.bias.data = torch.zeros(K)

    def levels(self, x: Tensor) -> list[Tensor]:
        out = [F.relu(self.see(F.avg_pool2d(x, 4)))]
        while len(out) < 4:
            out.append(F.avg_pool2d(out[-1], 2))
        return out

    def last(self, x: Tensor) -> Tensor:
        return self.levels(x)[-1]

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.last(x).mean((2, 3)))
        return logits


def colours(gain: float = 20.0) -> TorchClassifier:
    return wrapped(Colours(gain), "colours")


def wrapped(net: Colours, name: str) -> TorchClassifier:
    return wrap(
        net,
        input_size=SIZE,
        mean=(0, 0, 0),
        std=(1, 1, 1),
        name=name,
        features=net.last,
        pyramid=net.levels,
    )


def squares(folder: Path, n: int) -> Path:
    """Grey noise with one square of the class's colour at a random place."""
    folder.mkdir(exist_ok=True)
    for i in range(n):
        rng = np.random.default_rng(i)
        picture = rng.integers(90, 130, (80, 80, 3)).astype(np.uint8)
        side = int(rng.integers(20, 36))
        top, left = rng.integers(0, 80 - side, 2)
        colour = [(230, 40, 30), (30, 220, 40), (40, 30, 230), (250, 250, 250)][i % K]
        picture[top : top + side, left : left + side] = colour
        Image.fromarray(picture).save(folder / f"{i:03d}.png")
    return folder


def random_maps(n: int = 3, side: int = 8) -> Tensor:
    return torch.rand(n, side, side, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def started(classifier: TorchClassifier, x: Tensor, y: Tensor, doubts: bool = False) -> MaskNet:
    """A network as training starts from."""
    levels, head = [f.float() for f in classifier.pyramid(x)], classifier.head.float()
    net = MaskNet([f.shape[1] for f in levels], doubts)
    net.start(levels, head[y], head, torch.Generator().manual_seed(0))
    return net


def few(**changes: object) -> TrainSettings:
    """Settings of a short training."""
    return replace(TrainSettings(epochs=3, batch_size=8, test=0.0), **changes)  # type: ignore[arg-type]


def fitted(photos: Path, settings: TrainSettings, out: Path, listener: TrainListener | None = None) -> Trained:
    """Train plain RTS on photos of coloured squares."""
    return fit(colours(), str(photos), settings, partial(RtsTask, settings=settings), out, listener)


class Noted:
    """Keeps the figures; stops like a kill after an epoch."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.seen: list[dict[str, float]] = []
        self.terms: list[dict[str, float]] = []
        self.stop_after = stop_after

    def begin(self, photos: int, validation: int, epochs: int, steps: int, epoch: int) -> None:
        """Nothing to keep."""

    def step(self, epoch: int, terms: Mapping[str, float]) -> None:
        if self.stop_after is not None and epoch >= self.stop_after:
            raise KeyboardInterrupt
        self.terms.append(dict(terms))

    def figures(self, epoch: int, figures: Mapping[str, float], best: bool) -> None:
        self.seen.append(dict(figures))
