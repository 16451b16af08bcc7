"""Maps as .npy files of numpy, read with care, as any file that may come from elsewhere."""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray


def decode_npy(content: bytes) -> NDArray[np.float32] | None:
    """Read a map (h, w) of finite floats; None where the file holds something else.

    The size in the header must be the size of what follows: one flipped bit could make the header ask for any size.
    """
    file = io.BytesIO(content)
    try:
        if npy.read_magic(file) != (1, 0):
            return None
        shape, columns_first, kind = npy.read_array_header_1_0(file)
    except Exception:  # the header is a Python literal, whose reader raises whatever it likes
        return None
    rest = len(content) - file.tell()
    if (
        len(shape) != 2
        or columns_first
        or kind.kind != "f"
        or math.prod(shape) * kind.itemsize != rest
        or min(shape) < 1
    ):
        return None
    found = np.frombuffer(content, kind, offset=file.tell()).reshape(shape)
    return np.asarray(found, np.float32) if np.isfinite(found).all() else None
