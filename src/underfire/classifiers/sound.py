"""The check of an input policy, whoever gives it."""

from __future__ import annotations

import math

from underfire.core import Preprocess, UnderfireError, unknown

INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "nearest", "box", "hamming")


def sound(policy: Preprocess) -> Preprocess:
    """Return an input policy as it is.

    Raises:
        UnderfireError: its numbers do not fit together.
    """
    if policy.interpolation not in INTERPOLATIONS:
        raise unknown("interpolation", policy.interpolation, INTERPOLATIONS)
    numbers = (policy.input_size, policy.resize, *policy.mean, *policy.std)
    if policy.resize < policy.input_size or policy.input_size < 1 or min(policy.std) <= 0 or not _finite(numbers):
        raise UnderfireError(
            f"Input size {policy.input_size}, resize {policy.resize}, mean {policy.mean} and std {policy.std} do not "
            "fit together: the resize must not be smaller than the input size, std must be above 0, and all finite."
        )
    return policy


def _finite(numbers: tuple[float, ...]) -> bool:
    return all(math.isfinite(number) for number in numbers)
