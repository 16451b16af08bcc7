"""The entrance: the files of a batch on their way into the classifier, and the gradient on its way back to them.

save → read back → (what a platform does) → door → one batch              and the transpose of each, in reverse
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from underfire.core import LEVELS, Images
from underfire.core.door import Door, PartGradient, Way
from underfire.doors.bands import AtOnce, InBands
from underfire.doors.geometry import Geometry
from underfire.doors.platforms import Draw, Step
from underfire.images.saving import FilePhoto

if TYPE_CHECKING:
    from numpy.typing import NDArray


class FileLane:
    """One file on its way.

    Args:
        door: of the classifier.
        photo: the file.
        draw: what a platform does to it, drawn anew each time; None: nothing.
        like: a tensor of the device and type that parts have.
    """

    def __init__(self, door: Door, photo: FilePhoto, draw: Draw | None, like: Tensor) -> None:
        self.door, self.photo, self.draw, self.like = door, photo, draw, like
        self.way = door.way(*photo.pixels.shape[:2])
        self.box = self.way.box
        self._steps: list[Step] = []
        self._last: Way = self.way
        self._pixels = photo.pixels.copy()

    @property
    def clean(self) -> Tensor:
        """The part of the file that the classifier sees, (1, 3, h, w) in [0, 1]."""
        return self._tensor(self._seen(self.photo.pixels)) / LEVELS

    @property
    def view(self) -> tuple[float, float]:
        """Width and height, in the photo's pixels, of what fills the classifier's input."""
        return self.way.view

    def whole(self, part: Tensor) -> NDArray[np.uint8]:
        """Put a part, (1, 3, h, w) in [0, 1] or in 8-bit levels, back into its photo: (h, w, 3)."""
        pixels = self.photo.pixels.copy()
        pixels[self._where] = _levels(part)[0].permute(1, 2, 0)
        return pixels

    def enter(self, part: Tensor) -> NDArray[Any]:
        """Bring a file with this part to the classifier: (H, W, C) levels."""
        self._pixels[self._where] = _levels(part)[0].permute(1, 2, 0)
        pixels = self.photo.saver.through(self._pixels)
        self._steps = []
        for step in self.draw.next() if self.draw else ():
            self._steps.append(step)
            pixels = step.forward(pixels)
        self._last = self.door.way(*pixels.shape[:2]) if self._steps else self.way
        return self.door.enter(pixels)

    def back(self, gradient: NDArray[np.float32]) -> PartGradient:
        """Carry a gradient (C, H, W) back to the part, through what `enter` did last."""
        if isinstance(self._last, Geometry) and not self._steps:
            return InBands(self._last.bands, gradient, self.like)
        at = self._last.back(gradient.transpose(1, 2, 0))
        return AtOnce(self._tensor(self._seen(self._through_steps(at)) if self._steps else at))

    def _through_steps(self, at: NDArray[np.float32]) -> NDArray[np.float32]:
        """Carry a gradient at the last door's box back through the platform to the whole photo."""
        height, width = self._steps[-1].size
        whole, box = np.zeros((height, width, 3), np.float32), self._last.box
        whole[box.top : box.bottom, box.left : box.right] = at
        for step in reversed(self._steps):
            whole = step.back(whole)
        return whole

    @property
    def _where(self) -> tuple[slice, slice]:
        return slice(self.box.top, self.box.bottom), slice(self.box.left, self.box.right)

    def _seen(self, whole: NDArray[Any]) -> NDArray[Any]:
        return whole[self._where]

    def _tensor(self, picture: NDArray[Any]) -> Tensor:
        """Turn (h, w, 3) into (1, 3, h, w); its memory stays as it lies."""
        return torch.from_numpy(np.ascontiguousarray(picture)).to(self.like).permute(2, 0, 1)[None]


class Entrance:
    """The files of a batch; see `underfire.core.door.Files`.

    Args:
        door: of the classifier.
        photos: the files.
        like: what the classifier is shown has the type and the device of this tensor.
        draws: what a platform does to each file; empty: nothing.
    """

    def __init__(self, door: Door, photos: Sequence[FilePhoto], like: Tensor, draws: Sequence[Draw] = ()) -> None:
        each: Sequence[Draw | None] = draws or [None] * len(photos)
        self.lanes = [FileLane(door, photo, draw, like) for photo, draw in zip(photos, each, strict=True)]
        self.like, self.changes = like, bool(draws)

    @property
    def clean(self) -> Sequence[Tensor]:
        """The part of each file that the classifier sees, (1, 3, h, w) in [0, 1]."""
        return [lane.clean for lane in self.lanes]

    @property
    def views(self) -> Sequence[tuple[float, float]]:
        """Width and height, in each photo's pixels, of what fills the input."""
        return [lane.view for lane in self.lanes]

    def shown(self, parts: Sequence[Tensor]) -> Images:
        """Give what the classifier is shown of files with these parts."""
        levels = np.stack(self.each(FileLane.enter, self.lanes, parts))
        return torch.from_numpy(levels).permute(0, 3, 1, 2).contiguous().to(self.like) / LEVELS

    def back(self, gradient: Images) -> Sequence[PartGradient]:
        """Carry a gradient (N, C, H, W) back to the parts."""
        return self.each(FileLane.back, self.lanes, list(gradient.detach().float().cpu().numpy()))

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep`` (bool (N,))."""
        self.lanes = [self.lanes[n] for n in keep.nonzero()[:, 0].tolist()]

    def each(self, do: Callable[..., Any], *given: Sequence[Any]) -> list[Any]:
        """Do something for each file, as many at once as torch has threads: Pillow and arrays let go of the lock."""
        threads = min(torch.get_num_threads(), len(self.lanes))
        if threads < 2:
            return [do(*one) for one in zip(*given, strict=True)]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(do, *given))


def _levels(part: Tensor) -> Tensor:
    return (part if part.dtype == torch.uint8 else (part.detach() * LEVELS).round().byte()).cpu()
