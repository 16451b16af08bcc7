"""The baseline of Integrated Gradients: a plain colour, or an image of one's own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from underfire.core import LEVELS, MismatchError, NotFoundError, UnderfireError, unknown
from underfire.images.formats import opened
from underfire.images.pixels import upright_rgb

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLOURS = {"black": 0.0, "grey": 0.5, "white": 1.0}


def baseline_of(word: str, side: int) -> tuple[Tensor, str]:
    """Make the baseline (1, 3, H, W) in [0, 1], and the digest of its file; '' for a colour.

    A file is read as photos are: turned upright, laid on white, whatever its number of bits.

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
        levels = np.asarray(upright_rgb(content, word))
    except UnderfireError as e:
        raise UnderfireError(f"The baseline for ig cannot be read: {e}") from e
    if levels.shape[:2] != (side, side):
        raise MismatchError(
            f"The baseline '{word}' is {levels.shape[1]}×{levels.shape[0]} px, and the classifier's input is "
            f"{side}×{side} px: give one of that size."
        )
    digest = hashlib.sha256(content).hexdigest()
    return torch.from_numpy(levels.copy()).permute(2, 0, 1)[None] / LEVELS, f"{_read_anew(content, levels)}{digest}"


def _read_anew(content: bytes, levels: NDArray[np.uint8]) -> str:
    """Give what a digest holds of a file that earlier versions, which neither turned nor scaled it, read as another."""
    with opened(content) as picture:
        return "" if np.array_equal(np.asarray(picture.convert("RGB")), levels) else "as a photo "
