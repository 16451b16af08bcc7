"""The baseline of Integrated Gradients: a plain colour, or an image of one's own."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from underfire.core import LEVELS, MismatchError, NotFoundError, UnderfireError, unknown
from underfire.images.formats import opened

COLOURS = {"black": 0.0, "grey": 0.5, "white": 1.0}


def baseline_of(word: str, side: int) -> tuple[Tensor, str]:
    """Make the baseline (1, 3, H, W) in [0, 1], and the digest of its file; '' for a colour.

    Args:
        word: one of `COLOURS`, or the path of an image.
        side: of the classifier's input, px.

    Raises:
        UnderfireError: it is neither, no image, or of another size.
    """
    if word in COLOURS:
        return torch.full((1, 3, 1, 1), COLOURS[word]), ""
    path = Path(word).expanduser()
    if not path.suffix:
        raise unknown("baseline of ig", word, [*COLOURS, "the path of an image"])
    if not path.is_file():
        raise NotFoundError(f"There is no baseline '{word}' for ig: give {', '.join(COLOURS)}, or an image file.")
    content = path.read_bytes()
    try:
        with opened(content) as picture:
            levels = np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as e:
        raise UnderfireError(f"The baseline '{word}' for ig is no image that can be read ({e}).") from e
    if levels.shape[:2] != (side, side):
        raise MismatchError(
            f"The baseline '{word}' is {levels.shape[1]}×{levels.shape[0]} px, and the classifier's input is "
            f"{side}×{side} px: give one of that size."
        )
    return torch.from_numpy(levels.copy()).permute(2, 0, 1)[None] / LEVELS, hashlib.sha256(content).hexdigest()
