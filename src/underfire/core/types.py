"""Value types: shapes by name, photos, input policies, class names. Imports no torch at run time.

Shapes are written as in the paper: N images of height H and width W, K classes, C feature channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, ClassVar, TypeAlias, TypeVar

if TYPE_CHECKING:
    from torch import Tensor


Images: TypeAlias = "Tensor"
"""(N, 3, H, W) float in [0, 1]."""
Labels: TypeAlias = "Tensor"
"""(N,) int64 class indices."""
Maps: TypeAlias = "Tensor"
"""(N, h, w) float in [0, 1], at the interpreter's native size."""
PerImage: TypeAlias = "Tensor"
"""(N,) one number an image."""

LEVELS = 255
"""8-bit pixels have this many steps between black and white; budgets are whole steps of it."""

T = TypeVar("T")


def evenly(items: Sequence[T], n: int | None) -> tuple[T, ...]:
    """``n`` of the items, evenly spaced from the first on, or all."""
    if n is None or n >= len(items):
        return tuple(items)
    return tuple(items[i * len(items) // n] for i in range(n))


@dataclass(frozen=True)
class Preprocess:
    """How a photo becomes a classifier's input.

    Args:
        input_size: side of the square input, px.
        resize: length the photo's shorter side is resized to before the centre crop, px.
        mean: subtracted from each colour channel in [0, 1].
        std: each channel is divided by this.
        interpolation: one of bilinear, bicubic, lanczos, nearest.
    """

    spelled: ClassVar[str] = "Preprocess"
    input_size: int
    resize: int
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"


@dataclass(frozen=True)
class ClassNames:
    """What a classifier's outputs are called.

    Args:
        names: one human-readable name for each output.
        ids: one WordNet id (or other unique id) for each output; empty where there are none.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class ClassifierOptions:
    """One's own weights and input policy for a named architecture; None keeps the architecture's.

    Args:
        weights: a safetensors file or a checkpoint without code.
        input_size: side of the square input, px.
        resize: length of the shorter side before the crop, px.
        mean: per colour channel.
        std: per colour channel.
        classes: a file of class names.
        interpolation: how photos are resized.
    """

    weights: str | None = None
    input_size: int | None = None
    resize: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    classes: str | None = None
    interpolation: str | None = None


@dataclass(frozen=True)
class Photo:
    """One input image: its path below the images folder, and the SHA-256 of its file."""

    path: str
    sha256: str


@dataclass(frozen=True)
class TargetMap:
    """Where target maps m_t come from; see `underfire.goals`.

    Args:
        kind: 'benign', 'class', 'image', 'shape' or 'file'.
        value: a class index, a path or a shape; 'random' for a class or photo of each image's own.
        digest: SHA-256 of the file, where it is one.
    """

    kind: str = "benign"
    value: str | int = ""
    digest: str = ""

    @property
    def drawn(self) -> bool:
        """The map of no image."""
        return self.kind in ("shape", "file")

    @property
    def key(self) -> str:
        """All that changes numbers."""
        return f"{self.kind}:{self.digest or self.value}".removesuffix(":")

    @property
    def word(self) -> str:
        """What a record says: of a path only its last part."""
        value = str(self.value)
        return f"{self.kind}:{PurePath(value).name if self.digest else value}".removesuffix(":")
