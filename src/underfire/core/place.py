"""Where files lie: a path of this machine, or a URL that fsspec knows (s3://, gs://, memory://).

A `Remote` has those of `pathlib.Path`'s verbs that underfire needs, so that readers do not care which of the two they
have. On an object store a write is whole or not at all; there is no renaming, no folder and no lock.

Why not `upath.UPath`, which has all of those verbs: it asks a store once, and writes a file as it is closed, where
nothing below it can ask again; and it takes the brackets in a name for a pattern where it removes a file.
"""

from __future__ import annotations

import contextlib
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, TypeVar

from underfire.core.errors import UnderfireError

WAITS = (0.5, 1, 2, 4, 8, 16, 30)
"""Seconds between the tries of a store that has answered before and now does not: a minute in all."""
TOGETHER = 256
"""Files asked for at a time: an object store serves many at once, and so many of ours fit into memory."""
TEMPORARY = ".tmp-"
"""How the name of a file starts that is not finished."""
_ANSWERS = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
_COLONS = "\ufdd0"
"""Stands for the two colons in a photo's name, which fsspec takes for a second URL; no character ever is this one."""
_answered: set[str] = set()
T = TypeVar("T")


@dataclass(frozen=True)
class Remote:
    """A file or folder on a store that fsspec knows.

    Args:
        url: with its scheme, such as s3://bucket/audit.
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
        """The last part."""
        return self._path.name

    @property
    def stem(self) -> str:
        """The last part without its suffix."""
        return self._path.stem

    @property
    def parent(self) -> Remote:
        """The folder it lies in."""
        return Remote(self.url.rstrip("/").rpartition("/")[0])

    def exists(self) -> bool:
        """Whether there is such a file, or anything below it."""
        return bool(self.ask(lambda fs, path: fs.exists(path)))

    def is_file(self) -> bool:
        """Whether there is such a file."""
        try:  # not fs.isfile: it says no where a store does not answer
            return bool(self.ask(lambda fs, path: fs.info(path)["type"] == "file"))
        except FileNotFoundError:
            return False

    def is_dir(self) -> bool:
        """Whether anything lies below it."""
        return bool(self.ask(lambda fs, path: fs.isdir(path)))

    def iterdir(self) -> Iterator[Remote]:
        """What lies directly in it."""
        names = self.ask(lambda fs, path: fs.ls(path, detail=False))
        return (self / PurePosixPath(name).name for name in names)

    def read_bytes(self) -> bytes:
        """The content."""
        content: bytes = self.ask(lambda fs, path: fs.cat_file(path))
        return content

    def read_text(self, encoding: str = "utf-8") -> str:
        """The content as text."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Write the file, whole or not at all."""
        self.ask(lambda fs, path: fs.pipe_file(path, content))

    def create(self, content: bytes) -> None:
        """Write the file unless it is there, which only one of several that try at once can do.

        Raises:
            FileExistsError: it is there.
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
        """What the store answers; asked again for a minute where it used to answer and now does not.

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
            except _ANSWERS:
                _answered.add(home)
                raise
            except Exception as e:  # each store's library has its own errors for a line that is down
                wait = next(waits, None)
                if wait is None:
                    raise OSError(f"{type(e).__name__}: {e}") from e
                time.sleep(wait)
            else:
                _answered.add(home)
                return answer


Place: TypeAlias = Path | Remote


def place(word: str | Path) -> Place:
    """A path, or a place behind a URL."""
    text = str(word)
    if not text.strip():
        raise UnderfireError("An empty name is no folder and no file: give one.")
    if not is_url(text):
        return Path(text)
    return Path(text.removeprefix("file://")) if text.startswith("file://") else Remote(text.rstrip("/"))


def is_url(word: str) -> bool:
    """Whether a word of the user's is a URL and no path."""
    return "://" in word


def _open(url: str) -> tuple[Any, str]:
    import fsspec  # noqa: PLC0415 (a run on local folders does without)

    scheme, _, rest = url.partition("://")
    try:
        # A listing that is kept hides what other workers have written since.
        fs, path = fsspec.core.url_to_fs(f"{scheme}://{rest.replace('::', _COLONS)}", use_listings_cache=False)
    except (ImportError, ValueError) as e:
        raise UnderfireError(f"Cannot use '{url}': {e}") from e
    return fs, path.replace(_COLONS, "::")


