"""The photos of an audit: which files there are, and whether they are still those of the plan."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Collection, Iterator
from functools import cached_property
from pathlib import Path

from underfire.core import Limits, NotFoundError, Photo, UnderfireError, evenly
from underfire.core.files import read_many
from underfire.core.naming import DEMO
from underfire.core.place import Place, place
from underfire.images.formats import suffixes
from underfire.images.found import find, is_text, left_out_sentence, shown, sort_out, walk

DEMO_PHOTOS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "rocket.jpg",
)
UNREADABLE = "unreadable"
"""The word in place of the digest of a file that could not be read when the audit was planned."""


class PhotoLostError(UnderfireError):
    """The error for a photo that is not what it was when the audit was planned."""


class Folder:
    """The photos of one audit.

    Args:
        source: a folder (searched with its sub-folders), one photo, a URL of either that fsspec knows, or 'demo' for
            the CC0 and public-domain photos that scikit-image ships.
        limits: how large a photo may be.

    Raises:
        UnderfireError: there is no such folder or file, or it cannot be read.
    """

    def __init__(self, source: str, limits: Limits = Limits()) -> None:
        if not is_text(source):
            raise UnderfireError(f"'{shown(source)}': this name is not UTF-8. Rename it first.")
        self.source, self.limits = source, limits
        root: Place = _demo_root() if source == DEMO else place(source)
        if not _exists(root, source):
            raise NotFoundError(
                f"There is no folder or file '{source}': --images takes a folder of photos, one photo, or 'demo'."
            )
        self.root = root if root.is_dir() else root.parent
        self._file = None if root.is_dir() else root.name

    @property
    def whole(self) -> bool:
        """Whether it is a folder, and not one file of it."""
        return self._file is None

    @cached_property
    def paths(self) -> list[str]:
        """Paths of all photos, sorted.

        They are looked for on first use: a worker knows its photos and never asks. UnderfireError where there are none.
        """
        if self._file is not None:
            self.bytes(self._file)
            return [self._file]
        if self.source == DEMO:
            return list(DEMO_PHOTOS)
        found = sorted(path for path, reason in self._seen.items() if reason is None)
        if not found:
            looked = f"looked for {', '.join(sorted(suffixes()))} in it and its sub-folders."
            raise NotFoundError(" ".join([f"No images in '{self.source}': {looked}", *self.left_out]))
        return found

    @cached_property
    def _seen(self) -> dict[str, str | None]:
        """The paths of photos and folders of results below the root, with the reason why each is left out, or None."""
        return sort_out(walk(self.root) if isinstance(self.root, Path) else self.root.ask(find), self.root)

    @property
    def left_out(self) -> list[str]:
        """A sentence for each reason why files that look like photos are left out."""
        if self._file is not None or self.source == DEMO:
            return []
        names: dict[str, list[str]] = {}
        for path, reason in sorted(self._seen.items()):
            if reason is not None:
                names.setdefault(reason, []).append(shown(path))
        return [left_out_sentence(reason, found) for reason, found in sorted(names.items())]

    def bytes(self, path: str) -> bytes:
        """Read a file.

        Raises:
            UnderfireError: it cannot be read, is no regular file, or is larger than the limit.
        """
        # A target map's photo may lie on this machine while the photos lie elsewhere; theirs are relative paths.
        file = Path(path) if Path(path).is_absolute() and Path(path).is_file() else self.root / path
        try:
            if isinstance(file, Path) and file.exists() and not file.is_file():  # reading a pipe could take for ever
                raise UnderfireError(f"Cannot read '{path}': it is no regular file.")
            size = file.stat().st_size if isinstance(file, Path) else 0
            content = b"" if size > self.limits.bytes else file.read_bytes()
        except OSError as e:
            raise UnderfireError(f"Cannot read '{path}' ({e.strerror or e}).") from e
        if max(size, len(content)) > self.limits.bytes:
            raise UnderfireError(
                f"'{path}' has more than {self.limits.bytes / 1e6:,.0f} MB: make it smaller, or give --max-megabytes."
            )
        return content

    def photos(self, limit: int | None, but: Collection[str] = ()) -> list[Photo]:
        """Identify the photos: all, or ``limit`` of them, evenly spaced over the sorted paths.

        Args:
            limit: so many at most; None: all.
            but: paths that are none of them.

        Raises:
            UnderfireError: there are none, or the store does not answer.
        """
        chosen = evenly([path for path in self.paths if path not in but], limit)
        if isinstance(self.root, Path):
            return [Photo(path, self._sha256(path)) for path in chosen]
        try:
            return [Photo(path, _sha256(content)) for path, content in read_many(self.root, chosen)]
        except OSError as e:
            raise UnderfireError(f"Cannot read the photos in '{self.source}' ({e.strerror or e}).") from e

    def _sha256(self, path: str) -> str:
        """Digest a photo; a file that cannot be read gets its error when its turn comes."""
        try:
            return _sha256(self.bytes(path))
        except UnderfireError:
            return UNREADABLE

    def refuse_results(self) -> None:
        """Raise UnderfireError where the images are those of an audit: they were attacked."""
        for folder in () if self.source == DEMO else _holders(self.root):
            if _is_audit(folder):
                raise UnderfireError(
                    f"'{self.source}' holds the results of the audit in '{folder}', whose images were attacked: give "
                    "a folder of photos with --images."
                )


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


def _holders(root: Place) -> Iterator[Place]:
    """Yield a folder, and each that it lies in the 'images' of: where an audit would be whose images these are."""
    here: Place = root.absolute() if isinstance(root, Path) else root
    yield here
    while here.name:
        if here.name == "images":
            yield here.parent
        here = here.parent


def _is_audit(folder: Place) -> bool:
    try:
        return (folder / "plan.yaml").is_file() and (folder / "records").is_dir()
    except OSError:  # a folder above the photos may be closed
        return False
