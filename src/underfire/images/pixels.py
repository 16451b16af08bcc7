"""The pixels of images: photos are decoded, tensors are rounded, PNGs are written and read.

Everything that a victim sees is in whole levels of 255. The clean image x_o is the photo resized, cropped and rounded.
The adversarial image is rounded too, never truncated: that darkens it by half a level and can leave the budget.
"""

from __future__ import annotations

import contextlib
import io
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from underfire.core import LEVELS, Limits, Preprocess, UnderfireError
from underfire.images.formats import opened, picture

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from underfire.core import Images

SMALLEST_SIDE = 16
"""Smallest shorter side of a photo, px."""
FORGED = "underfire forged"
"""Keyword of the PNG text that says which attack made an image."""
PNG_COMPRESSION = 6
"""zlib's level; fixed, so that equal pixels give equal bytes."""
JPEG_QUALITY = 90
"""Quality of the JPEG that 'untouched' maps are measured against (method, section 5.5)."""


def load(content: bytes, path: str, policy: Preprocess, limits: Limits = Limits()) -> NDArray[np.uint8]:
    """Decode a photo, turn it upright, resize its shorter side and crop its centre.

    Grey, palette, CMYK and 16-bit photos become 8-bit RGB; transparent ones are laid on white, as viewers show them.
    Floats are 0 (black) to 1 (white). A classifier of grey images gets the luma of all of them (ITU-R 601).

    Args:
        content: the bytes of the file.
        path: its name in an error.
        policy: the classifier's sizes.
        limits: how many pixels a photo may have.

    Returns:
        (H, W, C) levels, in the classifier's input size.

    Raises:
        UnderfireError: no image, truncated, too small or too large to be a photo.
    """
    return fitted(decode(content, path, limits), policy)


def decode(content: bytes, path: str, limits: Limits = Limits()) -> Image.Image:
    """Decode a photo into upright 8-bit RGB; arguments and errors as in `load`."""
    photo = upright_rgb(content, path, limits)
    if min(photo.size) < SMALLEST_SIDE:
        raise UnderfireError(
            f"'{path}' is {photo.width}×{photo.height} px: too small to be a photo (at least {SMALLEST_SIDE} px a "
            "side)."
        )
    return photo


def as_opened(content: bytes, path: str, limits: Limits = Limits()) -> Image.Image:
    """Open a photo as it lies in its file, neither turned nor converted, with its metadata; errors as in `load`."""
    upright_rgb(content, path, limits)  # says what is wrong with it
    with pillow_allows(limits.pixels):
        picture = opened(content)
        picture.load()
    return picture


def in_channels(levels: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """Give RGB levels (h, w, 3) in a classifier's channels: as they are, or their luma (h, w, 1)."""
    return levels if channels == 3 else np.array(Image.fromarray(levels).convert("L"))[..., None]


def fitted(rgb: Image.Image, policy: Preprocess) -> NDArray[np.uint8]:
    """Resize the shorter side of a photo and crop its centre: (H, W, C) levels of the input."""
    shown = _cropped(rgb if policy.channels == 3 else rgb.convert("L"), policy)
    return np.asarray(shown).reshape(*policy.size, policy.channels)


def _cropped(photo: Image.Image, policy: Preprocess) -> Image.Image:
    height, width = policy.size
    covered = [side * policy.resize / min(policy.size) for side in (width, height)]
    scale = max(c / p for c, p in zip(covered, photo.size, strict=True))
    size = (max(round(covered[0]), round(photo.width * scale)), max(round(covered[1]), round(photo.height * scale)))
    left, top = round((size[0] - width) / 2), round((size[1] - height) / 2)
    # Only what the crop keeps is resampled: a panorama of 16 × 10,000 px would otherwise become a huge image.
    across, down = photo.width / size[0], photo.height / size[1]
    right, bottom = left + width, top + height
    box = (left * across, top * down, right * across, bottom * down)
    if size == photo.size:
        return photo.crop((left, top, right, bottom))
    return photo.resize((width, height), Image.Resampling[policy.interpolation.upper()], box)


def upright_rgb(content: bytes, path: str, limits: Limits = Limits()) -> Image.Image:
    """Decode an image of any size into upright 8-bit RGB; arguments and other errors as in `load`."""
    with pillow_allows(limits.pixels), warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning)  # odd EXIF blocks do not make a photo bad
        try:
            with opened(content) as picture:
                picture.load()
                upright = ImageOps.exif_transpose(picture)
                return _deep(picture, upright, path) if picture.mode[0] in "IF" else _rgb(upright)
        except UnderfireError:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as e:
            raise UnderfireError(
                f"'{path}' would unpack to more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels, as a decompression bomb "
                "does: make it smaller first, or give --max-megapixels."
            ) from e
        except UnidentifiedImageError as e:
            raise UnderfireError(f"'{path}' is no image that can be read: replace or remove it.") from e
        except Exception as e:  # decoders raise whatever they like on broken files
            raise UnderfireError(f"'{path}' is damaged ({e}): replace or remove it.") from e


