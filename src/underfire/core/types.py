"""Value types: shapes by name, photos, input policies, class names. Imports no torch at run time.

Shapes are written as in the paper: N images of height H and width W, K classes, C feature channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, ClassVar, TypeAlias, TypeVar

from underfire.core.hashing import ADDED

if TYPE_CHECKING:
    from torch import Tensor


Images: TypeAlias = "Tensor"
"""(N, C, H, W) float in [0, 1]; C is 3, or 1 for a classifier of grey images."""
Labels: TypeAlias = "Tensor"
"""(N,) int64 class indices."""
Maps: TypeAlias = "Tensor"
"""(N, h, w) float in [0, 1], at the interpreter's native size."""
PerImage: TypeAlias = "Tensor"
"""(N,) one number for each image."""

LEVELS = 255
"""Steps of an 8-bit pixel between black and white; budgets are whole steps."""

HEADS = {
    "softmax": "one class of all (softmax)",
    "binary": "one output, two classes (sigmoid)",
    "multilabel": "labels, each on or off by itself (sigmoids)",
}
"""Kinds of head, and what the outputs of each mean."""
WON = {
    "softmax": "the classifier’s first choice is the attacker’s class",
    "binary": "the classifier’s choice, by the sign of its one output, is the attacker’s class",
    "multilabel": "the label that the attacker wants is on, and the photo’s own strongest label is off",
}
"""When an attack has succeeded on a classifier with a head of each kind."""

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
        input_size: side of the square input, px; the height of any other input.
        resize: length of the photo's shorter side before the centre crop, px. Where the input is not square, a photo
            is made as small as it can be and still cover the input enlarged by ``resize`` / its shorter side.
        mean: what is subtracted from each channel in [0, 1]: three numbers for colours, one for grey.
        std: what each channel is then divided by, likewise.
        interpolation: bilinear, bicubic, lanczos or nearest.
        width: of an input that is not square, px; None: it is square.
    """

    spelled: ClassVar[str] = "Preprocess"
    input_size: int
    resize: int
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"
    width: int | None = field(default=None, metadata=ADDED)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input, px."""
        return self.input_size, self.input_size if self.width is None else self.width

    @property
    def channels(self) -> int:
        """Channels of the input: 3 colours, or 1 grey."""
        return len(self.mean)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the input."""
        return self.channels, *self.size


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
        input_size: side of the square input, px, or its height and width.
        resize: length of the photo's shorter side before the centre crop, px.
        mean: what is subtracted from each channel in [0, 1]: one number for all, or one for each.
        std: what each channel is then divided by, likewise.
        classes: path of a file of class names.
        interpolation: how photos are resized.
        channels: 3 colours, or 1 grey.
        head: what the outputs mean; one of `HEADS`.
        key: which of several weights in the file.
        output: which of several outputs the logits are: a name, or a number counted from 0.
        layout: 'nchw' or 'nhwc': the order of the axes of a file's input.
        order: 'rgb' or 'bgr': the order of the colours of a file's input.
        scale: the number that white is before mean and std, which are in its unit.
        door: the front door, as in ``underfire list``.
    """

    weights: str | None = None
    input_size: int | tuple[int, int] | None = None
    resize: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    classes: str | None = None
    interpolation: str | None = None
    channels: int | None = None
    head: str | None = None
    key: str | None = None
    output: str | None = None
    layout: str | None = None
    order: str | None = None
    scale: float | None = None
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
