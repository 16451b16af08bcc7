"""What the owner of a network says of it and what is found in it: input policy, channels, precision, outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from underfire.classifiers.outputs import Outputs, named_outputs, outputs_of
from underfire.classifiers.sound import by_channel, grey, sound
from underfire.core import FAILURES, ClassNames, Preprocess, UnderfireError, refused

HALF = (torch.float16, torch.bfloat16)


def a_module(given: object) -> nn.Module:
    """Return what is a module; anything else is an UnderfireError."""
    if not isinstance(given, nn.Module):
        raise UnderfireError(f"wrap takes a torch module, not a {type(given).__name__}.")
    return given


def noise_and_spots(policy: Preprocess) -> Tensor:
    """Make two images (2, C, H, W) in [0, 1] that differ much: noise, and large coloured spots."""
    (c, h, w), seeded = policy.shape, torch.Generator().manual_seed(0)
    noise, few = torch.rand(1, c, h, w, generator=seeded), torch.rand(1, c, 4, 4, generator=seeded)
    return torch.cat([noise, nn.functional.interpolate(few, (h, w), mode="nearest")])


def policy_of(size: Any, resize: int | None, mean: Any, std: Any, interpolation: str, channels: int) -> Preprocess:
    """Make the input policy of a network.

    Args:
        size: side of the square input, px, or its height and width.
        resize: length of a photo's shorter side before the crop, px; None: 8/7 of the input's shorter side.
        mean: one number, one for each channel, or None for that of ImageNet's photos.
        std: likewise.
        interpolation: how photos are resized.
        channels: 3 colours, or 1 grey.

    Raises:
        UnderfireError: no sizes or numbers, or such as do not fit together.
    """
    sides = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, Sequence) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 1 for side in sides):
        raise UnderfireError(
            f"input_size={size}: give the side of the square input in px, such as 224, or height and width: (64, 96)."
        )
    resize = round(min(sides) * 8 / 7) if resize is None else resize
    usual = Preprocess(1, 1)
    numbers = (_numbers("mean", mean, usual.mean, channels), _numbers("std", std, usual.std, channels))
    return sound(Preprocess(sides[0], resize, *numbers, interpolation, None if sides[0] == sides[1] else sides[1]))


def _numbers(what: str, values: Any, usual: tuple[float, ...], channels: int) -> tuple[float, ...]:
    if values is None:
        return usual if channels == len(usual) else grey(usual)
    try:
        given = tuple(float(v) for v in (values if isinstance(values, Iterable) else (values,)))
    except (TypeError, ValueError) as e:
        raise UnderfireError(f"{what}={values}: give one number, or three: red, green and blue.") from e
    return by_channel(what, given, channels)


def channels_found(module: nn.Module, policy: Callable[[int], Preprocess], name: str) -> int:
    """Find out how many channels a network takes: 3, or 1 where it takes nothing else.

    Args:
        module: the network.
        policy: input policy for so many channels.
        name: the network's name in an error.

    Raises:
        UnderfireError: it fails on both.
    """
    colours = policy(3)
    try:
        _fed(module, colours)
    except FAILURES as e:
        if not _takes_grey(module, policy):
            raise refused(name, colours.size, e) from e
        return 1
    return 3


def _takes_grey(module: nn.Module, policy: Callable[[int], Preprocess]) -> bool:
    try:
        _fed(module, policy(1))
    except FAILURES:
        return False
    return True


@torch.no_grad()
def _fed(module: nn.Module, policy: Preprocess) -> None:
    module(shown_to(module, policy)[0])


def shown_to(module: nn.Module, policy: Preprocess) -> list[Tensor]:
    """Make normalised images (1, C, H, W) for a network: noise, black and white."""
    anchor = next(module.parameters(), torch.zeros(()))
    dtype = anchor.dtype if anchor.is_floating_point() else torch.float32
    noise = torch.rand(1, *policy.shape, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (policy.mean, policy.std))
    return [((x - mean) / std).to(anchor.device, dtype) for x in (noise, noise * 0, noise * 0 + 1)]


def whole_precision(module: nn.Module) -> tuple[str, ...]:
    """Turn a network of half precision, underfire's own copy, into float32; return what is to be said of it."""
    of = {str(t.dtype).removeprefix("torch.") for t in (*module.parameters(), *module.buffers()) if t.dtype in HALF}
    if not of:
        return ()
    module.float()
    return (f"Its weights are {' and '.join(sorted(of))}: a float32 copy of them is attacked and judged.",)


def asked(module: nn.Module, policy: Preprocess, head: str | None, name: str) -> Outputs:
    """Find out what a network returns; see `underfire.classifiers.outputs`.

    Raises:
        UnderfireError: it fails, or returns no logits.
    """
    try:
        return outputs_of(module, shown_to(module, policy), head, name)
    except FAILURES as e:
        raise refused(name, policy.size, e) from e


def names_of(found: Outputs, classes: Sequence[str] | None, name: str) -> ClassNames:
    """Name the classes of a network, by numbers where its owner does not.

    Raises:
        UnderfireError: other than two names for one output.
    """
    if classes is None:
        return ClassNames(tuple(f"class {i}" for i in range(named_outputs(found.k))))
    if found.k == 1 and len(tuple(classes)) != 2:
        raise UnderfireError(
            f"{len(tuple(classes))} class names for the one output of '{name}': give two, the class of a low output "
            "and that of a high one."
        )
    return ClassNames(tuple(classes))