_OPENING = threading.Lock()


@contextlib.contextmanager
def pillow_allows(pixels: int | None) -> Iterator[None]:
    """Let Pillow open photos of so many pixels, for the time of a `with` block; None keeps Pillow's own limit.

    One thread at a time: Pillow has one limit for the whole process, and so has `warnings` one list of filters, which
    its users switch inside the block.
    """
    with _OPENING:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, Image.MAX_IMAGE_PIXELS if pixels is None else pixels
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


_BITS, _PHOTOMETRIC = 258, 262
"""Tags of a TIFF."""


def _deep(picture: Image.Image, upright: Image.Image, path: str) -> Image.Image:
    """Turn greys of more than 8 bits, and floats, into 8-bit RGB; Pillow would clip them at 255.

    The type of the file says which number is white, never its largest pixel: a dark photo stays dark.
    """
    grey = np.asarray(upright, np.float64)
    white = 1.0 if picture.mode == "F" else _white(picture, path)
    if not (grey.min() >= 0 and grey.max() <= white):  # not a number is neither
        held = f"from {grey.min():g} to {grey.max():g}" if np.isfinite(grey).all() else "that are not finite"
        raise UnderfireError(
            f"'{path}' holds numbers {held}, but 0 is black and {white:g} is white: save "
            "it with 8 or 16 bits, or as floats from 0 to 1."
        )
    if picture.format == "TIFF" and dict(getattr(picture, "tag_v2", {})).get(_PHOTOMETRIC) == 0:
        grey = white - grey  # in this file 0 is white
    return Image.fromarray(np.rint(grey / white * LEVELS).astype(np.uint8)).convert("RGB")


def _white(picture: Image.Image, path: str) -> float:
    """Find the number that is white in a photo of integers."""
    if picture.format != "TIFF":  # Pillow has scaled others to 16 bits
        return 65535.0
    bits = dict(getattr(picture, "tag_v2", {})).get(_BITS, (0,))[0]
    if not picture.mode.startswith("I;16") or not 8 < bits <= 16:
        raise UnderfireError(
            f"'{path}' is a TIFF of {'signed ' if bits == 16 else ''}{bits}-bit integers, which does not say which "
            "number is white: save it with 8 or 16 bits, or as floats from 0 to 1."
        )
    return float(2**bits - 1)


def to_tensor(levels: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> Images:
    """Turn levels (N, H, W, C) into images (N, C, H, W), float32 in [0, 1]."""
    import torch  # noqa: PLC0415 (the report reads PNGs without torch)

    return torch.from_numpy(np.array(levels)).permute(0, 3, 1, 2).contiguous().float() / LEVELS


def to_levels(x: Tensor) -> NDArray[np.uint8]:
    """Turn images (N, C, H, W) in [0, 1] into levels (N, H, W, C), rounded to the nearest."""
    levels: NDArray[np.uint8] = (x.detach() * LEVELS).round().clamp(0, LEVELS).byte().permute(0, 2, 3, 1).cpu().numpy()
    return levels


def linf_levels(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    """Compute the largest difference of two images (H, W, C), in levels."""
    return int(np.abs(a.astype(np.int16) - b.astype(np.int16)).max())


def encode_png(levels: NDArray[np.uint8], forged: str | None = None) -> bytes:
    """Encode levels (H, W, C) as a PNG, grey where C is 1; equal pixels give equal bytes.

    Args:
        levels: the pixels.
        forged: the attack that made them, if one did. The file says so: nobody shall take it for a benign photo.
    """
    buffer = io.BytesIO()
    info = PngInfo()
    if forged:
        info.add_text(FORGED, forged)
    picture(levels).save(buffer, "PNG", compress_level=PNG_COMPRESSION, pnginfo=info)
    return buffer.getvalue()


def forged_note(content: bytes) -> str | None:
    """Read which attack made a file; None where underfire did not make it, or another program has saved it since."""
    try:
        with opened(content) as picture:
            note = picture.info.get(FORGED)
            if note is None and picture.format in ("JPEG", "MPO"):
                note = _after(FORGED, picture.info.get("comment", b"").decode("utf-8", "replace"))
            if note is None and picture.format == "WEBP":
                note = _after(FORGED, str(picture.getexif().get(SOFTWARE, "")))
    except Exception:  # `load` says what is wrong with the file
        return None
    return str(note) if note else None


SOFTWARE = 0x0131
"""The EXIF tag that holds the note in a WebP, which has no comments."""


def _after(word: str, text: str) -> str | None:
    return text.removeprefix(f"{word}: ") if text.startswith(f"{word}: ") else None


def jpeg(levels: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> NDArray[np.uint8]:
    """Save levels (H, W, C) as JPEG, grey where C is 1, and read them back."""
    buffer = io.BytesIO()
    picture(levels).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer, formats=["JPEG"]) as image:
        return np.asarray(image.convert(picture(levels).mode)).reshape(levels.shape)
