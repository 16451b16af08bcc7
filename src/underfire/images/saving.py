"""How a forged file is saved: in which format, and what it keeps of the photo's own file so that it takes its place.

Size, orientation, EXIF and colour profile stay. What a format of ours cannot hold (a palette, grey, transparency, 16
bits, CMYK, several frames) is saved as plain RGB, and the record says so.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, JpegImagePlugin
from PIL.PngImagePlugin import PngInfo

from underfire.core import Limits, UnderfireError, unknown
from underfire.images.formats import SAVED, opened
from underfire.images.pixels import FORGED, JPEG_QUALITY, PNG_COMPRESSION, SOFTWARE, decode, pillow_allows

if TYPE_CHECKING:
    from numpy.typing import NDArray

FORMATS = ("png", "jpeg", "webp", "same")
"""Words of --save-as."""
QUALITY = {"jpeg": JPEG_QUALITY, "webp": 80}
"""Quality where the user gives none."""
ORIENTATION = 0x0112
"""The EXIF tag that says how a picture is to be turned."""
_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""Orientation -> what turns an upright picture to how it lies in its file."""
_PLAIN = {
    "P": "a palette",
    "1": "black and white",
    "L": "grey",
    "LA": "grey",
    **{"CMYK": "CMYK", "YCCK": "CMYK"},
    "LAB": "Lab colours",
}
_FORMAT_NAMES = {"MPO": "JPEG"}


