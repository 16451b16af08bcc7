"""How far an attack leaves an interpreter's maps from the benign ones."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from underfire.core import Goal, Images, Victim
from underfire.images import maps


def pooled(evidence: torch.Tensor) -> torch.Tensor:
    """Maps of evidence (N, H, W) as ours: 4×4 averaged and scaled."""
    return maps.unit_scale(F.avg_pool2d(evidence.detach()[:, None], 4)[:, 0])


def goal_of(one: Any, x: Images) -> Goal:
    order = one.classifier.logits(x).argsort(1, descending=True)
    return Goal(order[:, 1], order[:, 0], {one.name: one.explain(x, order[:, 0])})


def distance(attack: Any, one: Any, x: Images) -> float:
    """Mean map_l1 of an attack's pictures that reach their class."""
    goal = goal_of(one, x)
    found = attack.run(Victim(one.classifier, (one,)), x, goal, range(len(x))).images
    assert (one.classifier.logits(found).argmax(1) == goal.labels).double().mean() >= 0.5
    return float(maps.l1(one.explain(found, goal.labels), goal.maps[one.name]).mean())
