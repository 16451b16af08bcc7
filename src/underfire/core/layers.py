"""Layers of a network by name, and what a classifier must offer so that maps can be made of them. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

from underfire.core.protocols import Classifier
from underfire.core.types import Images

if TYPE_CHECKING:
    from torch import Tensor

Kind: TypeAlias = Literal["grid", "channels last", "tokens", "other"]
"""How an output lies: (N, C, h, w); (N, h, w, C); (N, T, C), where the last h·w of the T tokens are a grid; neither."""


@dataclass(frozen=True)
class Layer:
    """A layer's output, as one forward pass showed it.

    Args:
        name: of the module in the network.
        kind: how the output lies.
        shape: of one image's output.
        grid: rows h and columns w; (0, 0) where it has no grid.
        stride: pixels of the input to one row of the grid; 0 where it has no grid.
        behind: share of the network's multiply-adds that come after it, in [0, 1].
    """

    name: str
    kind: Kind
    shape: tuple[int, ...]
    grid: tuple[int, int] = (0, 0)
    stride: int = 0
    behind: float = 0.0

    def as_grid(self, a: Tensor) -> Tensor:
        """Turn an output of this layer into maps (N, C, h, w), without class and register tokens."""
        if self.kind == "tokens":
            h, w = self.grid
            places = a[:, a.shape[1] - h * w :].transpose(1, 2)
            return places.reshape(*places.shape[:2], h, w)
        return a.permute(0, 3, 1, 2) if self.kind == "channels last" else a


@runtime_checkable
class HasLayers(Protocol):
    """What shows its layers by name."""

    def layers(self) -> Sequence[Layer]:
        """List the layers in the order in which a forward pass leaves them."""

    def layer(self, word: str) -> Layer:
        """Find a layer: 'auto', 'strideN' for the last grid at that stride, or a module's name.

        Raises:
            UnderfireError: there is none, or it has no grid.
        """

    def activations(
        self, x: Images, layer: Layer, behind: Callable[[], AbstractContextManager[object]] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Compute the logits (N, K) and the output A of a layer, from one forward of ``x``.

        The logits depend on A. Where ``x`` has no graph, the graph begins at A.

        Args:
            x: images (N, 3, H, W).
            layer: of `layer`.
            behind: makes a context in which the rest of the network runs.
        """

    def attention(self, x: Images) -> tuple[Tensor, list[Tensor]]:
        """Compute the logits (N, K) and the attention (N, heads, T, T) of each block, from one forward of ``x``.

        The logits depend on each of them, in a form that can be differentiated twice.

        Raises:
            UnderfireError: the network has no attention between all of its tokens.
        """

    def patches(self) -> tuple[int, int]:
        """Give rows and columns of the patch grid that the last h·w tokens of `attention` are; errors as there."""

    def tokens_read(self) -> tuple[bool, ...]:
        """Tell of each token whether the logits depend on its row of the last attention; errors as in `attention`."""


class LayeredClassifier(Classifier, HasLayers, Protocol):
    """A classifier whose layers can be seen."""
