"""What the doors of a library have in common: decode, then resize, then crop or pad."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from underfire.core import Limits, Preprocess, UnderfireError
from underfire.core.hashing import spell
from underfire.doors.geometry import Geometry, matrix, placed
from underfire.doors.layout import FITS, Layout, fill_of, layout
from underfire.images import pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

KEPT = 64
"""Sizes of photos whose matrices are kept."""


_TURN = threading.Lock()
"""Files are entered by several threads; a lock of each door's own could not be sent to a worker."""


class Ways:
    """The geometries of a door by the size of a photo; those that were used last are kept."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, int], Geometry] = OrderedDict()

    def get(self, size: tuple[int, int]) -> Geometry | None:
        """Find a geometry."""
        with _TURN:
            if size in self._known:
                self._known.move_to_end(size)
            return self._known.get(size)

    def put(self, size: tuple[int, int], way: Geometry) -> Geometry:
        """Keep a geometry, and return it."""
        with _TURN:
            self._known[size] = way
            if len(self._known) > KEPT:
                self._known.popitem(last=False)
        return way


class LinearDoor:
    """A door that resizes with one library. A subclass says how: `resize`, and `line` for rows of floats.

    Args:
        kind: its name in the registry.
        variant: what follows the colon: words with commas between, one of `FITS` or of ``words``.
        policy: the classifier's sizes and interpolation.
        words: the further words that this door knows.
    """

    cut = True
    """Whether the longer side is cut to whole pixels, as torchvision does; else it is rounded."""

    def __init__(self, kind: str, variant: str, policy: Preprocess, words: tuple[str, ...] = ()) -> None:
        self.name = f"{kind}:{variant}" if variant else kind
        self.policy = policy
        self.chosen = tuple(word for word in variant.split(",") if word)
        for word in self.chosen:
            if word not in (*FITS, *words):
                raise UnderfireError(
                    f"--door {self.name}: '{word}' is none of {', '.join((*FITS, *words))}: name the door as in "
                    f"{kind}:{FITS[1]}, with commas between several words."
                )
        self.fit = next((word for word in self.chosen if word in FITS), FITS[0])
        self.digest = f"{self.name} {spell(policy)}"
        self._ways = Ways()

    def resize(self, picture: NDArray[np.uint8], height: int, width: int) -> NDArray[Any]:
        """Resize a photo (h, w, C) with the library itself."""
        raise NotImplementedError

    def line(self, rows: NDArray[np.float32], size: int) -> NDArray[np.float32]:
        """Resize each row of floats (b, n) by itself to (b, size)."""
        raise NotImplementedError

    def open(self, content: bytes, path: str, limits: Limits = Limits()) -> NDArray[Any]:
        """Do with a file what the deployed code does; see `Door`."""
        return self.enter(np.asarray(pixels.decode(content, path, limits)))

    def enter(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """Do the same with upright RGB pixels (h, w, 3)."""
        to = self._layout(*picture.shape[:2])
        resized = self.resize(pixels.in_channels(picture, self.policy.channels), to.height, to.width)
        return to.placed(resized.reshape(to.height, to.width, -1), fill_of(self.policy))

    def way(self, height: int, width: int) -> Geometry:
        """Read the two matrices off the library, once for each size."""
        return self._ways.get((height, width)) or self._ways.put((height, width), self._measured(height, width))

    def _measured(self, height: int, width: int) -> Geometry:
        to = self._layout(height, width)
        down = self._along(height, to.height, to.top, to.size[0])
        across = self._along(width, to.width, to.left, to.size[1])
        return Geometry(down, across, self.policy.channels == 1)

    def _along(self, n: int, m: int, first: int, size: int) -> Any:
        return placed(matrix(n, lambda rows: self.line(rows, m)), first, size)

    def _layout(self, height: int, width: int) -> Layout:
        return layout(height, width, self.policy, self.fit, self.cut)
