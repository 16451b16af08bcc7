"""The way back in bands: R_vᵀ · g · R_h a few rows at a time, by short dense matrices, for a part of many megapixels.

A row of the photo depends on a handful of rows of the input, so a block of neighbouring rows of R_vᵀ is a small dense
matrix. A band is as large as stays in the processor's cache, and what a walk does with it happens there: a gradient as
large as the photo is never written to memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from numpy.typing import NDArray

BAND = 32_767
"""Most values in a band: 128 KB of float32, which torch does not share out to threads; each file has one of its own."""
COLUMNS = 24
"""Columns of the photo that one dense matrix makes."""


@dataclass(frozen=True)
class Block:
    """Some neighbouring rows of a transposed matrix that is nearly diagonal.

    Args:
        rows: of the photo.
        seen: the rows of the input that have any weight there.
        weights: (rows, seen) dense.
    """

    rows: slice
    seen: slice
    weights: NDArray[np.float32]


def blocks(matrix: Any, size: int) -> tuple[Block, ...]:
    """Cut the transpose of a sparse matrix (M, n) into dense blocks of ``size`` rows."""
    back = matrix.T.tocsr()
    found = []
    for first in range(0, back.shape[0], size):
        band = back[first : first + size]
        start, end = (int(band.indices.min()), int(band.indices.max()) + 1) if band.nnz else (0, 1)
        weights = np.ascontiguousarray(band[:, start:end].toarray(), np.float32)
        found.append(Block(slice(first, first + len(weights)), slice(start, end), weights))
    return tuple(found)


class Bands:
    """The way back of photos of one size.

    Args:
        down: R_v of the box, (H, h) sparse.
        across: R_h of the box, (W, w) sparse.
        luma: (3,) what the colours are of a grey input; None: the input is in colour.
    """

    def __init__(self, down: Any, across: Any, luma: NDArray[np.float32] | None = None) -> None:
        self.height, self.width, self.luma = down.shape[1], across.shape[1], luma
        self.band = min(self.height, max(1, BAND // (3 * self.width)))
        self.down = blocks(down, self.band)
        self.across = tuple(_coloured(block, 3 if luma is None else 1) for block in blocks(across, COLUMNS))

    def back(self, gradient: NDArray[np.float32]) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield rows of the part and the gradient there, (b, w, 3), of a gradient (C, H, W) at the input."""
        wide = self._wide(gradient)
        made = np.empty((self.band, wide.shape[1]), np.float32)
        for block in self.down:
            some = made[: len(block.weights)]
            np.matmul(block.weights, wide[block.seen], out=some)
            coloured = some.reshape(len(some), self.width, -1)
            yield block.rows, coloured if self.luma is None else coloured * self.luma

    def _wide(self, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute g · R_h, (H, w · C): the colours of a pixel lie together, as they do in a picture."""
        channels, height, _ = gradient.shape
        rows = np.ascontiguousarray(gradient.transpose(1, 2, 0)).reshape(height, -1)
        out = np.empty((height, self.width * channels), np.float32)
        for block in self.across:
            np.matmul(rows[:, block.seen], block.weights.T, out=out[:, block.rows])
        return out


def _coloured(block: Block, channels: int) -> Block:
    """Make a block for pixels into one for their ``channels`` that lie together."""
    each = np.kron(block.weights, np.eye(channels, dtype=np.float32))
    rows, seen = (slice(channels * one.start, channels * one.stop) for one in (block.rows, block.seen))
    return Block(rows, seen, each)


class InBands:
    """A gradient at the input on its way back; see `underfire.core.door.PartGradient`.

    Args:
        bands: the way back.
        gradient: (C, H, W) at the input.
        like: what is yielded has the device of this tensor; what is not on the CPU comes as one band.
    """

    def __init__(self, bands: Bands, gradient: NDArray[np.float32], like: Tensor) -> None:
        self._bands, self._gradient, self._like = bands, gradient, like

    def bands(self) -> Iterator[tuple[slice, Tensor]]:
        """Compute one band after the other."""
        if self._like.device.type != "cpu":
            yield slice(0, self._bands.height), self.whole()[0]
            return
        for rows, some in self._bands.back(self._gradient):
            yield rows, torch.from_numpy(some).permute(2, 0, 1)

    def whole(self) -> Tensor:
        """Compute all bands."""
        out = np.empty((self._bands.height, self._bands.width, 3), np.float32)
        for rows, some in self._bands.back(self._gradient):
            out[rows] = some
        return torch.from_numpy(out).to(self._like).permute(2, 0, 1)[None]


@dataclass(frozen=True)
class AtOnce:
    """A gradient (1, 3, h, w) that is there already."""

    gradient: Tensor

    def bands(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield it at once."""
        yield slice(0, self.gradient.shape[-2]), self.gradient[0]

    def whole(self) -> Tensor:
        """Give it."""
        return self.gradient
