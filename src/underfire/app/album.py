"""The photos that were given to the app: bounded, decoded by the project's own loader, and kept in memory alone."""

from __future__ import annotations

import io
import secrets
import threading
from dataclasses import dataclass
from pathlib import PurePosixPath

from PIL import Image

from underfire.core import Limits, NotFoundError, UnderfireError
from underfire.core.naming import DEMO
from underfire.images import pixels
from underfire.images.photos import DEMO_PHOTOS, Folder

LIMITS = Limits(pixels=50_000_000, bytes=40_000_000)
"""How large a photo may be: that of any phone, and far from what this machine holds."""
MOST = 12
"""Photos that are kept; the oldest goes when another one comes."""
SIDE = 480
"""Longest side of a photo as it is shown beside the form, px."""


@dataclass(frozen=True)
class Given:
    """A photo that was given.

    Args:
        key: what the page calls it; nobody can guess it.
        name: of its file, without folders.
        content: its file.
        small: a small JPEG of it, upright.
    """

    key: str
    name: str
    content: bytes
    small: bytes


class Album:
    """The photos that were given, by key; the app forgets them when it ends."""

    def __init__(self) -> None:
        self._photos: dict[str, Given] = {}
        self._lock, self._decoding = threading.Lock(), threading.Lock()

    def add(self, name: str, content: bytes) -> Given:
        """Take a photo.

        Raises:
            UnderfireError: no photo, damaged, or too large.
        """
        name = clean_name(name)
        if len(content) > LIMITS.bytes:
            raise UnderfireError(too_large(name))
        with self._decoding:  # one at a time: a photo's pixels are many times its file
            photo = pixels.decode(content, name, LIMITS)
            photo.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
        given = Given(secrets.token_urlsafe(16), name, content, jpeg(photo))
        with self._lock:
            self._photos[given.key] = given
            while len(self._photos) > MOST:
                del self._photos[next(iter(self._photos))]
        return given

    def demo(self, name: str) -> Given:
        """Take one of the photos that come with scikit-image."""
        if name not in DEMO_PHOTOS:
            raise NotFoundError(f"There is no demo photo '{name}'.")
        return self.add(name, Folder(DEMO).bytes(name))

    def __getitem__(self, key: str) -> Given:
        """Find a photo; NotFoundError where it is forgotten."""
        with self._lock:
            if key not in self._photos:
                raise NotFoundError("This photo is not here any more: give it again.")
            return self._photos[key]


def clean_name(name: str) -> str:
    """Keep the last part of a file's name, with what can be printed of it."""
    last = PurePosixPath(name.replace("\\", "/")).name
    return "".join(letter for letter in last if letter.isprintable())[:100] or "photo"


def too_large(name: str) -> str:
    """Say that a file is too large."""
    return f"'{name}' has more than {LIMITS.bytes / 1e6:,.0f} MB: make it smaller first."


def jpeg(photo: Image.Image, quality: int = 88) -> bytes:
    """Encode a small picture for the page."""
    buffer = io.BytesIO()
    photo.convert("RGB").save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()
