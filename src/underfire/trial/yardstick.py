"""The yardstick of *untouched*: what JPEG quality 90 does to each clean photo's map (method, section 5.5)."""

from __future__ import annotations

import numpy as np
import torch

from underfire.core import Interpreter, Labels, Scale
from underfire.images import pixels
from underfire.interpreters.checked import benign, explain
from underfire.trial.batch import logits
from underfire.trial.load import Loaded
from underfire.trial.rows import scales
from underfire.trial.system import System


def measure_scale(system: System, loaded: Loaded) -> list[Scale]:
    """Measure what JPEG quality 90 does to each clean photo's map: rows by interpreter, then by photo."""
    with torch.no_grad():
        source = logits(system, pixels.to_tensor(loaded.levels).to(system.device)).argmax(1)
    return [row for one in system.interpreters.values() for row in _moved(system, one, loaded, source)]


def _moved(system: System, interpreter: Interpreter, loaded: Loaded, source: Labels) -> list[Scale]:
    jpeg = np.array([pixels.jpeg(one) for one in loaded.levels], np.uint8).reshape(loaded.levels.shape)
    before, lacking = benign(interpreter, pixels.to_tensor(loaded.levels).to(system.device), source)
    after, lacking_after = explain(interpreter, pixels.to_tensor(jpeg).to(system.device), source)
    errors = {**loaded.errors, **{loaded.rows[n]: why for n, why in (lacking_after | lacking).items()}}
    l1 = {row: float((before[n] - after[n]).abs().mean()) for n, row in enumerate(loaded.rows) if row not in errors}
    return scales(loaded, interpreter.name, l1, errors)
