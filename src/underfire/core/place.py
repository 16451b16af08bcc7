"""Places of files: a path on this machine, or a URL that fsspec knows (s3://, gs://, memory://).

A `Remote` has the methods of `pathlib.Path` that underfire needs, so callers need not care which of the two they have.
On an object store a write is whole or does not happen; there is no renaming, no folder and no lock.

Why not `upath.UPath`, which has all of these methods: it asks a store only once; it writes a file when the file is
closed, where nobody can ask again; and when it removes a file it reads brackets in the name as a pattern.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, TypeVar

from underfire.core.errors import UnderfireError

WAITS = (0.5, 1, 2, 4, 8, 16, 30)
"""Seconds between tries when a store answered before and now does not: about a minute in all."""
ANSWERS = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Errors that are answers of a store: asking again would not change them."""
_COLONS = "\ufdd0"
"""Replaces `::` in a name, which fsspec would read as the start of a second URL. No text ever has this character."""
_answered: set[str] = set()
T = TypeVar("T")


@dataclass(frozen=True)
class Remote:
    """A file or folder on a store that fsspec knows.

    All methods raise OSError where the store does not answer, as the methods of `pathlib.Path` do.

    Args:
        url: the URL with its scheme, such as s3://bucket/audit.
    """

    url: str

    def __str__(self) -> str:
        return self.url

    def __truediv__(self, name: str) -> Remote:
        return Remote(f"{self.url.rstrip('/')}/{name}")

    @property
    def _path(self) -> PurePosixPath:
        return PurePosixPath(self.url.partition("://")[2])

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self._path.name

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return self._path.stem

    @property
    def parent(self) -> Remote:
        """The folder that it lies in."""
        return Remote(self.url.rstrip("/").rpartition("/")[0])

    def exists(self) -> bool:
        """Tell whether there is such a file, or anything below it."""
        return bool(self.ask(lambda fs, path: fs.exists(path)))

    def is_file(self) -> bool:
        """Tell whether there is such a file."""
        try:  # not fs.isfile: it says no where a store does not answer
            return bool(self.ask(lambda fs, path: fs.info(path)["type"] == "file"))
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        """Tell whether anything lies below it."""
        return bool(self.ask(lambda fs, path: fs.isdir(path)))

    def iterdir(self) -> Iterator[Remote]:
        """List what lies directly in it."""
        names = self.ask(lambda fs, path: fs.ls(path, detail=False))
        return (self / PurePosixPath(name).name for name in names)

    def read_bytes(self) -> bytes:
        """Return the content."""
        content: bytes = self.ask(lambda fs, path: fs.cat_file(path))
        return content

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the content as text."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Write the whole file, or nothing."""
        self.ask(lambda fs, path: fs.pipe_file(path, content))

    def create(self, content: bytes) -> None:
        """Write the file unless it exists: of several processes that try at the same time, one succeeds.

        Raises:
            FileExistsError: it exists.
        """
        self.ask(lambda fs, path: fs.pipe_file(path, content, mode="create"))

    def unlink(self, missing_ok: bool = False) -> None:
        """Remove the file."""
        try:
            self.ask(lambda fs, path: fs.rm_file(path))
        except FileNotFoundError:
            if not missing_ok:
                raise

    def ask(self, question: Callable[[Any, str], T]) -> T:
        """Return the store's answer to a question; a store that answered before is asked again for a minute.

        Args:
            question: a function of fsspec's file system and the path on it.

        Raises:
            OSError: no answer, whatever the store's library calls it.
            UnderfireError: a scheme that fsspec does not know, or whose library is not installed.
        """
        fs, path = _open(self.url)
        home = self.url.partition("://")[0] + path.partition("/")[0]
        waits = iter(WAITS if home in _answered else ())
        while True:
            try:
                answer = question(fs, path)
            except ANSWERS:
                _answered.add(home)
                raise
            except Exception as e:  # each store's library has its own errors for a lost connection
                wait = next(waits, None)
                if wait is None:
                    raise OSError(f"{type(e).__name__}: {e}") from e
                time.sleep(wait)
            else:
                _answered.add(home)
                return answer


Place: TypeAlias = Path | Remote
"""A path on this machine, or a URL."""


def place(word: str | Path) -> Place:
    """Turn the user's word into a path or a `Remote`."""
    text = str(word)
    if not text.strip():
        raise UnderfireError("An empty name is no folder and no file: give one.")
    if not is_url(text):
        return _at_home(Path(text))
    return Path(text.removeprefix("file://")) if text.startswith("file://") else Remote(text.rstrip("/"))


def _at_home(path: Path) -> Path:
    """Read '~' as a shell does; in quotes a shell leaves it. A user who is not there stays a name."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def is_url(word: str) -> bool:
    """Tell whether the user's word is a URL rather than a path."""
    return "://" in word


def _open(url: str) -> tuple[Any, str]:
    import fsspec  # noqa: PLC0415 (a run on local folders does not need it)

    scheme, _, rest = url.partition("://")
    try:
        # A cached listing would hide what other workers have written since.
        fs, path = fsspec.core.url_to_fs(f"{scheme}://{rest.replace('::', _COLONS)}", use_listings_cache=False)
    except (ImportError, ValueError) as e:
        raise UnderfireError(f"Cannot use '{url}': {e}") from e
    return fs, path.replace(_COLONS, "::")


def below(root: Place, name: str) -> Place | None:
    """Return the place of a file below a folder; None where its name leads out of the folder, or a link does."""
    if not is_below(name):
        return None
    file = root / name
    if isinstance(file, Path) and isinstance(root, Path) and not file.resolve().is_relative_to(root.resolve()):
        return None
    return file


def is_below(name: str) -> bool:
    """Tell whether a relative name stays in its folder."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not PurePosixPath(name).is_absolute() and ".." not in parts and "\0" not in name


def local(where: Place) -> Path | None:
    """Return a path on this machine as it is, and None for a URL."""
    return where if isinstance(where, Path) else None


FILES = ("weights", "classes", "defense")
"""Options whose value is the path of a file."""


def absolute_files(options: Mapping[str, Any]) -> dict[str, Any]:
    """Make the paths among an attack's, interpreter's or defense's options absolute."""
    return {k: absolute(v) if k in FILES and isinstance(v, str) else v for k, v in options.items()}


def absolute(path: str) -> str:
    """Make a path absolute, so that plan.yaml can be run from any folder."""
    return str(Path(path).expanduser().absolute())


def slug(path: str) -> str:
    """Make the readable part of an output file's name from a path: ASCII, at most 40 characters."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", PurePosixPath(path).stem).strip("-")[:40] or "image"