@dataclass(frozen=True)
class Saver:
    """How one photo's forgery is saved.

    Args:
        format: Pillow's name of the format.
        options: of the encoder.
        lossy: whether decoding gives other pixels than were saved.
        word: the format for records.
        orientation: of the file, as EXIF counts it; 1 is upright.
        exif: the EXIF block; b"" without one.
        profile: the colour profile; b"" without one.
        instead: what is not kept of the photo's file; '' where everything is.
    """

    format: str
    options: Mapping[str, Any] = field(default_factory=dict)
    lossy: bool = False
    word: str = "png"
    orientation: int = 1
    exif: bytes = b""
    profile: bytes = b""
    instead: str = ""

    @property
    def suffix(self) -> str:
        """The ending of the file's name."""
        return SAVED[self.format]

    def save(self, pixels: NDArray[np.uint8], forged: str | None = None) -> bytes:
        """Encode upright RGB pixels (h, w, 3); equal pixels give equal bytes.

        Args:
            pixels: the picture.
            forged: the attack that made it, if one did. The file says so: nobody shall take it for a benign photo.
        """
        image = Image.fromarray(pixels)
        if self.orientation in _TURNED:
            image = image.transpose(_TURNED[self.orientation])
        kept: dict[str, Any] = {"icc_profile": self.profile} if self.profile else {}
        exif = self._exif(forged)
        if exif:
            kept["exif"] = exif
        if forged and self.format == "PNG":
            kept["pnginfo"] = PngInfo()
            kept["pnginfo"].add_text(FORGED, forged)
        if forged and self.format == "JPEG":
            kept["comment"] = f"{FORGED}: {forged}".encode()
        buffer = io.BytesIO()
        image.save(buffer, self.format, **self.options, **kept)
        return buffer.getvalue()

    def _exif(self, forged: str | None) -> bytes:
        if not (forged and self.format == "WEBP"):
            return self.exif
        exif = Image.Exif()
        if self.exif:
            exif.load(self.exif)
        exif[SOFTWARE] = f"{FORGED}: {forged}"
        try:
            return exif.tobytes()
        except Exception:  # tags of a type that is not theirs can be read, and not written: then they are left out
            plain = Image.Exif()
            plain[ORIENTATION], plain[SOFTWARE] = self.orientation, exif[SOFTWARE]
            return plain.tobytes()

    def through(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Save pixels (h, w, 3), and read them back."""
        if not self.lossy:
            return pixels
        return np.asarray(decode(self.save(pixels), "the saved picture", Limits(pixels=pixels.size)))


@dataclass(frozen=True)
class FilePhoto:
    """A photo's file as a forgery of it starts from.

    Args:
        pixels: (h, w, 3) upright RGB.
        saver: how its forgery is saved.
    """

    pixels: NDArray[np.uint8]
    saver: Saver

    @property
    def limits(self) -> Limits:
        """Limits that let this photo through."""
        return Limits(pixels=self.pixels.size)


def file_photo(content: bytes, path: str, save_as: str, limits: Limits = Limits()) -> FilePhoto:
    """Decode a photo's file, and find out how its forgery is saved.

    Args:
        content: the bytes of the file.
        path: its name in an error.
        save_as: as --save-as: png, jpeg, jpeg:75, webp, webp:90 or same.
        limits: how many pixels it may have.

    Raises:
        UnderfireError: no photo, or an unknown format.
    """
    return FilePhoto(np.array(decode(content, path, limits)), saver_of(content, save_as, limits))


def check_format(save_as: str) -> tuple[str, int | None]:
    """Read the word of --save-as: the format, and its quality where it has one.

    Raises:
        UnderfireError: an unknown format, or a quality that it does not have.
    """
    name, colon, quality = save_as.partition(":")
    if name not in FORMATS:
        raise unknown("format", name, FORMATS)
    if not colon:
        return name, QUALITY.get(name)
    if name not in QUALITY or not quality.isdecimal() or not 1 <= int(quality) <= 100:
        raise UnderfireError(f"--save-as {save_as}: give a quality from 1 to 100 to jpeg or webp, such as jpeg:90.")
    return name, int(quality)


def saver_of(content: bytes, save_as: str, limits: Limits = Limits()) -> Saver:
    """Find out how the forgery of a file is saved; arguments and errors as in `file_photo`."""
    name, quality = check_format(save_as)
    with pillow_allows(limits.pixels), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd EXIF blocks do not make a photo bad
        with opened(content) as picture:
            own = _FORMAT_NAMES.get(str(picture.format), str(picture.format))
            kept = _kept(picture)
            if name == "same":
                return _same(picture, own, content, kept)
    if name == "jpeg":
        return _jpeg(quality or JPEG_QUALITY, kept)
    if name == "webp":
        return Saver("WEBP", {"quality": quality}, True, f"webp {quality}", **kept)
    return _png(kept)


def _png(kept: Mapping[str, Any]) -> Saver:
    return Saver("PNG", {"compress_level": PNG_COMPRESSION}, False, "png", **kept)


def _jpeg(quality: int, kept: Mapping[str, Any]) -> Saver:
    return Saver("JPEG", {"quality": quality}, True, f"jpeg {quality}", **kept)


def _same(picture: Image.Image, own: str, content: bytes, kept: Mapping[str, Any]) -> Saver:
    """Save a file in its own format: a JPEG with its own tables, anything that is not lossy as PNG."""
    if own == "JPEG":
        tables = getattr(picture, "quantization", None)
        sampling = JpegImagePlugin.get_sampling(picture)
        if not tables or sampling < 0 or len(tables) > 2 or picture.mode != "RGB":
            return _jpeg(JPEG_QUALITY, kept)
        options = {"qtables": tables, "subsampling": sampling, "progressive": bool(picture.info.get("progressive"))}
        return Saver("JPEG", options, True, "jpeg, its own tables", **kept)
    if own == "WEBP":
        if b"VP8L" in content[:64] or (b"VP8L" in content and b"VP8 " not in content):
            return Saver("WEBP", {"lossless": True, "exact": True}, False, "webp lossless", **kept)
        return Saver("WEBP", {"quality": QUALITY["webp"]}, True, f"webp {QUALITY['webp']}", **kept)
    if own != "PNG":
        kept = {**kept, "instead": "; ".join(filter(None, [str(kept["instead"]), f"{own} is saved as PNG"]))}
    return _png(kept)


def _kept(picture: Image.Image) -> dict[str, Any]:
    """Find what a forgery keeps of a file, and say what it cannot keep."""
    lost = []
    if int(getattr(picture, "n_frames", 1)) > 1 and picture.format != "MPO":
        lost.append("of several frames the first is saved")
    mode = picture.mode
    if picture.has_transparency_data:
        lost.append("transparency is saved as white")
    if mode in _PLAIN:
        lost.append(f"{_PLAIN[mode]} is saved as RGB")
    elif mode[0] in "IF":
        lost.append("more than 8 bits are saved as 8")
    orientation, exif = _exif(picture)
    profile = picture.info.get("icc_profile") or b""
    if profile and mode not in ("RGB", "RGBA", "P"):
        profile = b""  # it is a profile of other colours than those that are saved
        lost.append("its colour profile is not for RGB and is left out")
    return {
        "orientation": orientation if orientation in _TURNED else 1,
        "exif": exif,
        "profile": profile,
        "instead": "; ".join(lost),
    }


def _exif(picture: Image.Image) -> tuple[int, bytes]:
    """Read the orientation of a file and its EXIF block; of a TIFF, whose tags describe its own layout, just that."""
    exif = picture.getexif()
    orientation = int(exif.get(ORIENTATION, 1) or 1)
    if picture.format == "TIFF":
        exif = Image.Exif()
        if orientation in _TURNED:
            exif[ORIENTATION] = orientation
    raw = picture.info.get("exif")
    if isinstance(raw, bytes) and raw.startswith(b"Exif") and picture.format != "TIFF":
        return orientation, raw
    return orientation, exif.tobytes() if len(exif) else b""
