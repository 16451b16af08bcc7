"""RTS: a network learns small, smooth masks that keep the class, and without which it is gone (see `objective`).

Each photo is also asked about a class that it does not show, whose mask shall be empty.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import ClassVar, final

import numpy as np
import torch
from torch import Tensor

from underfire.core import Images, Labels, Maps, PerImage, evenly
from underfire.interpreters.rts.net import MaskNet
from underfire.interpreters.rts.rts import Rts, maps_of
from underfire.metrics.estimate import mean
from underfire.train.evaluate import Evaluator
from underfire.train.loop import EpochResult, descend
from underfire.train.objective import area, fill, objective
from underfire.train.photos import LabelledPhoto, Photos, classes_of, seed_of
from underfire.train.settings import TrainSettings

START_PHOTOS = 64
"""Photos that the network's standardisation is set by."""
THRESHOLDS = tuple(round(0.1 * i, 1) for i in range(1, 10))
THRESHOLD_PHOTOS = 160
"""Photos learnt from that choose the final t."""
EPOCH_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
"""An epoch is judged by the best of these."""
WARMUP = 50
"""Steps in which the learning rate rises."""
LIKELIEST = 5
"""Classes that the classifier holds for the likeliest: none of them counts as absent."""


@final
class RtsTask:
    """Plain RTS.

    Args:
        photos: where the photos lie, with their classifier.
        labelled: the same, labelled and split.
        settings: how to train.
    """

    kind: ClassVar[str] = Rts.name

    def __init__(self, photos: Photos, labelled: Sequence[LabelledPhoto], settings: TrainSettings) -> None:
        self.photos, self.classifier, self.settings = photos, photos.classifier, settings
        self.evaluator = Evaluator(photos, settings.batch_size, settings.seed)
        self.train: Sequence[LabelledPhoto] = [p for p in labelled if not p.validation and not p.test]
        self.held: Sequence[LabelledPhoto] = [p for p in labelled if p.validation]
        self.test: Sequence[LabelledPhoto] = [p for p in labelled if p.test]
        # Only classes that are shown too: one that is never there would learn that it never is.
        self.classes = classes_of(self.train)
        self.steps = -(-len(self.train) // settings.batch_size)
        self.net = self._started()
        self.average = copy.deepcopy(self.net) if settings.average else None
        self.optimizer: torch.optim.Optimizer = torch.optim.AdamW(
            self.net.parameters(), lr=settings.rate, weight_decay=1e-3
        )

    def _started(self) -> MaskNet:
        torch.manual_seed(seed_of(self.settings.seed, "net"))
        generator = torch.Generator().manual_seed(seed_of(self.settings.seed, "gate"))
        x, y = self.photos.clean(self.train[:START_PHOTOS])
        head = self.classifier.head
        with torch.no_grad():
            levels = self.classifier.pyramid(x)
            net = MaskNet([f.shape[1] for f in levels]).to(x.device)
            net.start(levels, head[y], head, generator)
        return net

    def set_rate(self, step: int, total: int) -> None:
        """Set Adam's rate: up over the first steps, then down to a hundredth on a cosine."""
        warm = min(1.0, (step + 1) / min(WARMUP, total))
        cosine = 0.01 + 0.99 * (1 + math.cos(math.pi * step / total)) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.rate * warm * cosine

    def step(self, epoch: int, photos: Sequence[LabelledPhoto]) -> dict[str, float]:
        """Learn from a batch; returns the means of the objective's terms."""
        purpose = f"{self.settings.seed}/{epoch}"
        x = self.photos.augmented(photos, purpose)
        y = self.photos.labels(photos)
        _, terms = self.terms(x, y, [seed_of(purpose, "fill", p.photo.sha256) for p in photos])
        return self.learn(terms)

    def learn(self, terms: dict[str, PerImage]) -> dict[str, float]:
        """Take a step down the sum of the terms; returns their means."""
        descend(self.net, self.optimizer, torch.stack(list(terms.values())).sum(0).mean())
        if self.average is not None:
            follow(self.average, self.net, self.settings.average)
        return {name: float(term.detach().mean()) for name, term in terms.items()}

    def terms(self, x: Images, y: Labels, seeds: Sequence[int]) -> tuple[Maps, dict[str, PerImage]]:
        """Compute the maps (N, h, w) of images for their classes, and the objective's weighted terms, (N,) each."""
        m, m_absent = self._masks(x, y, seeds)
        lam = self.settings.lam
        with self._cast(x):
            terms = objective(self.classifier.logits, x, y, m, fill(x, seeds), lam)
        terms["absent"] = lam.absent * area(m_absent)
        return m, terms

    def _masks(self, x: Images, y: Labels, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Compute the masks of the photos' classes, and of one for each that it does not show."""
        with torch.no_grad(), self._cast(x):
            levels = self.classifier.pyramid(x)
            z = self.classifier.scores(levels[-1]).float()
        other = absent(z, y, seeds, self.classes)
        both = maps_of(self.net, [torch.cat([f, f]) for f in levels], self.classifier.head[torch.cat([y, other])])
        m, m_absent = both.chunk(2)
        return m, m_absent

    def _cast(self, x: Tensor) -> torch.autocast:
        return torch.autocast(x.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16")

    def judge(self) -> EpochResult:
        """Judge the network by photos of classes that it does not learn from."""
        net = self.net if self.average is None else self.average
        figures = self.evaluator.figures(net, self.held, EPOCH_THRESHOLDS)
        return EpochResult(figures, figures["saliency_metric"], copy.deepcopy(net.state_dict()))

    def finish(self) -> tuple[float, dict[str, float]]:
        """Choose t by photos learnt from, for the network and for a blob in the centre; returns t and the figures.

        The figures are those of photos that chose nothing. `lead` is by how much the map's saliency metric is lower
        than the blob's, photo by photo, with the ends of its 95 % interval.
        """
        some, judged = evenly(self.train, THRESHOLD_PHOTOS), self.test or self.held
        ours = self.evaluator.saliency(self.net, some, THRESHOLDS)
        blobs = self.evaluator.saliency(self.net, some, THRESHOLDS, blob=True)
        t, t_blob = min(THRESHOLDS, key=ours.__getitem__), min(THRESHOLDS, key=blobs.__getitem__)
        figures = self.evaluator.figures(self.net, judged, (t,))
        of_blob = self.evaluator.each(self.net, judged, t_blob, blob=True)
        figures["saliency_metric_centre_blob"] = float(np.mean(of_blob))
        figures |= _lead(of_blob, self.evaluator.each(self.net, judged, t))
        figures["drop_ratio"] = figures["drop_top"] / max(1e-6, figures["drop_random"])
        sizes = {"photos": self.train, "validation_photos": self.held, "test_photos": self.test}
        return t, figures | {name: float(len(some)) for name, some in sizes.items()}


def _lead(of_blob: Sequence[float], of_map: Sequence[float]) -> dict[str, float]:
    """Compute the mean paired difference and the ends of its interval; without ends of a single photo."""
    lead = mean([b - m for b, m in zip(of_blob, of_map, strict=True)])
    ends = {"lead": lead.value, "lead_low": lead.low, "lead_high": lead.high}
    return {name: value for name, value in ends.items() if value is not None}


@torch.no_grad()
def follow(average: MaskNet, net: MaskNet, decay: float) -> None:
    """Move averaged weights towards the network's by 1 − ``decay``."""
    for mine, theirs in zip(average.parameters(), net.parameters(), strict=True):
        mine.lerp_(theirs, 1 - decay)


def absent(z: Tensor, y: Labels, seeds: Sequence[int], classes: Sequence[int]) -> Labels:
    """Draw for each image one of ``classes`` that is not among its likeliest few, from its seed."""
    out = []
    for row, seed in enumerate(seeds):
        likely = {*z[row].topk(min(LIKELIEST, len(classes) - 1)).indices.tolist(), int(y[row])}
        allowed = [c for c in classes if c not in likely] or [c for c in classes if c != int(y[row])]
        out.append(allowed[seed % len(allowed)])
    return torch.tensor(out, device=y.device)
