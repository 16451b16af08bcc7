"""RTSᴬ: RTS goes on training on ADV² examples that are forged on the way (paper, section 5.3; method, section 6.2).

    min over the doubt   a · KL(g₀(x, c_t) ‖ g(x̂, c_t)) + b · max(0, Σ_{k = c, c_t} |g(x, k) − g₀(x, k)| − 0.02)
    x̂ = ADV² against the network as it is:  min  ℓ_prd(f(x̂), c_t) + λ H(g(x̂, c_t), g(x, c)),  ‖x̂ − x‖∞ ≤ ε

g₀ is the plain network, the teacher; H the cross-entropy of masks, KL what of it is above its least. The map of a
forged image for the forged class shall be what plain RTS says of that class in the clean image: it is not there, so the
explanation no longer looks like the benign one. The benign map stays. The classifier is frozen, and so is what RTS has
learnt: only the doubt learns.

One search forges the images, and the doubt learns from its iterates as they come (after Shafahi et al. 2019,
"Adversarial training for free"): they cost nothing beyond the search.

    for i in range(attack_steps):   levels = forge(walk, lesson)      ADV² takes a step
                                    learn(levels, lesson)             and the doubt one
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.attacks.search import Ball, Schedule
from underfire.core import Images, Labels, Maps, PerImage, SearchWalk, evenly
from underfire.images.maps import l1
from underfire.interpreters.rts.net import MaskNet
from underfire.interpreters.rts.rts import RtsA, cross_entropy, maps_of
from underfire.train.doubt import KEPT, doubt_of, doubting, lowered, optimizer_of, set_rates
from underfire.train.evaluate import Evaluator
from underfire.train.forged import figures_of, last_figures, wanted_classes
from underfire.train.loop import EpochResult, descend
from underfire.train.photos import LabelledPhoto, Photos, classes_of
from underfire.train.rts import EPOCH_THRESHOLDS
from underfire.train.settings import AdversarialSettings
from underfire.train.start import channels_last, roles
from underfire.train.teacher import Teacher

JUDGED = 64
"""Photos that the doubt is lowered by after each epoch, neither learnt from nor among those of the final figures."""
ATTACKED = 16
"""Of these, how many each epoch attacks; one costs some 75 F."""
STARTS = 3
"""Every so many epochs the search starts at the clean image, else at a random place of the ball."""
STEP, MOMENTUM = Schedule(2.0, 0.2, "geometric"), 0.75
"""Of the search, η in levels and μ."""
LAM = Schedule(1.0, 20.0, "geometric")
"""λ of the search."""


@dataclass(frozen=True)
class Lesson:
    """What the attacker wants of a batch, and what the teacher says of it.

    Args:
        wanted: c_t.
        levels: the clean images' pyramid.
        w: the head's rows of their classes c.
        w_wanted: those of c_t.
        benign: g(x, c) of the network as it was at the start, which the attacker wants to see again.
        teacher: g₀(x, c).
        teacher_wanted: g₀(x, c_t).
        floor: the least that the cross-entropy to `teacher_wanted` can be.
    """

    wanted: Labels
    levels: list[Tensor]
    w: Tensor
    w_wanted: Tensor
    benign: Maps
    teacher: Maps
    teacher_wanted: Maps
    floor: PerImage


@final
class AdversarialTask:
    """RTSᴬ.

    Args:
        photos: where the photos lie, with their classifier.
        labelled: the same, labelled and split.
        settings: how to train.
        teacher: the plain network that it starts from.
    """

    kind: ClassVar[str] = RtsA.name

    def __init__(
        self, photos: Photos, labelled: Sequence[LabelledPhoto], settings: AdversarialSettings, teacher: Teacher
    ) -> None:
        self.photos, self.classifier, self.settings, self.teacher = photos, photos.classifier, settings, teacher
        channels_last(self.classifier)
        self.evaluator = Evaluator(photos, settings.batch_size, settings.seed)
        self.roles = own = roles(labelled, teacher.validation, JUDGED)
        self.train, self.held, self.judged = own.train, own.held, own.judged
        self.test: Sequence[LabelledPhoto] = ()
        known = [*own.train, *own.judged]
        # Only classes that are shown too: one that is only ever forged would teach that it never is there.
        self.classes = classes_of(known)
        self.steps = max(1, round(settings.share * -(-len(known) // settings.batch_size)))
        self.net = doubting(teacher.net, settings.seed).to(self.classifier.head.device)
        self.average: MaskNet | None = None
        self.optimizer = optimizer_of(doubt_of(self.net), settings.rate)

    def set_rate(self, step: int, total: int) -> None:
        """Set Adam's rates: no warm-up, since the network is trained already."""
        set_rates(self.optimizer, self.settings.rate, step, total)

    # -- a step: the search and the doubt in turn ---------------------------------------------------------------------

    def step(self, epoch: int, photos: Sequence[LabelledPhoto]) -> dict[str, float]:
        """Forge a batch by ADV², and learn from every iterate of the search; returns the means over these."""
        s = self.settings
        x = self.photos.augmented(photos, f"{s.seed}/{epoch}").contiguous(memory_format=torch.channels_last)
        lesson = self.lesson(x, self.photos.labels(photos), self._wanted(photos, self.classes, str(epoch)))
        walk = Ball(s.eps, STEP, MOMENTUM, epoch % STARTS).walk(x)
        noted = []
        for i in range(s.attack_steps):
            levels = self._forge(walk, lesson, i / s.attack_steps)
            if (i + 1) % s.learn_every == 0:
                noted.append(self.learn(levels, lesson))
        return {name: sum(terms[name] for terms in noted) / len(noted) for name in noted[0]}

    @torch.no_grad()
    def lesson(self, x: Images, y: Labels, wanted: Labels) -> Lesson:
        """Prepare what the search and the doubt need of clean images ``x`` of classes ``y``."""
        levels, w, w_wanted = self.classifier.pyramid(x), self.classifier.head[y], self.classifier.head[wanted]
        teacher = maps_of(self.teacher.net, levels, w)
        teacher_wanted = maps_of(self.teacher.net, levels, w_wanted)
        floor = cross_entropy(teacher_wanted, teacher_wanted)
        benign = maps_of(self.net, levels, w)
        return Lesson(wanted, levels, w, w_wanted, benign, teacher, teacher_wanted, floor)

    def _forge(self, walk: SearchWalk, lesson: Lesson, progress: float) -> list[Tensor]:
        """Take one step of ADV²; returns the pyramid of the iterate that it has left."""
        levels = self.classifier.pyramid(walk.images())
        m_hat = maps_of(self.net, levels, lesson.w_wanted)
        prediction = F.cross_entropy(self.classifier.scores(levels[-1]), lesson.wanted, reduction="none")
        walk.step(prediction + LAM.at(progress) * cross_entropy(m_hat, lesson.benign), progress)
        return [f.detach() for f in levels]

    def learn(self, levels: list[Tensor], lesson: Lesson) -> dict[str, float]:
        """Let the doubt take one step, from the pyramid of a forged batch; returns the terms' means."""
        m_hat = maps_of(self.net, levels, lesson.w_wanted)
        # The clean image is asked about both classes: doubt must come from what was made of it.
        m, m_wanted = maps_of(self.net, lesson.levels, lesson.w), maps_of(self.net, lesson.levels, lesson.w_wanted)
        forged = self.settings.forged * (cross_entropy(m_hat, lesson.teacher_wanted) - lesson.floor).mean()
        stays = l1(m, lesson.teacher) + l1(m_wanted, lesson.teacher_wanted)
        # What is allowed costs nothing: else the doubt soon falls to where nothing moves it any more.
        benign = self.settings.benign * (stays.mean() - KEPT).clamp_min(0)
        descend(self.net, self.optimizer, forged + benign)
        moved = float(l1(m_hat.detach(), m.detach()).mean())
        return {"forged": float(forged.detach()), "benign": float(benign.detach()), "moved": moved}

    def _wanted(self, photos: Sequence[LabelledPhoto], among: Sequence[int], purpose: str) -> Labels:
        """Draw for each photo another class ``among`` these, which the attacker wants."""
        return wanted_classes(photos, among, purpose, self.settings.seed).to(self.classifier.head.device)

    # -- figures ------------------------------------------------------------------------------------------------------

    def judge(self) -> EpochResult:
        """Judge the lowered doubt by how far the maps of forged images are from benign ones: the farther the better."""
        with lowered(self.net, self.teacher.net, self.judged, self.evaluator):
            figures = self._figures(evenly(self.judged, ATTACKED), EPOCH_THRESHOLDS)
            return EpochResult(figures, -figures["forged_l1"], copy.deepcopy(self.net.state_dict()))

    def finish(self) -> tuple[float, dict[str, float]]:
        """Return t and the figures of the network."""
        return last_figures(self.evaluator, self.net, self.teacher, self.roles, self.settings)

    def _figures(self, photos: Sequence[LabelledPhoto], thresholds: Sequence[float]) -> dict[str, float]:
        return figures_of(self.evaluator, self.net, self.teacher, photos, thresholds, self.settings)
