"""timm's networks at other input sizes: built at the size of their weights, then set to the size that is asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import timm
from torch import Tensor, nn

from underfire.core import FAILURES, UnderfireError, refused

EXTRA_TOKENS = (1, 0, 2, 5)
"""Tokens beside the patches that a position embedding can have: a class token, none, two heads, registers."""


def usual_side(architecture: str) -> int:
    """Return the side, px, of the input that an architecture is built for."""
    cfg = timm.get_pretrained_cfg(architecture)
    return int(cfg.input_size[-1]) if cfg else 224


def side_of(state: Mapping[str, Tensor]) -> int | None:
    """Read the side of the input, px, off the position embedding among some weights; None without one."""
    name = next((k for k, v in state.items() if k.rpartition(".")[2] == "pos_embed" and v.dim() == 3), None)
    patch = next((v for k, v in state.items() if k.endswith("patch_embed.proj.weight") and v.dim() == 4), None)
    if name is None or patch is None:
        return None
    tokens = int(state[name].shape[1])
    sides = (math.isqrt(tokens - extra) for extra in EXTRA_TOKENS if math.isqrt(tokens - extra) ** 2 == tokens - extra)
    cells = next(sides, None)
    return None if cells is None else cells * int(patch.shape[-1])


def created(name: str, architecture: str, side: int | None, **own: Any) -> nn.Module:
    """Create a network for an input of ``side`` px.

    Args:
        name: the user's name in an error.
        architecture: timm's name.
        side: of the input, px; None, or the usual one: as the architecture is built.
        own: further arguments of `timm.create_model`.

    Raises:
        UnderfireError: the architecture cannot be built for this size.
    """
    if side is None or side == usual_side(architecture):
        made: nn.Module = timm.create_model(architecture, **own)
        return made
    try:
        made = timm.create_model(architecture, img_size=side, **own)
    except TypeError:  # most convolutional networks take any size, and have no such argument
        made = timm.create_model(architecture, **own)
    except FAILURES as e:
        raise refused(name, (side, side), e) from e
    return made


def resized(module: nn.Module, name: str, side: int | None, built: int) -> None:
    """Set a loaded network to an input of ``side`` px, where it must be told: its position embedding is resampled.

    Raises:
        UnderfireError: the network cannot have this size.
    """
    told: Any = getattr(module, "set_input_size", None)
    if side is None or side == built or told is None:
        return
    try:
        told(img_size=side)
    except FAILURES as e:
        raise UnderfireError(
            f"'{name}' cannot take an input of {side} px: {(str(e).strip() or type(e).__name__).splitlines()[0]}. "
            f"It was built for {built} px."
        ) from e
