"""AID, adversarial interpretation distillation (paper, section 5.3; method, 6.3): RTS's own objective, and apart.

    min over g   ℓ_rts(g; x, c)  −  a ‖g(x, c) − g(A(x), c_t)‖₁            A = PGD:  min ℓ_prd(f(x̂), c_t),  ‖x̂ − x‖∞ ≤ ε

The map of a picture and the map that the analyst is shown of its forgery, each for the class that is predicted there,
are pushed apart, so that a forged prediction shows. As published, A knows the classifier alone. The whole decoder
learns, from plain RTS on. ‖·‖₁ is the mean over the map, so that a does not depend on its size.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.attacks.search import Ball, Schedule
from underfire.core import Images, Labels
from underfire.images.maps import l1
from underfire.interpreters.rts.net import MaskNet
from underfire.interpreters.rts.rts import RtsAid, maps_of
from underfire.train.evaluate import Evaluator
from underfire.train.forged import figures_of, last_figures, wanted_classes
from underfire.train.loop import EpochResult
from underfire.train.photos import LabelledPhoto, Photos, seed_of
from underfire.train.rts import EPOCH_THRESHOLDS, RtsTask
from underfire.train.settings import AidSettings
from underfire.train.start import channels_last, roles
from underfire.train.teacher import Teacher

JUDGED = 32
"""Photos that choose the epoch: neither learnt from nor among those of the final figures."""
STARTS = 3
"""Every so many epochs PGD starts at the clean image, else at a random place of the ball."""
STEP, MOMENTUM = Schedule(2.0, 0.5, "geometric"), 0.75
"""Of PGD, η in levels and μ."""
KEPT = 0.03
"""How far benign maps may move from plain RTS's, L1, before an epoch counts as worse: the paper's figure."""
STRAYS = 10.0
"""What a benign L1 above it costs, in forged L1."""


@final
class AidTask:
    """RTS with AID.

    Args:
        photos: where the photos lie, with their classifier.
        labelled: the same, labelled and split.
        settings: how to train.
        teacher: the plain network that it starts from.
    """

    kind: ClassVar[str] = RtsAid.name

    def __init__(
        self, photos: Photos, labelled: Sequence[LabelledPhoto], settings: AidSettings, teacher: Teacher
    ) -> None:
        self.photos, self.classifier, self.settings, self.teacher = photos, photos.classifier, settings, teacher
        channels_last(self.classifier)
        self.roles = own = roles(labelled, teacher.validation, JUDGED)
        self.judged = own.judged
        self.rts = RtsTask(photos, [*own.train, *own.held], settings)
        self.rts.net.load_state_dict(teacher.net.state_dict())
        self.net: MaskNet = self.rts.net
        self.optimizer: torch.optim.Optimizer = self.rts.optimizer
        self.evaluator: Evaluator = self.rts.evaluator
        self.train: Sequence[LabelledPhoto] = self.rts.train
        self.held: Sequence[LabelledPhoto] = self.rts.held
        self.test: Sequence[LabelledPhoto] = ()
        self.average: MaskNet | None = None
        self.steps = self.rts.steps

    def set_rate(self, step: int, total: int) -> None:
        """Set Adam's rate, as for plain RTS."""
        self.rts.set_rate(step, total)

    def step(self, epoch: int, photos: Sequence[LabelledPhoto]) -> dict[str, float]:
        """Learn from a batch and its forgeries; returns the means of the objective's terms."""
        purpose = f"{self.settings.seed}/{epoch}"
        x, y = self.photos.augmented(photos, purpose), self.photos.labels(photos)
        x = x.contiguous(memory_format=torch.channels_last)
        wanted = wanted_classes(photos, self.rts.classes, str(epoch), self.settings.seed).to(y.device)
        m, terms = self.rts.terms(x, y, [seed_of(purpose, "fill", p.photo.sha256) for p in photos])
        m_hat = self._map_of_forged(self.attacked(x, wanted, epoch), wanted)
        terms["apart"] = -self.settings.apart * l1(m, m_hat)
        return self.rts.learn(terms)

    def attacked(self, x: Images, wanted: Labels, epoch: int) -> Images:
        """Compute A(x) (N, 3, H, W): PGD towards the classes ``wanted`` (N,), whatever becomes of the map."""
        walk = Ball(self.settings.eps, STEP, MOMENTUM, epoch % STARTS).walk(x)
        for i in range(self.settings.attack_steps):
            loss = F.cross_entropy(self.classifier.logits(walk.images()), wanted, reduction="none")
            walk.step(loss, i / self.settings.attack_steps)
        return walk.images().detach()

    def _map_of_forged(self, forged: Images, wanted: Labels) -> Tensor:
        with torch.no_grad():
            levels = self.classifier.pyramid(forged)
        return maps_of(self.net, levels, self.classifier.head[wanted])

    # -- figures ------------------------------------------------------------------------------------------------------

    def judge(self) -> EpochResult:
        """Judge the network by how far forged maps are from benign ones; benign maps that strayed count against it."""
        figures = self._figures(self.judged, EPOCH_THRESHOLDS)
        strayed = max(0.0, figures["benign_l1"] - KEPT)
        return EpochResult(figures, STRAYS * strayed - figures["forged_l1"], copy.deepcopy(self.net.state_dict()))

    def finish(self) -> tuple[float, dict[str, float]]:
        """Return t and the figures of the network."""
        return last_figures(self.evaluator, self.net, self.teacher, self.roles, self.settings)

    def _figures(self, photos: Sequence[LabelledPhoto], thresholds: Sequence[float]) -> dict[str, float]:
        """Compute the figures of plain RTS, and those of images forged by ADV², which AID has never met."""
        return figures_of(self.evaluator, self.net, self.teacher, photos, thresholds, self.settings)
