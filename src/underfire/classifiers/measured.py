"""The input policy of someone's own image processor, measured: what it does to test pictures says what it is.

Colours: to black, red, green and blue pictures it gives  a·v + b  for each colour, so mean = −b/a and std = 1/a.
Sizes: a picture that grows brighter to the right in red, and downwards in green, comes out as the same slopes, cut and
stretched; they say how far it was resized, and that the centre was kept. A photo has the last word.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from underfire.core import LEVELS, Preprocess, UnsuitableError
from underfire.core.naming import DEMO
from underfire.images.photos import Folder

Numbers = NDArray[np.float64]
WIDE, HIGH = 640, 480
"""Size of the test pictures, px: as far from a square as photos are."""
STRAIGHT, CENTRED, ALIKE = 2.0, 2.0, 2.0
"""Deviations at most: from straight slopes and from the centre, px of the picture; from our own pixels, mean levels."""


@dataclass(frozen=True)
class Measured:
    """The policy of a processor.

    Args:
        policy: sizes and normalisation.
        channels: 'rgb' or 'bgr', the order of the colours that it returns.
        fit: 'crop' or 'squash', how it makes photos square.
    """

    policy: Preprocess
    channels: str
    fit: str


def measured(process: Callable[[Image.Image], Numbers], interpolation: str, name: str) -> Measured:
    """Measure a processor.

    Args:
        process: a picture to numbers (3, H, W).
        interpolation: how it resizes.
        name: the processor's name in an error.

    Raises:
        UnsuitableError: it does something else than resizing, cutting out the centre and normalising.
    """
    try:
        low, slope, channels = _colours(process, name)
        policy, fit = _sizes(process, low, slope, interpolation, name)
        mean, std = -low / slope, 1 / slope
        policy = Preprocess(policy.input_size, policy.resize, _three(mean), _three(std), interpolation)
    except (ValueError, IndexError, np.linalg.LinAlgError) as e:
        raise _cannot(name, f"it fails on test pictures: {e}") from e
    photo = Image.open(io.BytesIO(Folder(DEMO).bytes("coffee.png"))).convert("RGB")
    theirs = (_ordered(process(photo), channels) - low[:, None, None]) / slope[:, None, None] * LEVELS
    near = (
        replace(policy, resize=policy.resize + more) for more in (0, 1, -1) if policy.resize + more >= theirs.shape[1]
    )
    apart, policy = min(((_apart(photo, theirs, one, fit), one) for one in near), key=lambda found: found[0])
    if not apart <= ALIKE:
        raise _cannot(name, f"on a photo its pixels are {apart:.1f} levels from a plain resize and crop")
    return Measured(policy, channels, fit)


def _apart(photo: Image.Image, theirs: Numbers, policy: Preprocess, fit: str) -> float:
    """Return the mean difference, in levels, from a plain resize and crop; a half pixel may be cut on either side."""
    side, short = policy.input_size, min(photo.size)
    size = (policy.resize,) * 2 if fit == "squash" else tuple(policy.resize * n // short for n in photo.size)
    resized = photo.resize((size[0], size[1]), Image.Resampling[policy.interpolation.upper()])
    found = []
    for up, down in ((0, 0), (0, 1), (1, 0), (1, 1)):
        left, top = (size[0] - side + up) // 2, (size[1] - side + down) // 2
        cut = np.asarray(resized.crop((left, top, left + side, top + side)), np.float64).transpose(2, 0, 1)
        found.append(float(np.abs(theirs - cut).mean()))
    return min(found)


def _colours(process: Callable[[Image.Image], Numbers], name: str) -> tuple[Numbers, Numbers, str]:
    """Measure what black becomes, and the slope of each colour, red first."""

    def middle(colour: tuple[int, int, int]) -> Numbers:
        out = process(Image.new("RGB", (WIDE, HIGH), colour))
        return out[:, out.shape[1] // 2, out.shape[2] // 2]

    black, grey = middle((0, 0, 0)), middle((102, 102, 102))
    if black.shape != (3,):
        raise _cannot(name, f"it returns {len(black)} channels")
    grown = np.stack([middle((255, 0, 0)), middle((0, 255, 0)), middle((0, 0, 255))]) - black
    channels = "bgr" if abs(grown[0, 2]) > abs(grown[0, 0]) else "rgb"
    black, grey, grown = (_ordered(one.T, channels).T for one in (black, grey, grown))
    slope = np.diagonal(grown).copy()
    if np.abs(grown - np.diag(slope)).max() > 1e-3 * np.abs(slope).max() or not (slope > 0).all():
        raise _cannot(name, "it mixes colours")
    if np.abs(grey - black - 0.4 * slope).max() > 1e-3 * np.abs(slope).max():
        raise _cannot(name, "its numbers do not grow evenly with the levels")
    return black, slope, channels


def _ordered(numbers: Numbers, channels: str) -> Numbers:
    """Bring numbers by colour (3, …) into the order red, green, blue."""
    return numbers[::-1] if channels == "bgr" else numbers


def _sizes(
    process: Callable[[Image.Image], Numbers], low: Numbers, slope: Numbers, interpolation: str, name: str
) -> tuple[Preprocess, str]:
    """Measure the side of the input, the resize, and the way to a square."""
    x, y = np.meshgrid(np.arange(WIDE) / (WIDE - 1), np.arange(HIGH) / (HIGH - 1))
    ramps = np.rint(np.stack([x, y, 0 * x], -1) * LEVELS).astype(np.uint8)
    out = process(Image.fromarray(ramps))
    red_first = out if abs(np.ptp(out[2])) <= abs(np.ptp(out[0])) else out[::-1]
    seen = (red_first - low[:, None, None]) / slope[:, None, None]
    if seen.shape[1] != seen.shape[2]:
        raise _cannot(name, f"its pictures are not square ({seen.shape[1]} × {seen.shape[2]})")
    across = _line(seen[0].mean(0) * (WIDE - 1), (WIDE - 1) / 2, name)
    down = _line(seen[1].mean(1) * (HIGH - 1), (HIGH - 1) / 2, name)
    wide, high = WIDE / across, HIGH / down
    if abs(wide / high - 1) < 0.02:
        fit = "squash"
    elif abs(wide / high - WIDE / HIGH) < 0.03:
        fit = "crop"
    else:
        raise _cannot(name, f"it makes {wide:.0f} × {high:.0f} px of {WIDE} × {HIGH} px")
    return Preprocess(seen.shape[1], max(seen.shape[1], round(high)), interpolation=interpolation), fit


def _line(places: Numbers, centre: float, name: str) -> float:
    """Return the slope of a straight line of places, px of the picture for each px of the input."""
    steps = np.arange(len(places)) - (len(places) - 1) / 2
    inner = slice(len(places) // 10, -(len(places) // 10) or None)
    slope, middle = np.polyfit(steps[inner], places[inner], 1)
    if np.abs(places - middle - slope * steps)[inner].max() > STRAIGHT + abs(slope):
        raise _cannot(name, "it bends or pads pictures")
    if abs(middle - centre) > CENTRED + abs(slope):
        raise _cannot(name, "it does not keep the centre")
    return float(slope)


def _three(values: Any) -> tuple[float, float, float]:
    r, g, b = (round(float(v), 6) + 0.0 for v in values)
    return r, g, b


def _cannot(name: str, why: str) -> UnsuitableError:
    return UnsuitableError(
        f"The image processor of '{name}' does what underfire cannot follow ({why}): give --input-size, --resize, "
        "--mean and --std yourself."
    )
