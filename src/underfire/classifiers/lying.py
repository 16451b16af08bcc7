"""The ways in which feature maps can lie in a tensor: channels first, channels last, tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from torch import Tensor

from underfire.classifiers.calls import Spot


@dataclass(frozen=True)
class Lying:
    """One way.

    Args:
        kind: 'channels first' (N, C, h, w), 'channels last' (N, h, w, C), 'tokens' (N, h·w, C) or 'flat' (N, C, h·w).
        grid: (h, w).
    """

    kind: str
    grid: tuple[int, int]

    def maps(self, t: Tensor) -> Tensor:
        """Return the maps (N, C, h, w) in a tensor."""
        if self.kind == "channels last":
            return t.permute(0, 3, 1, 2)
        if self.kind == "channels first":
            return t
        flat = t.transpose(1, 2) if self.kind == "tokens" else t
        return flat.reshape(*flat.shape[:2], *self.grid)

    def back(self, maps: Tensor) -> Tensor:
        """Return the tensor that has these maps (N, C, h, w)."""
        if self.kind == "channels last":
            return maps.permute(0, 2, 3, 1).contiguous()
        if self.kind == "channels first":
            return maps
        flat = maps.flatten(2)
        return flat.transpose(1, 2).contiguous() if self.kind == "tokens" else flat


def lying_ways(t: Tensor, grids: Iterable[tuple[int, int]]) -> Iterator[Lying]:
    """Yield the ways in which a tensor (N, …) can hold maps.

    Args:
        t: the tensor.
        grids: (h, w) of the tensors with two sides in the same forward. The grid of tokens is the first that has as
            many places: it is that of the convolution that makes the patches.
    """
    if t.dim() == 4:
        yield Lying("channels first", (t.shape[2], t.shape[3]))
        yield Lying("channels last", (t.shape[1], t.shape[2]))
    if t.dim() == 3:
        known = list(grids)
        for kind, places in (("tokens", t.shape[1]), ("flat", t.shape[2])):
            yield from [Lying(kind, grid) for grid in known if grid[0] * grid[1] == places][:1]


def grids_of(spots: Iterable[tuple[Spot, Tensor]]) -> list[tuple[int, int]]:
    """List the sides (h, w) of all tensors with two sides in a forward, in order."""
    found: dict[tuple[int, int], None] = {}
    for _, t in spots:
        if t.dim() == 4:
            found[t.shape[2], t.shape[3]] = found[t.shape[1], t.shape[2]] = None
    return list(found)
