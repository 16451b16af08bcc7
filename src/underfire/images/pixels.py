"""The pixels of images: photos are decoded, tensors are rounded, PNGs are written and read.

Everything that a victim sees is in whole levels of 255. The clean image x_o is the photo resized, cropped and rounded.
The adversarial image is rounded too, never truncated: that darkens it by half a level and can leave the budget.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from underfire.core import LEVELS, Preprocess, UnderfireError

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


def load(content: bytes, path: str, policy: Preprocess) -> NDArray[np.uint8]:
    """Decode a photo, turn it upright, resize its shorter side and crop its centre.

    Grey, palette, CMYK and 16-bit photos become 8-bit RGB; transparent ones are laid on white, as viewers show them.

    Args:
        content: the bytes of the file.
        path: its name in an error.
        policy: the classifier's sizes.

    Returns:
        (input_size, input_size, 3) levels.

    Raises:
        UnderfireError: no image, truncated, too small or too large to be a photo.
    """
    rgb = _upright_rgb(content, path)
    if min(rgb.size) < SMALLEST_SIDE:
        raise UnderfireError(
            f"'{path}' is {rgb.width}×{rgb.height} px: too small to be a photo (at least {SMALLEST_SIDE} px a side)."
        )
    scale = policy.resize / min(rgb.size)
    size = (max(policy.resize, round(rgb.width * scale)), max(policy.resize, round(rgb.height * scale)))
    left, top = (round((side - policy.input_size) / 2) for side in size)
    # Only what the crop keeps is resampled: a panorama of 16 × 10,000 px would otherwise become a huge image.
    across, down = rgb.width / size[0], rgb.height / size[1]
    right, bottom = left + policy.input_size, top + policy.input_size
    box = (left * across, top * down, right * across, bottom * down)
    if size == rgb.size:
        return np.asarray(rgb.crop((left, top, right, bottom)))
    method = Image.Resampling[policy.interpolation.upper()]
    return np.asarray(rgb.resize((policy.input_size, policy.input_size), method, box))


def _upright_rgb(content: bytes, path: str) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", category=UserWarning)  # odd EXIF blocks do not make a photo bad
        try:
            with Image.open(io.BytesIO(content)) as opened:
                opened.load()
                return _rgb(ImageOps.exif_transpose(opened))
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as e:
            raise UnderfireError(
                f"'{path}' would unpack to more than {Image.MAX_IMAGE_PIXELS or 0:,} pixels, as a decompression bomb "
                "does: make it smaller first."
            ) from e
        except UnidentifiedImageError as e:
            raise UnderfireError(f"'{path}' is no image that can be read: replace or remove it.") from e
        except Exception as e:  # decoders raise whatever they like on broken files
            raise UnderfireError(f"'{path}' is damaged ({e}): replace or remove it.") from e


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # Pillow would clip 16-bit greys at 255
        grey = np.asarray(image, np.float64)
        top = 65535.0 if grey.max() > LEVELS else float(LEVELS)
        return Image.fromarray(np.clip(np.rint(grey / top * LEVELS), 0, LEVELS).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def to_tensor(levels: Sequence[NDArray[np.uint8]] | NDArray[np.uint8]) -> Images:
    """Turn levels (N, H, W, 3) into images (N, 3, H, W), float32 in [0, 1]."""
    import torch  # noqa: PLC0415 (the report reads PNGs without torch)

    return torch.from_numpy(np.array(levels)).permute(0, 3, 1, 2).contiguous().float() / LEVELS


def to_levels(x: Tensor) -> NDArray[np.uint8]:
    """Turn images (N, 3, H, W) in [0, 1] into levels (N, H, W, 3), rounded to the nearest."""
    levels: NDArray[np.uint8] = (x.detach() * LEVELS).round().clamp(0, LEVELS).byte().permute(0, 2, 3, 1).cpu().numpy()
    return levels


def linf_levels(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    """Compute the largest difference of two images (H, W, 3), in levels."""
    return int(np.abs(a.astype(np.int16) - b.astype(np.int16)).max())


def encode_png(levels: NDArray[np.uint8], forged: str | None = None) -> bytes:
    """Encode levels (H, W, 3) as a PNG; equal pixels give equal bytes.

    Args:
        levels: the pixels.
        forged: the attack that made them, if one did. The file says so: nobody shall take it for a benign photo.
    """
    buffer = io.BytesIO()
    info = PngInfo()
    if forged:
        info.add_text(FORGED, forged)
    Image.fromarray(levels).save(buffer, "PNG", compress_level=PNG_COMPRESSION, pnginfo=info)
    return buffer.getvalue()


def forged_note(content: bytes) -> str | None:
    """Read which attack made a file; None where underfire did not make it, or another program has saved it since."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            note = picture.info.get(FORGED)
    except Exception:  # `load` says what is wrong with the file
        return None
    return str(note) if note else None


def decode_png(content: bytes) -> NDArray[np.uint8]:
    """Decode a PNG into levels (H, W, 3)."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def jpeg(levels: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> NDArray[np.uint8]:
    """Save levels (H, W, 3) as JPEG, and read them back."""
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))
