"""What a short ADV² makes of a network's maps: the figures that RTSᴬ is judged by."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from underfire.attacks.adv2 import adv2
from underfire.core import Classifier, Goal, Images, Labels, PerImage, Victim
from underfire.images.maps import l1
from underfire.interpreters.rts.net import MaskNet
from underfire.interpreters.rts.rts import RtsA, maps_of
from underfire.train.evaluate import Evaluator
from underfire.train.finite import refuse_values
from underfire.train.photos import LabelledPhoto, seed_of
from underfire.train.settings import AdversarialSettings, AidSettings
from underfire.train.start import Roles
from underfire.train.teacher import Teacher

JUDGED_STEPS = 20
"""Steps of the attack; what a patient one does is measured elsewhere (docs/defenses.md)."""


def figures_of(
    evaluator: Evaluator,
    net: MaskNet,
    teacher: Teacher,
    photos: Sequence[LabelledPhoto],
    thresholds: Sequence[float],
    settings: AdversarialSettings | AidSettings,
) -> dict[str, float]:
    """Compute the figures of plain RTS, and those of `forged_figures`; the classes wanted are the same every time.

    Args:
        evaluator: of the training.
        net: the network that learns.
        teacher: the plain network.
        photos: which it is judged by.
        thresholds: t; the one of the least saliency metric counts.
        settings: of the training.
    """
    found: dict[str, list[PerImage]] = {}
    classifier = evaluator.classifier
    for part, x, y in evaluator.photos.batches(photos, settings.batch_size):
        wanted = wanted_classes(part, range(len(classifier.head)), "judged", settings.seed).to(y.device)
        for name, values in forged_figures(classifier, net, teacher.net, x, y, wanted, settings.eps).items():
            found.setdefault(name, []).append(values)
    refuse_values(photos, {name: torch.cat(values) for name, values in found.items()})
    known = evaluator.figures(net, photos, thresholds)
    return known | {name: float(torch.cat(values).mean()) for name, values in found.items()}


def last_figures(
    evaluator: Evaluator, net: MaskNet, teacher: Teacher, roles: Roles, settings: AdversarialSettings | AidSettings
) -> tuple[float, dict[str, float]]:
    """Keep the teacher's t; returns it and the figures on the photos held back, beside those of the teacher."""
    t = teacher.threshold
    plain = evaluator.figures(teacher.net, roles.held, (t,))
    return t, {
        **figures_of(evaluator, net, teacher, roles.held, (t,), settings),
        **{f"plain_{name}": plain[name] for name in ("saliency_metric", "drop_top")},
        **{"photos": float(len(roles.train)), "validation_photos": float(len(roles.held))},
    }


def forged_figures(
    classifier: Classifier, net: MaskNet, teacher: MaskNet, x: Images, y: Labels, wanted: Labels, eps: int
) -> dict[str, PerImage]:
    """Attack a batch, and compare the maps before and after.

    Args:
        classifier: whose prediction is forged.
        net: the network under attack.
        teacher: the plain network.
        x: clean images.
        y: their classes.
        wanted: the classes that the attacker wants.
        eps: ε in levels of 255.

    Returns:
        `benign_l1`, from the teacher's maps of clean images; `forged_l1`, from clean images' maps to forged ones', 0
        where the attack misses its class and so has forged nothing; `forged_success`, whether it reaches it.
    """
    judge = RtsA.around(classifier, net)
    m = judge.explain(x, y)
    with torch.no_grad():
        m_teacher = maps_of(teacher, classifier.pyramid(x), classifier.head[y])
    forged = _attacked(judge, x, Goal(wanted, y, {judge.name: m}), eps)
    with torch.no_grad():
        reached = classifier.logits(forged).argmax(1) == wanted
    moved = l1(judge.explain(forged, wanted), m)
    return {"benign_l1": l1(m, m_teacher), "forged_l1": moved * reached, "forged_success": reached.float()}


def wanted_classes(photos: Sequence[LabelledPhoto], among: Sequence[int], purpose: str, seed: int = 0) -> Labels:
    """Draw for each photo a class (N,) that is another than its own, ``among`` these, which the attacker wants."""
    wanted = []
    for p in photos:
        others = [c for c in among if c != p.label]
        wanted.append(others[seed_of(seed, purpose, "target", p.photo.sha256) % len(others)])
    return torch.tensor(wanted)


@torch.enable_grad()
def _attacked(judge: RtsA, x: Images, goal: Goal, eps: int) -> Images:
    """Forge images by ADV² with the masks' cross-entropy, which has a slope where the square has none."""
    surrogate = {"loss": "cross-entropy"}
    attack = adv2.make("fast", judge.name, eps, steps=JUDGED_STEPS, surrogate=surrogate, rescue=False)
    return attack.run(Victim(judge.classifier, (judge,)), x, goal, [0] * len(x)).images