@dataclass(frozen=True)
class Entry:
    """A file in a listing: bytes, and when it was last written by its store's clock, s since 1970."""

    size: int
    written: float


def listing(folder: Place) -> dict[str, Entry]:
    """Name -> entry of the files that lie directly in a folder; empty where there is none."""
    if isinstance(folder, Path):
        found = {}
        for path in folder.iterdir() if folder.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # a temporary that has been renamed since it was listed
                stat = path.stat()
                found[path.name] = Entry(stat.st_size, stat.st_mtime)
        return found
    try:
        infos = folder.ask(lambda fs, path: fs.ls(path, detail=True))
    except FileNotFoundError:
        return {}
    files = (info for info in infos if info["type"] == "file")
    return {PurePosixPath(info["name"]).name: Entry(info["size"] or 0, _seconds(info)) for info in files}


def _seconds(info: Mapping[str, Any]) -> float:
    when = next((info[key] for key in ("LastModified", "mtime", "updated", "created") if key in info), 0.0)
    if isinstance(when, str):
        when = datetime.fromisoformat(when)
    return when.timestamp() if isinstance(when, datetime) else float(when)


def read_many(folder: Place, names: Iterable[str]) -> Iterator[tuple[str, bytes | OSError]]:
    """Name and content, or why there is none, of files below a folder; object stores are asked for many at once."""
    if isinstance(folder, Path):
        yield from ((name, _content(folder / name)) for name in names)
        return
    todo = list(names)
    for start in range(0, len(todo), TOGETHER):
        some = todo[start : start + TOGETHER]
        yield from zip(some, _contents(folder, some), strict=True)


def _content(path: Path) -> bytes | OSError:
    try:
        return path.read_bytes()
    except OSError as e:
        return e


def _contents(folder: Remote, names: list[str]) -> list[bytes | OSError]:
    def cat(fs: Any, root: str) -> list[bytes | OSError]:
        # not fs.cat: it takes the brackets of "photo[1].png" for a pattern
        answers = fs.cat_ranges([f"{root}/{name}" for name in names], None, None, on_error="return")
        for answer in answers:
            if isinstance(answer, Exception) and not isinstance(answer, _ANSWERS):
                raise answer
        return list(answers)

    return folder.ask(cat)


def write_whole(file: Place, content: bytes) -> None:
    """Write a file so that nobody ever sees a part of it."""
    if not isinstance(file, Path):
        file.write_bytes(content)
        return
    temporary = file.parent / temporary_name()
    try:
        temporary.write_bytes(content)
        temporary.replace(file)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def temporary_name() -> str:
    """A name that no other has, and that a sweep knows."""
    return f"{TEMPORARY}{uuid.uuid4().hex}"


def write_many(folder: Remote, files: Mapping[str, bytes]) -> None:
    """Write files into a folder of an object store, many at once."""
    folder.ask(lambda fs, path: fs.pipe({f"{path}/{name}": content for name, content in files.items()}))


def below(root: Place, name: str) -> Place | None:
    """The place of a file below a folder; None where its name leads out of the folder, or a link does."""
    if not is_below(name):
        return None
    file = root / name
    if isinstance(file, Path) and isinstance(root, Path) and not file.resolve().is_relative_to(root.resolve()):
        return None
    return file


def is_below(name: str) -> bool:
    """Whether a relative name stays in its folder."""
    parts = PurePosixPath(name).parts
    return bool(parts) and not PurePosixPath(name).is_absolute() and ".." not in parts and "\0" not in name


def local(where: Place) -> Path | None:
    """The path of a place on this machine; None for one behind a URL."""
    return where if isinstance(where, Path) else None


FILES = ("weights", "classes", "defense")


def absolute_files(options: Mapping[str, Any]) -> dict[str, Any]:
    """A part's options, its files' places absolute."""
    return {k: _absolute(v) if k in FILES and isinstance(v, str) else v for k, v in options.items()}


def _absolute(path: str) -> str:
    """So that plan.yaml can be run from anywhere."""
    return str(Path(path).expanduser().absolute())


def slug(path: str) -> str:
    """The readable part of an output file's name: ASCII, at most 40 characters."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", PurePosixPath(path).stem).strip("-")[:40] or "image"
