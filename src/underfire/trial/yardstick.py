"""The yardstick of *untouched*: what JPEG quality 90 does to each clean photo's map (method, section 5.5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from underfire.core import Photo, Scale
from underfire.images import pixels
from underfire.interpreters.checked import explain
from underfire.trial.system import System

if TYPE_CHECKING:
    from numpy.typing import NDArray


def measure_scale(
    system: System, photos: Sequence[Photo], levels: Mapping[int, NDArray[np.uint8]], errors: Mapping[int, str]
) -> list[Scale]:
    """What JPEG quality 90 does to each clean photo's map, by interpreter (method, section 5.5)."""
    rows = []
    for name, interpreter in system.interpreters.items():
        found: dict[int, float] = {}
        failed = dict(errors)
        if levels:
            index = list(levels)
            x = pixels.to_tensor([levels[i] for i in index]).to(system.device)
            x_jpeg = pixels.to_tensor([pixels.jpeg(levels[i]) for i in index]).to(system.device)
            with torch.no_grad():
                source = system.classifier.logits(x).argmax(1)
            before, bad_before = explain(interpreter, x, source)
            after, bad_after = explain(interpreter, x_jpeg, source)
            for row, i in enumerate(index):
                bad = bad_before.get(row) or bad_after.get(row)
                if bad:
                    failed[i] = bad
                else:
                    found[i] = float((before[row] - after[row]).abs().mean())
        rows += [Scale(p.path, p.sha256, name, found.get(i), failed.get(i)) for i, p in enumerate(photos)]
    return rows
