"""The formats of photos that are decoded, and the suffixes of their files.

Pillow knows more formats than these. It gives an EPS file to Ghostscript, which runs it as a program. The content of a
file, not its name, decides which decoder gets it. So each photo is opened with this list.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import io
import warnings
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, features

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMATS = {
    "AVIF": (".avif", ".avifs"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "HEIF": (".heic", ".heif", ".hif"),
    "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg", ".mpo"),
    "JPEG2000": (".j2c", ".j2k", ".jp2", ".jpc", ".jpf", ".jpx"),
    "PNG": (".apng", ".png"),
    "PPM": (".pbm", ".pfm", ".pgm", ".pnm", ".ppm"),
    "QOI": (".qoi",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
"""Pillow's name of a format -> suffixes of its files."""
SAVED = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}
"""Pillow's name of a format that pictures are saved in -> the suffix of our files."""
OTHERS = frozenset(
    {".ai", ".arw", ".cr2", ".cr3", ".cur", ".dcm", ".dds", ".dib", ".dng", ".emf", ".eps", ".exr", ".fits", ".hdr"}
    | {".icns", ".ico", ".jxl", ".jxr", ".nef", ".orf", ".pcx", ".psd", ".raf", ".raw", ".rw2", ".sgi", ".svg", ".tga"}
    | {".wdp", ".wmf", ".xcf"}
)
"""Suffixes of other pictures, which are not decoded."""
_NEEDS = {"AVIF": "avif", "JPEG2000": "jpg_2000", "WEBP": "webp"}
"""Formats that some builds of Pillow lack -> Pillow's name of their library."""


@functools.cache
def formats() -> tuple[str, ...]:
    """List the formats that are decoded on this machine; HEIF needs the package pillow-heif."""
    Image.init()
    if importlib.util.find_spec("pillow_heif"):
        importlib.import_module("pillow_heif").register_heif_opener()
    there = (name for name in FORMATS if name in Image.OPEN)
    return tuple(name for name in there if name not in _NEEDS or features.check(_NEEDS[name]))


def suffixes() -> frozenset[str]:
    """List the suffixes of the files that are taken for photos."""
    return frozenset(suffix for name in formats() for suffix in FORMATS[name])


def looks_like_picture(suffix: str) -> bool:
    """Tell whether files with this suffix are pictures, also of formats that are not decoded."""
    return suffix in OTHERS or any(suffix in known for known in FORMATS.values())


def opened(content: bytes) -> Image.Image:
    """Open a photo of one of the formats; its pixels are decoded later."""
    return Image.open(io.BytesIO(content), formats=formats())


def decode_png(content: bytes, channels: int = 3) -> NDArray[np.uint8]:
    """Decode a PNG into levels (H, W, channels): 3 colours, or 1 grey."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            return np.asarray(image.convert("RGB")) if channels == 3 else np.asarray(image.convert("L"))[..., None]


def picture(levels: NDArray[np.uint8]) -> Image.Image:
    """Make a Pillow image of levels (H, W, C): colours, or grey where C is 1."""
    return Image.fromarray(levels[..., 0] if levels.ndim == 3 and levels.shape[-1] == 1 else levels)


def decode_upright(content: bytes) -> NDArray[np.uint8]:
    """Decode a file of ours into upright levels (h, w, 3), whatever its format."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # it was let through when it was forged
        with opened(content) as image:
            image.load()
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


def suffix_of(saved_as: str | None) -> str:
    """Give the ending of the name of a file that was saved as a record says: 'png', 'jpeg 90'; None: an input's PNG."""
    return SAVED[(saved_as or "png").partition(" ")[0].upper()]
