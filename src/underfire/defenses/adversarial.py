"""RTSᴬ: adversarial interpretation. RTS goes on training on ADV² examples made on the fly (paper, section 5.3).

    min over the doubt   a · KL(g₀(x, c_t) ‖ g(x̂, c_t)) + b · max(0, Σ_{k = c, c_t} |g(x, k) − g₀(x, k)| − 0.02)
    x̂ = ADV² against the decoder as it is:  min  ℓ_prd(f(x̂), c_t) + λ H(g(x̂, c_t), g(x, c)),  ‖x̂ − x‖∞ ≤ ε

g₀ is the plain decoder, the teacher; H the cross-entropy of masks, KL what of it is above its least. The forged
picture's map for the forged class shall be what plain RTS says of that class in the untouched picture: it is not there,
so the explanation no longer looks like the benign one. The benign map stays. The classifier is frozen, and so
is what RTS has learnt: only the doubt learns (`rts_net.Doubt`), which sees the features and says how little they are
to be trusted. Benign maps move where benign features are doubted and nowhere else, so what an epoch has learnt is
judged, and kept, with the doubt lowered until those of photos that it has not learnt from stay where they were.

One search makes the examples, and the doubt learns from its iterates as they come (after Shafahi et al. 2019,
"Adversarial training for free"): they cost nothing beyond the search.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from underfire.attacks.adv2 import Adv2
from underfire.attacks.pgd import Ball
from underfire.attacks.search import Schedule, search
from underfire.attacks.search import Settings as SearchSettings
from underfire.core import Classifier, Goal, Images, Labels, Maps, UnderfireError, Victim, evenly
from underfire.images import maps
from underfire.interpreters.rts.card import file_digest, find, load, read_card
from underfire.interpreters.rts.net import Doubt, MaskNet
from underfire.interpreters.rts.rts import RtsA, RtsSurrogate, cross_entropy, maps_of
from underfire.train import Photos, Shown, Training, TrainSettings, seed_of

JUDGED = 64
"""Photos that the doubt is lowered by after each epoch, kept out of the training and of those that RTSᴬ is judged by in
the end."""
ATTACKED = 16
"""Of these, how many each epoch attacks; one costs some 75 F."""
JUDGED_STEPS = 20
"""Of that attack; what a patient one does is measured elsewhere (docs/defenses.md)."""
KEPT = 0.02
"""How far those photos' benign maps may move from the teacher's, L1: further photos' move some more, and 0.03 is the
paper's figure."""
WIDE = 1008
"""Weights of an output of EfficientNet-Lite0's widest look, which the rate is for. What Adam's step does to an output
grows with them: at the same rate ResNet-50's doubt, with up to 9,216, fell in its first epoch to where it has no
slope."""
LOWEST = -40.0
"""A shift of the doubt's logit under which nothing is doubted."""
STARTS = 3
"""Every so many epochs the examples start at the clean photo, else at a random place of the ball."""


@dataclass(frozen=True)
class AdversarialSettings(TrainSettings):
    """How to train on forged images; an epoch is an eighth of the photos.

    Args:
        teacher: SHA-256 of the plain decoder's file.
        share: of the photos, drawn anew for each epoch.
        eps: ε of the examples, levels.
        attack_steps: of the search that makes them.
        learn_every: steps of it between two of the doubt.
        forged: a, the weight of forged maps.
        benign: b, the weight of benign maps.
    """

    epochs: int = 16
    rate: float = 3e-3
    patience: int = 16
    teacher: str = ""
    share: float = 0.125
    eps: int = 8
    attack_steps: int = 12
    learn_every: int = 1
    forged: float = 1.0
    benign: float = 10.0


