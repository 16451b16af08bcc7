"""The check of an input policy, whoever gives it."""

from __future__ import annotations

import math

from underfire.core import Preprocess, UnderfireError, unknown

MOST_MEAN, MOST_STD = 1.0, 2.0
"""Numbers at most for pixels in [0, 1]: nobody subtracts more than white, or makes their range smaller than 0.5."""
INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "nearest", "box", "hamming")


def sound(policy: Preprocess) -> Preprocess:
    """Return an input policy as it is.

    Raises:
        UnderfireError: its numbers do not fit together, or mean and std are those of levels.
    """
    if policy.interpolation not in INTERPOLATIONS:
        raise unknown("interpolation", policy.interpolation, INTERPOLATIONS)
    numbers, side = (*policy.size, policy.resize, *policy.mean, *policy.std), min(policy.size)
    if policy.resize < side or side < 1 or min(policy.std) <= 0 or not _finite(numbers):
        size = policy.input_size if policy.width is None else policy.size
        raise UnderfireError(
            f"Input size {size}, resize {policy.resize}, mean {policy.mean} and std {policy.std} do not "
            "fit together: the resize must not be smaller than the input size, std must be above 0, and all finite."
        )
    if max(map(abs, policy.mean)) > MOST_MEAN or max(policy.std) > MOST_STD:
        mean, std = (",".join(f"{v:g}" for v in values) for values in (policy.mean, policy.std))
        raise UnderfireError(
            f"mean {mean} and std {std}: they are for pixels in [0, 1]; if the network takes levels, divide both by "
            "255, or add --scale 255 to --mean and --std."
        )
    return policy


def by_channel(what: str, values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Give a number for each channel, of one for all or of one for each.

    Args:
        what: 'mean' or 'std'.
        values: the numbers.
        channels: of the input.

    Raises:
        UnderfireError: another number of numbers.
    """
    if len(values) not in (1, channels):
        kind = "three colours: give one number, or three: red, green and blue" if channels == 3 else "one channel"
        raise UnderfireError(f"{what}={values}: the network takes {kind}.")
    return values * channels if len(values) == 1 else values


def channels_of(channels: object) -> int:
    """Return the number of channels.

    Raises:
        UnderfireError: photos have no such channels.
    """
    if channels not in (1, 3):
        raise UnderfireError(
            f"channels={channels}: photos have three colours, or one grey channel; put a layer before the network that "
            "makes its channels of these."
        )
    return int(str(channels))


def grey(values: tuple[float, ...]) -> tuple[float, ...]:
    """Average the numbers of three colours, for an input of one channel."""
    return (round(sum(values) / len(values), 6),)


def _finite(numbers: tuple[float, ...]) -> bool:
    return all(math.isfinite(number) for number in numbers)
