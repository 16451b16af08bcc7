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
"""(N,) one number for each image."""

LEVELS = 255
"""Steps of an 8-bit pixel between black and white; budgets are whole steps."""

T = TypeVar("T")


def evenly(items: Sequence[T], n: int | None) -> tuple[T, ...]:
    """Pick ``n`` items, evenly spaced from the first on; all of them where ``n`` is None or larger."""
    if n is None or n >= len(items):
        return tuple(items)
    return tuple(items[i * len(items) // n] for i in range(n))


@dataclass(frozen=True)
class Preprocess:
    """The input policy of a classifier: how a photo becomes its input.

    Args:
        input_size: side of the square input, px.
        resize: length of the photo's shorter side before the centre crop, px.
        mean: what is subtracted from each colour channel in [0, 1].
        std: what each channel is then divided by.
        interpolation: bilinear, bicubic, lanczos or nearest.
    """

    spelled: ClassVar[str] = "Preprocess"
    input_size: int
    resize: int
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"


@dataclass(frozen=True)
class ClassNames:
    """The names of a classifier's outputs.

    Args:
        names: a readable name for each output.
        ids: a WordNet id (or another unique id) for each output; empty where there are none.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class ClassifierOptions:
    """The user's own weights and input policy for a named classifier; None keeps the classifier's.

    Args:
        weights: path of a safetensors file, or of a checkpoint without code.
        input_size: side of the square input, px.
        resize: length of the photo's shorter side before the centre crop, px.
        mean: what is subtracted from each colour channel in [0, 1].
        std: what each channel is then divided by.
        classes: path of a file of class names.
        interpolation: how photos are resized.
        door: the front door, as in ``underfire list``.
    """

    weights: str | None = None
    input_size: int | None = None
    resize: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    classes: str | None = None
    interpolation: str | None = None
    door: str | None = None


@dataclass(frozen=True)
class Limits:
    """How large a photo may be, so that one file does not fill the memory of every worker.

    Args:
        pixels: as it unpacks; None: as many as Pillow opens without a warning, 89 million.
        bytes: of its file.
    """

    pixels: int | None = None
    bytes: int = 512_000_000


@dataclass(frozen=True)
class Photo:
    """The identity of a file of the user's.

    Args:
        path: its path below the folder of photos.
        sha256: digest of its bytes.
    """

    path: str
    sha256: str


@dataclass(frozen=True)
class TargetMap:
    """The source of the target maps m_t; see `underfire.plan.targets`.

    Args:
        kind: 'benign', 'class', 'image', 'shape' or 'file'.
        value: a class index, a path or a shape; 'random' for another class or photo for each image.
        digest: SHA-256 of the file, where there is one.
    """

    kind: str = "benign"
    value: str | int = ""
    digest: str = ""

    @property
    def drawn(self) -> bool:
        """Whether the map is drawn: it is the map of no image."""
        return self.kind in ("shape", "file")

    @property
    def key(self) -> str:
        """The text for digests: everything that changes a number."""
        return f"{self.kind}:{self.digest or self.value}".removesuffix(":")

    @property
    def word(self) -> str:
        """The text for records, with only the last part of a path."""
        value = str(self.value)
        return f"{self.kind}:{PurePath(value).name if self.digest else value}".removesuffix(":")