class AdversarialTraining(Training):
    """A plain decoder's doubt on its way to RTSᴬ."""

    kind = RtsA.name
    settings: AdversarialSettings

    def __init__(
        self,
        classifier: Classifier,
        photos: Photos,
        shown: Sequence[Shown],
        settings: AdversarialSettings,
        teacher: MaskNet,
        threshold: float,
        held: Collection[str] = (),
    ) -> None:
        self.teacher, self.threshold = teacher.to(classifier.head.device), threshold
        channels_last(classifier)
        super().__init__(classifier, photos, resplit(shown, held), settings)
        doubt = doubt_of(self.net)
        looks = [
            {"params": list(look.parameters()), "fan_in": next(look.parameters())[0].numel()} for look in doubt.look
        ]
        rest = {"params": [*doubt.think.parameters(), *doubt.weigh.parameters()], "fan_in": 1}
        self.optimizer = torch.optim.AdamW([*looks, rest], lr=settings.rate, weight_decay=1e-3)
        self.steps = max(1, round(settings.share * self.steps))
        self._kept = evenly(self.train, max(1, min(JUDGED, len(self.train) // 4)))
        kept = {s.photo.sha256 for s in self._kept}
        self.train = [s for s in self.train if s.photo.sha256 not in kept]

    def _start(self) -> MaskNet:
        torch.manual_seed(seed_of(self.settings.seed, "doubt"))
        net = MaskNet(self.teacher.channels, doubts=True)
        net.load_state_dict(net.state_dict() | self.teacher.state_dict())
        net.requires_grad_(False)
        doubt_of(net).requires_grad_(True)
        return net.to(self.classifier.head.device)

    def _rate(self, step: int) -> None:
        """A cosine from the start: the decoder is trained already; and a wide look's steps are as much shorter."""
        total = self.settings.epochs * self.steps
        for group in self.optimizer.param_groups:
            share = min(1.0, WIDE / group["fan_in"])
            group["lr"] = share * self.settings.rate * (0.05 + 0.95 * (1 + math.cos(math.pi * step / total)) / 2)

    def _step(self, shown: Sequence[Shown]) -> dict[str, float]:
        x = self.photos.varied(shown, f"{self.settings.seed}/{self.epoch}")
        x = x.contiguous(memory_format=torch.channels_last)
        # Only classes that are shown too: one that is only ever forged would teach that it never is there.
        sparring = Sparring(self, x, *self._classes(x, shown, self.classes, str(self.epoch)))
        ball = Ball(self.settings.eps, Schedule(2.0, 0.2, "geometric"), 0.75, self.epoch % STARTS)
        steps = self.settings.attack_steps
        how = SearchSettings(steps, lam=Schedule(1.0, 20.0, "geometric"), confidence=2.0)  # no iterate is good enough
        search(Victim(self.classifier, (sparring.rts,)), x, sparring.goal, ball, how, lambda *_: sparring)
        return sparring.means()

    def _classes(self, x: Images, shown: Sequence[Shown], among: Sequence[int], purpose: str) -> tuple[Labels, Labels]:
        """The photos' classes, and for each a random other one ``among`` these that the attacker wants."""
        wanted = []
        for s in shown:
            others = [c for c in among if c != s.label]
            wanted.append(others[seed_of(self.settings.seed, purpose, "target", s.photo.sha256) % len(others)])
        return torch.tensor([s.label for s in shown], device=x.device), torch.tensor(wanted, device=x.device)

    # -- figures ------------------------------------------------------------------------------------------------------

    @property
    def judged(self) -> Sequence[Shown]:
        """A few photos of the training's classes that are not trained on."""
        return evenly(self._kept, ATTACKED)

    @contextlib.contextmanager
    def settled(self) -> Iterator[None]:
        """The doubt is lowered until benign maps of photos that it has not learnt from stay where they were."""
        bias = doubt_of(self.net).weigh.bias
        learnt = bias.detach().clone()
        self._lower()
        yield
        with torch.no_grad():
            bias.copy_(learnt)

    @torch.no_grad()
    def _lower(self) -> None:
        self.net.eval()
        size, bias = self.settings.batch_size, doubt_of(self.net).weigh.bias
        seen = []
        for start in range(0, len(self._kept), size):
            x, y = self.photos.clean(self._kept[start : start + size])
            levels, w = self.classifier.pyramid(x), self.classifier.head[y]
            seen.append((levels, w, maps_of(self.teacher, levels, w)))
        learnt = bias.clone()

        def moved(shift: float) -> float:
            bias.copy_(learnt + shift)
            return float(torch.cat([maps.l1(maps_of(self.net, levels, w), m) for levels, w, m in seen]).mean())

        if moved(0.0) <= KEPT:
            return
        low, high = LOWEST, 0.0
        for _ in range(12):
            middle = (low + high) / 2
            low, high = (low, middle) if moved(middle) > KEPT else (middle, high)
        moved(low)

    def score(self, figures: Mapping[str, float]) -> float:
        """The farther forged maps are from benign ones the better; that benign ones stay is settled."""
        return -figures["forged_l1"]

    def figures(self, shown: Sequence[Shown], thresholds: Sequence[float]) -> dict[str, float]:
        """Those of a plain decoder, and how far the maps of benign and of forged photos are from where they were.

        Targets are the same in every epoch. An attack that misses its class has forged nothing: it counts
        as a map that has not moved.
        """
        known = super().figures(shown, thresholds)
        benign, forged, won = [], [], []
        size = self.settings.batch_size
        for start in range(0, len(shown), size):
            part = shown[start : start + size]
            x, _ = self.photos.clean(part)
            y, wanted = self._classes(x, part, range(len(self.classifier.head)), "judged")
            m, m_hat, m_teacher, reached = self._forged(x, y, wanted)
            benign.append(maps.l1(m, m_teacher))
            forged.append(maps.l1(m_hat, m) * reached)
            won.append(reached)
        means = {"benign_l1": benign, "forged_l1": forged, "forged_success": won}
        return known | {name: float(torch.cat(values).float().mean()) for name, values in means.items()}

    @torch.no_grad()
    def finish(self) -> tuple[float, dict[str, float]]:
        """The best epoch's decoder at the teacher's own t; the final figures, beside the teacher's."""
        self.net.load_state_dict(self.best_state)
        figures = self.figures(self.held, (self.threshold,))
        plain = self._of_teacher(self.held)
        figures |= {f"plain_{name}": plain[name] for name in ("saliency_metric", "drop_top")}
        counts = {"photos": float(len(self.train)), "validation_photos": float(len(self.held))}
        return self.threshold, figures | counts

    def _of_teacher(self, shown: Sequence[Shown]) -> dict[str, float]:
        """The plain figures of the plain decoder."""
        ours, self.net = self.net, self.teacher
        try:
            return Training.figures(self, shown, (self.threshold,))
        finally:
            self.net = ours

    def _forged(self, x: Images, y: Labels, wanted: Labels) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Benign maps, those after ADV² against the decoder as it is, the teacher's benign ones, and its successes."""
        judge = RtsA.around(self.classifier, self.net)
        with torch.no_grad():
            m = judge.explain(x, y)
            m_teacher = maps_of(self.teacher, self.classifier.pyramid(x), self.classifier.head[y])
        attack = Adv2.make(
            "fast", judge.name, self.settings.eps, steps=JUDGED_STEPS, surrogate={"loss": "cross-entropy"}
        )
        goal = Goal(wanted, y, {judge.name: m})
        with torch.enable_grad():
            found = attack.run(Victim(self.classifier, (judge,)), x, goal, [0] * len(x))
        reached = self.classifier.logits(found.images).argmax(1) == wanted
        return m, judge.explain(found.images, wanted), m_teacher, reached


class Sparring(RtsSurrogate):
    """The attacker's side in training; the defender learns from each iterate after the attacker has seen it."""

    def __init__(self, training: AdversarialTraining, x: Images, y: Labels, wanted: Labels) -> None:
        classifier, head = training.classifier, training.classifier.head
        with torch.no_grad():
            self.clean = classifier.pyramid(x)
            benign = maps_of(training.net, self.clean, head[y])
            self.teacher_benign = maps_of(training.teacher, self.clean, head[y])
            self.teacher_wanted = maps_of(training.teacher, self.clean, head[wanted])
            self.floor = cross_entropy(self.teacher_wanted, self.teacher_wanted)
        super().__init__(RtsA.around(classifier, training.net), Goal(wanted, y, {RtsA.name: benign}), "cross-entropy")
        self.training, self.w, self.w_wanted = training, head[y], head[wanted]
        self.steps = 0
        self.noted: list[dict[str, float]] = []

    def of_levels(self, levels: list[Tensor]) -> Maps:
        """The map that the attacker moves; what the classifier saw is kept for `advance`."""
        self.levels = [f.detach() for f in levels]
        return super().of_levels(levels)

    def advance(self, x: Images, progress: float) -> None:
        """The decoder learns from the iterate that the attacker has just left."""
        self.steps += 1
        if self.steps % self.training.settings.learn_every:
            return
        with torch.enable_grad():
            m_hat = maps_of(self.rts.net, self.levels, self.w_wanted)
            # The untouched photo is asked about both classes: doubt must come from what was made of it.
            m = maps_of(self.rts.net, self.clean, self.w)
            m_wanted = maps_of(self.rts.net, self.clean, self.w_wanted)
            s = self.training.settings
            forged = s.forged * (cross_entropy(m_hat, self.teacher_wanted) - self.floor).mean()
            stays = maps.l1(m, self.teacher_benign) + maps.l1(m_wanted, self.teacher_wanted)
            # What is allowed costs nothing: else the doubt soon falls to where nothing moves it any more.
            benign = s.benign * (stays.mean() - KEPT).clamp_min(0)
        self.training.learn(forged + benign)
        moved = float(maps.l1(m_hat.detach(), m.detach()).mean())
        self.noted.append({"forged": float(forged.detach()), "benign": float(benign.detach()), "moved": moved})

    def means(self) -> dict[str, float]:
        """Of what was noted at the steps of the decoder."""
        return {name: sum(n[name] for n in self.noted) / len(self.noted) for name in self.noted[0]}


def doubt_of(net: MaskNet) -> Doubt:
    """The part of a network that learns here."""
    if net.doubt is None:
        raise TypeError("This network has no doubt.")
    return net.doubt


def channels_last(classifier: Classifier) -> None:
    """The memory layout that a CPU trains EfficientNet-Lite0 1.4 times faster in."""
    module = getattr(classifier, "module", None)
    if isinstance(module, torch.nn.Module):
        module.to(memory_format=torch.channels_last)


def adversarial_training(
    classifier: Classifier, how: TrainSettings, plain: str | None
) -> tuple[AdversarialSettings, Callable[..., AdversarialTraining]]:
    """Settings and maker of a training that starts at a plain network's file, by default the packaged one."""
    if how.precision != "fp32":
        raise UnderfireError(f"--precision {how.precision}: --adversarial trains in float32 alone; leave it out.")
    if plain and read_card(Path(plain).expanduser()).kind == RtsA.name:
        raise UnderfireError(f"--from {plain}: this network is of an adversarial training; start from a plain one.")
    path = find(classifier, plain)
    teacher, card = load(path), read_card(path)
    settings = AdversarialSettings(teacher=file_digest(path), limit=how.limit, seed=how.seed)
    return settings, partial(AdversarialTraining, teacher=teacher, threshold=card.threshold, held=card.validation)


def resplit(shown: Sequence[Shown], held: Collection[str]) -> list[Shown]:
    """The teacher's own split, where its photos are among these: what judged it must not teach its pupil.

    Args:
        shown: photos, split anew.
        held: SHA-256 of the photos that the teacher was judged by.
    """
    classes = {s.label for s in shown if s.photo.sha256 in held}
    left = sum(s.label not in classes for s in shown)
    return [replace(s, validation=s.label in classes) for s in shown] if classes and left else list(shown)
