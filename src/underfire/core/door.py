"""The front door of a classifier: how a file becomes its input, and the way back that a search needs (method, 7)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from underfire.core.types import Images, Limits

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor


class Box(NamedTuple):
    """A rectangle of a picture, px; the right column and the bottom row are outside."""

    left: int
    top: int
    right: int
    bottom: int


class Way(Protocol):
    """The linear part of a door for photos of one size: x = R_v · p · R_hᵀ."""

    @property
    def box(self) -> Box:
        """The part of the photo that the classifier sees: outside of it no pixel changes its input."""

    @property
    def view(self) -> tuple[float, float]:
        """Width and height, in the photo's pixels, of what fills the input."""

    def back(self, gradient: NDArray[np.float32]) -> NDArray[np.float32]:
        """Carry a gradient (H, W, C) at the input back to the whole of ``box``, (h, w, 3): R_vᵀ · g · R_h."""


class Door(Protocol):
    """A front door: decode, turn upright, colour, resize, crop or pad."""

    name: str
    """What users write."""
    digest: str
    """Text that changes whenever the door might."""

    def open(self, content: bytes, path: str, limits: Limits = Limits()) -> NDArray[Any]:
        """Do with a file what the deployed code does.

        Args:
            content: the bytes of the file.
            path: its name in an error.
            limits: how many pixels it may have.

        Returns:
            (H, W, C) levels, 0 to 255, C = 3 colours or 1 grey; floats where the door does not round.

        Raises:
            UnderfireError: no picture that the door takes.
        """

    def enter(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """Do the same with the upright RGB pixels (h, w, 3) of a file."""

    def way(self, height: int, width: int) -> Way:
        """Give the linear part for photos of one size.

        Raises:
            UnderfireError: it cannot be differentiated.
        """


class PartGradient(Protocol):
    """A gradient at the part of one file that the classifier sees."""

    def bands(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield rows of the part and the gradient there, (3, b, w): to be written into, and overwritten by the next."""

    def whole(self) -> Tensor:
        """Give all of it, (1, 3, h, w)."""


class Files(Protocol):
    """The files of a batch, as a search walks in them; it sees only the part of each that the classifier sees."""

    @property
    def clean(self) -> Sequence[Tensor]:
        """(N,) the parts, (1, 3, h, w) each in [0, 1], on the 8-bit grid."""

    @property
    def views(self) -> Sequence[tuple[float, float]]:
        """(N,) width and height, in the photo's pixels, of what fills the input."""

    @property
    def changes(self) -> bool:
        """Whether what the classifier is shown of the same pixels is drawn anew each time."""

    def shown(self, parts: Sequence[Tensor]) -> Images:
        """Give what the classifier is shown, (N, C, H, W) in [0, 1], of files with these parts.

        Args:
            parts: (N,) of them, (1, 3, h, w) in 8-bit levels (uint8) or in [0, 1].
        """

    def back(self, gradient: Images) -> Sequence[PartGradient]:
        """Carry a gradient (N, C, H, W) at what was last shown back to the parts, as it is asked for."""

    def each(self, do: Callable[..., Any], *given: Sequence[Any]) -> list[Any]:
        """Call a function for each file with what is ``given`` for it, as many at once as there are threads."""

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep`` (bool (N,)) of the batch."""
