"""Photos in, 8-bit PNGs out: identities, loading, and rounding inside the budget.

Everything a victim sees is whole levels of 255. The clean image x_o is the photo resized, cropped and rounded; the
adversarial one is rounded (never truncated: that darkens by half a level and can leave the budget).
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from underfire.core import LEVELS, Photo, Preprocess, UnderfireError, evenly
from underfire.core.place import Place, place, read_many

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from underfire.core import Images

DEMO = "demo"
DEMO_PHOTOS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "rocket.jpg",
)
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
SMALLEST_SIDE = 16
"""Shorter side in px under which a file is no photo of anything."""
FORGED = "underfire forged"
"""Keyword of the PNG text that says what made an adversarial picture."""
PNG_COMPRESSION = 6
"""Fixed, so that equal pixels are equal bytes."""
JPEG_QUALITY = 90
"""The everyday damage that an 'untouched' map is measured against (method, section 5.5)."""


UNREADABLE = "unreadable"
"""Stands for the digest of a file that could not be read when the audit was planned."""


class PhotoLostError(UnderfireError):
    """A photo is not what it was when the audit was planned."""


class Folder:
    """The photos of one audit.

    Args:
        source: a folder (searched with its sub-folders), one image file, a URL of either that fsspec knows, or 'demo'
            for the CC0 and public-domain photos that scikit-image ships.

    Raises:
        UnderfireError: missing, empty or not readable.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        root: Place = _demo_root() if source == DEMO else place(source)
        root = root.expanduser() if isinstance(root, Path) else root
        if not _told_exists(root, source):
            raise UnderfireError(
                f"There is no folder or file '{source}': --images takes a folder of photos, one photo, or 'demo'."
            )
        self.root = root if root.is_dir() else root.parent
        self._file = None if root.is_dir() else root.name

    @cached_property
    def paths(self) -> list[str]:
        """All photos, sorted; looked for on first use, since a worker that is told its photos never asks."""
        if self._file is not None:
            self.bytes(self._file)
            return [self._file]
        found = list(DEMO_PHOTOS) if self.source == DEMO else _walk(self.root)
        if not found:
            raise UnderfireError(
                f"No images in '{self.source}': looked for {', '.join(sorted(SUFFIXES))} in it and its sub-folders."
            )
        return found

    def bytes(self, path: str) -> bytes:
        """The file's content."""
        try:
            return (self.root / path).read_bytes()
        except OSError as e:
            raise UnderfireError(f"Cannot read '{path}' ({e.strerror or e}).") from e

    def photos(self, limit: int | None) -> list[Photo]:
        """Identities of all photos, or of ``limit`` of them evenly spaced over the sorted paths."""
        try:
            found = read_many(self.root, evenly(self.paths, limit))
            return [Photo(path, _sha256(content)) for path, content in found]
        except OSError as e:
            raise UnderfireError(f"Cannot read the photos in '{self.source}' ({e.strerror or e}).") from e


def planned(folder: Folder, photo: Photo) -> bytes:
    """The content of a photo as it was when the audit was planned.

    Raises:
        PhotoLostError: it is gone or has other content now.
        UnderfireError: it could not be read then either.
    """
    try:
        content = folder.bytes(photo.path)
    except UnderfireError as e:
        if photo.sha256 == UNREADABLE:
            raise
        raise PhotoLostError(
            f"{str(e).removesuffix('.')}, but it was there when this audit was planned: bring '{folder.source}' "
            "back, then run the same command again. What is finished is kept."
        ) from e
    if photo.sha256 not in (UNREADABLE, hashlib.sha256(content).hexdigest()):
        raise PhotoLostError(
            f"'{photo.path}' in '{folder.source}' has changed since this audit was planned: bring the photo back and "
            "run the same command again, or give a new folder with --out."
        )
    return content


