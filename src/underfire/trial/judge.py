"""Judging: maps from the real interpreter, checked whoever wrote it, and the numbers of a record (method, 5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from underfire.core import ClassNames
from underfire.images import maps, pixels
from underfire.interpreters.checked import explain
from underfire.trial.goal import Levels
from underfire.trial.system import System

if TYPE_CHECKING:
    from numpy.typing import NDArray


@torch.no_grad()
def judge(
    system: System,
    name: str,
    levels: Sequence[NDArray[np.uint8]],
    targets: Sequence[int],
    wanted: Sequence[Tensor],
    benign: Sequence[Tensor],
) -> tuple[dict[int, tuple[dict[str, Any], Tensor]], dict[int, str]]:
    """Columns of the record and the map of each image, by row; and why others have none.

    Args:
        system: who judges.
        name: its interpreter.
        levels: (H, W, 3) each, as read back from the PNGs.
        targets: the classes c_t that the attack wanted.
        wanted: target maps (h, w).
        benign: maps (h, w) of the clean images for their own classes.
    """
    if not levels:
        return {}, {}
    classifier = system.classifier
    x = pixels.to_tensor(levels).to(system.device)
    y = torch.tensor(targets, dtype=torch.int64, device=system.device)
    classifier.meter.open(len(x))
    z = classifier.logits(x).double()
    found, errors = explain(system.interpreters[name], x, y)
    passes = classifier.meter.close()
    judged = {}
    for n, m in found.items():
        columns = {
            **measured(z[n], targets[n], classifier.classes, m.numpy(), wanted[n].numpy()),
            "benign_l1": float((m - benign[n]).abs().mean()),
            "benign_iou": maps.iou(m.numpy(), benign[n].numpy()),
            "target_l1": float((wanted[n] - benign[n]).abs().mean()),
            "judge_passes": passes[n],
        }
        judged[n] = columns, m
    return judged, errors


def measured(
    z: Tensor,
    target: int,
    names: ClassNames,
    m: NDArray[np.float64],
    wanted: NDArray[np.float64],
) -> dict[str, Any]:
    """The columns of a record that say what the victim sees.

    Args:
        z: (K,) logits in float64 of the image as read back.
        target: the class c_t that the attack wanted.
        names: what the classes are called.
        m: (h, w) map of that image for c_t.
        wanted: (h, w) the target map m_t.
    """
    predicted = int(z.argmax())
    success = predicted == target
    l1 = float(np.abs(m - wanted).mean())
    p = z.softmax(0)
    return {
        "predicted_class": predicted,
        "predicted_class_name": names.names[predicted],
        "predicted_confidence": float(p[predicted]),
        "success": success,
        "confidence": float(p[target]),
        "map_l1": l1,
        "map_iou": maps.iou(m, wanted),
        "map_rank": maps.rank(m, wanted),
        "iou_curve": maps.iou_curve(m, wanted),
    }


ALARM = ("alarm_score", "alarm")
"""Columns that the clean PNG has too."""


def alarms(system: System, levels: Mapping[int, Levels]) -> dict[int, dict[str, Any]]:
    """What the defense says of each picture, by row, as columns of the record; nothing without a defense."""
    if system.alarm is None or not levels:
        return {}
    x = pixels.to_tensor(list(levels.values())).to(system.device)
    system.classifier.meter.open(len(x))
    _, scores, _ = system.alarm.scores(x)
    passes = system.classifier.meter.close()
    threshold = system.alarm.threshold
    return {
        row: {
            "alarm_score": float(score) if bool(score.isfinite()) else None,
            "alarm": bool(score > threshold),
            "alarm_threshold": threshold,
            "alarm_passes": passes[n],
        }
        for n, (row, score) in enumerate(zip(levels, scores, strict=True))
    }
