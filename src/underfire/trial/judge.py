"""Judge: adversarial images as the victim sees them, with maps from the real interpreter (method, 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from underfire.core import Maps
from underfire.heads import head_named
from underfire.images import maps, pixels
from underfire.interpreters.checked import explain
from underfire.trial.batch import Batch, GoalMaps, logits
from underfire.trial.load import Levels
from underfire.trial.system import System


@dataclass(frozen=True)
class Judgement:
    """What the victim sees of one image: the columns of its record that are called the same."""

    predicted_class: int
    predicted_class_name: str
    predicted_confidence: float
    success: bool
    confidence: float
    map_l1: float
    map_iou: float
    map_rank: float | None
    iou_curve: list[float | None]
    benign_l1: float
    benign_iou: float
    target_l1: float
    judge_passes: float
    map_rank_shown: float


@dataclass(frozen=True)
class Judged:
    """What the victim sees of N adversarial images.

    Args:
        clean: the photos that they were made of; its errors say why others have no judgement.
        judgements: (N,) by image.
        maps: (N, h, w) in float64.
        lost: place in the unit -> what is known of a picture that was made, but has no map: the columns of its record
            about the prediction; none where its scores are not finite.
    """

    clean: Batch
    judgements: tuple[Judgement, ...]
    maps: Maps
    lost: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


@torch.no_grad()
def judge(system: System, name: str, clean: Batch, levels: Levels) -> Judged:
    """Look at adversarial pictures with the classifier and one of its interpreters.

    Args:
        system: who judges.
        name: its interpreter.
        clean: the photos that the pictures were made of; those that lack a goal map there are set aside.
        levels: (N, H, W, C) the pictures, as read back from the PNGs.
    """
    levels = levels[clean.outside(clean.goals[name].errors).numpy()]
    clean = clean.without(clean.goals[name].errors)
    x = pixels.to_tensor(levels).to(system.device)
    with system.classifier.meter.counting(len(x)) as spent:
        z = logits(system, x).double()
        m, lacking = explain(system.interpreters[name], x, clean.target)
    for n in (~z.isfinite().all(1)).nonzero()[:, 0].tolist():
        lacking[n] = "the classifier's scores of the adversarial picture are not finite."
    goal = clean.goals[name]
    judgements = tuple(
        judgement(z[n], clean, n, m[n], goal, float(spent.passes[n])) for n in range(len(x)) if n not in lacking
    )
    errors = clean.told(lacking)
    lost = {clean.rows[n]: predicted(z[n], clean, n) for n in lacking}
    return Judged(clean.without(errors), judgements, m[clean.outside(errors)], lost)


def predicted(z: Tensor, clean: Batch, n: int) -> dict[str, Any]:
    """Say what the classifier makes of a picture with logits ``z`` (K,); nothing where they are not finite.

    Args:
        z: its logits in float64.
        clean: the photos, with the classes that the attack wanted and those of the clean images.
        n: which of them it was made of.
    """
    if not bool(z.isfinite().all()):
        return {}
    head, target, source = head_named(clean.head), clean.target[n : n + 1].cpu(), clean.source[n : n + 1].cpu()
    z = z[None].cpu()
    found, p = int(z.argmax()), head.probabilities(z)[0]
    return {
        "predicted_class": found,
        "predicted_class_name": clean.classes.names[found],
        "predicted_confidence": float(p[found]),
        "success": bool(head.won(z, target, source)),
        "confidence": float(p[int(target)]),
    }


def judgement(z: Tensor, clean: Batch, n: int, m: Tensor, goal: GoalMaps, passes: float) -> Judgement:
    """Compare one image with what was wanted of it.

    Args:
        z: (K,) logits in float64 of the image as read back.
        clean: the photos, with the classes c_t that the attack wanted, and those of the clean images.
        n: which of them.
        m: (h, w) map of the image for c_t.
        goal: the target maps m_t, and the maps of the clean images for their own classes.
        passes: F of the look.
    """
    wanted, benign = goal.wanted[n], goal.benign[n]
    return Judgement(
        **predicted(z, clean, n),
        map_l1=float(np.abs(m.numpy() - wanted.numpy()).mean()),
        map_iou=maps.iou(m.numpy(), wanted.numpy()),
        map_rank=maps.rank(m.numpy(), wanted.numpy()),
        iou_curve=maps.iou_curve(m.numpy(), wanted.numpy()),
        benign_l1=float((m - benign).abs().mean()),
        benign_iou=maps.iou(m.numpy(), benign.numpy()),
        target_l1=float((wanted - benign).abs().mean()),
        judge_passes=passes,
        map_rank_shown=maps.rank_shown(m.numpy(), wanted.numpy()),
    )