def _sha256(content: bytes | OSError) -> str:
    """The digest; a file that cannot be read says so again, with its reason, when its turn comes."""
    return UNREADABLE if isinstance(content, OSError) else hashlib.sha256(content).hexdigest()


def _told_exists(root: Place, source: str) -> bool:
    try:
        return root.exists()
    except OSError as e:
        raise UnderfireError(f"Cannot look for photos in '{source}' ({e.strerror or e}).") from e


def _demo_root() -> Path:
    spec = importlib.util.find_spec("skimage")
    if spec is None or not spec.submodule_search_locations:
        raise UnderfireError("--images demo needs scikit-image for its photos: pip install scikit-image.")
    return Path(spec.submodule_search_locations[0]) / "data"


def _walk(root: Place) -> list[str]:
    """Paths below ``root`` of all that look like photos, sorted; hidden files and folders are passed over."""
    found = list(_below(root)) if isinstance(root, Path) else root.ask(_find)
    return sorted(path for path in found if PurePosixPath(path).suffix.lower() in SUFFIXES)


def _below(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(folder, name).relative_to(root).as_posix() for name in files if not name.startswith("."))


def _find(fs: Any, root: str) -> list[str]:
    inside = (path.partition(root.strip("/") + "/")[2] for path in fs.find(root))
    return [path for path in inside if not any(part.startswith(".") for part in path.split("/"))]


def load(content: bytes, path: str, policy: Preprocess) -> NDArray[np.uint8]:
    """Decode, turn upright, resize the shorter side, crop the centre.

    Grey, palette, CMYK and 16-bit pictures become 8-bit RGB; transparent ones are laid on white, as viewers show them.

    Args:
        content: the file.
        path: what to call it in an error.
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
    # Only the part that stays is resampled: a panorama of 16 × 10,000 px would otherwise become a huge picture.
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
    """(N, H, W, 3) levels -> (N, 3, H, W) float32 in [0, 1]."""
    import torch  # noqa: PLC0415 (the report reads PNGs without torch)

    return torch.from_numpy(np.stack(list(levels))).permute(0, 3, 1, 2).contiguous().float() / LEVELS


def to_levels(x: Tensor) -> NDArray[np.uint8]:
    """(N, 3, H, W) in [0, 1] -> (N, H, W, 3) levels, rounded to the nearest."""
    levels: NDArray[np.uint8] = (x.detach() * LEVELS).round().clamp(0, LEVELS).byte().permute(0, 2, 3, 1).cpu().numpy()
    return levels


def linf_levels(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> int:
    """Largest difference of two pictures in levels."""
    return int(np.abs(a.astype(np.int16) - b.astype(np.int16)).max())


def encode_png(levels: NDArray[np.uint8], forged: str | None = None) -> bytes:
    """(H, W, 3) levels -> a PNG; equal pixels give equal bytes.

    Args:
        levels: the pixels.
        forged: what made them, where an attack did: the file says so, that nobody takes it for a benign photo.
    """
    buffer = io.BytesIO()
    info = PngInfo()
    if forged:
        info.add_text(FORGED, forged)
    Image.fromarray(levels).save(buffer, "PNG", compress_level=PNG_COMPRESSION, pnginfo=info)
    return buffer.getvalue()


def forged_note(content: bytes) -> str | None:
    """What made a picture, where underfire forged it and nobody has saved it anew since."""
    try:
        with Image.open(io.BytesIO(content)) as picture:
            note = picture.info.get(FORGED)
    except Exception:  # whatever is wrong with the file, `load` says it
        return None
    return str(note) if note else None


def decode_png(content: bytes) -> NDArray[np.uint8]:
    """A PNG -> (H, W, 3) levels."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"))


def jpeg(levels: NDArray[np.uint8], quality: int = JPEG_QUALITY) -> NDArray[np.uint8]:
    """What is read back after saving (H, W, 3) levels as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(levels).save(buffer, "JPEG", quality=quality)
    with Image.open(buffer) as image:
        return np.asarray(image.convert("RGB"))
