"""Rows of records by hand, for tests of what is read from them."""

from __future__ import annotations

from typing import Any

from underfire.core import Record


def row(i: int, attack: str, against: str | None, judge: str, **more: Any) -> Record:
    """Record of photo ``i``: by default a success, untouched where the attack was made against the judge.

    Args:
        i: number of the photo, which is larger the further its map is moved.
        attack: its name.
        against: the interpreter that it was made against; None for an attack on the prediction alone.
        judge: the interpreter that judges.
        more: columns; with ``error`` all others are None.
    """
    quiet = against == judge
    l1 = (0.001 if quiet else 0.2) * (i + 1)
    good: dict[str, Any] = {
        "source_class": 1,
        "source_class_name": "fox & hound",
        "target_class": 2,
        "target_class_name": "é<b>clair",
        "clean_confidence": 0.9,
        "predicted_class": 2,
        "predicted_class_name": "é<b>clair",
        "success": True,
        "confidence": 0.99,
        "map_l1": l1,
        "map_iou": 0.9,
        "map_rank": None,
        "iou_curve": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, None, None],
        "linf_levels": 8,
        "steps": 10,
        "goal_passes": 1.0,
        "passes": 300.0,
        "judge_passes": 1.0,
        "seconds": 0.5,
        "clean": f"images/000000-0123456789abcdef/{i}.png",
        "adversarial": f"images/000000-0123456789abcdef/{i}.adv.png",
        "clean_map": f"images/000000-0123456789abcdef/{i}.npy",
        "adversarial_map": f"images/000000-0123456789abcdef/{i}.npy",
    }
    which: dict[str, Any] = {
        "image": f"a/{i}&.png",
        "image_sha256": f"{i:064d}",
        "classifier": "toynet",
        "against": against,
        "attack": attack,
        "preset": "paper",
        "judge_classifier": "toynet",
        "interpreter": judge,
        "defense": "none",
        "seed": 0,
        "eps": 8,
    }
    return Record(**(which | ({} if "error" in more else good) | more))
