"""The photos of an audit: which files there are, and whether they are still those of the plan."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from underfire.core import NotFoundError, Photo, UnderfireError, evenly
from underfire.core.files import read_many
from underfire.core.place import Place, place

DEMO = "demo"
"""The word for the photos that scikit-image ships."""
DEMO_PHOTOS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "rocket.jpg",
)
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
UNREADABLE = "unreadable"
"""The word in place of the digest of a file that could not be read when the audit was planned."""


class PhotoLostError(UnderfireError):
    """The error for a photo that is not what it was when the audit was planned."""


class Folder:
    """The photos of one audit.

    Args:
        source: a folder (searched with its sub-folders), one photo, a URL of either that fsspec knows, or 'demo' for
            the CC0 and public-domain photos that scikit-image ships.

    Raises:
        UnderfireError: there is no such folder or file, or it cannot be read.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        root: Place = _demo_root() if source == DEMO else place(source)
        root = root.expanduser() if isinstance(root, Path) else root
        if not _exists(root, source):
            raise NotFoundError(
                f"There is no folder or file '{source}': --images takes a folder of photos, one photo, or 'demo'."
            )
        self.root = root if root.is_dir() else root.parent
        self._file = None if root.is_dir() else root.name

    @cached_property
    def paths(self) -> list[str]:
        """Paths of all photos, sorted.

        They are looked for on first use: a worker knows its photos and never asks. UnderfireError where there are none.
        """
        if self._file is not None:
            self.bytes(self._file)
            return [self._file]
        found = list(DEMO_PHOTOS) if self.source == DEMO else _walk(self.root)
        if not found:
            raise NotFoundError(
                f"No images in '{self.source}': looked for {', '.join(sorted(SUFFIXES))} in it and its sub-folders."
            )
        return found

    def bytes(self, path: str) -> bytes:
        """Read a file.

        Raises:
            UnderfireError: it cannot be read.
        """
        try:
            return (self.root / path).read_bytes()
        except OSError as e:
            raise UnderfireError(f"Cannot read '{path}' ({e.strerror or e}).") from e

    def photos(self, limit: int | None) -> list[Photo]:
        """Identify the photos: all, or ``limit`` of them, evenly spaced over the sorted paths.

        Raises:
            UnderfireError: there are none, or the store does not answer.
        """
        try:
            found = read_many(self.root, evenly(self.paths, limit))
            return [Photo(path, _sha256(content)) for path, content in found]
        except OSError as e:
            raise UnderfireError(f"Cannot read the photos in '{self.source}' ({e.strerror or e}).") from e


def planned(folder: Folder, photo: Photo) -> bytes:
    """Read a photo that has not changed since the audit was planned.

    Raises:
        PhotoLostError: it is gone, or its content is another one now.
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
    """Digest a photo; a file that cannot be read gets its error when its turn comes."""
    return UNREADABLE if isinstance(content, OSError) else hashlib.sha256(content).hexdigest()


def _exists(root: Place, source: str) -> bool:
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
    """List the paths below ``root`` with a photo's ending, sorted; hidden files and folders are left out."""
    found = list(_below(root)) if isinstance(root, Path) else root.ask(_find)
    return sorted(path for path in found if PurePosixPath(path).suffix.lower() in SUFFIXES)


def _below(root: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(folder, name).relative_to(root).as_posix() for name in files if not name.startswith("."))


def _find(fs: Any, root: str) -> list[str]:
    inside = (path.partition(root.strip("/") + "/")[2] for path in fs.find(root))
    return [path for path in inside if not any(part.startswith(".") for part in path.split("/"))]
