"""The files of a folder: listed, read and written many at once, and each written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from underfire.core.errors import UnderfireError
from underfire.core.place import ANSWERS, Place, Remote

TOGETHER = 256
"""Files asked for at a time: an object store serves many at once, and so many of ours fit into memory."""
TEMPORARY = ".tmp-"
"""The start of an unfinished file's name."""


@dataclass(frozen=True)
class Entry:
    """A file in a listing.

    Args:
        size: in bytes.
        written: time of the last write by the store's own clock, seconds since 1970.
    """

    size: int
    written: float


def listing(folder: Place) -> dict[str, Entry]:
    """List the files that lie directly in a folder, by name; empty where there is no such folder."""
    if isinstance(folder, Path):
        found = {}
        for path in folder.iterdir() if folder.is_dir() else ():
            with contextlib.suppress(FileNotFoundError):  # a temporary file that was renamed after it was listed
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
    """Yield the name and the content of files below a folder, many at once from an object store.

    The error stands in place of the content of a file that cannot be read.
    """
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
        # not fs.cat: it reads the brackets of "photo[1].png" as a pattern
        answers = fs.cat_ranges([f"{root}/{name}" for name in names], None, None, on_error="return")
        for answer in answers:
            if isinstance(answer, Exception) and not isinstance(answer, ANSWERS):
                raise answer
        return list(answers)

    return folder.ask(cat)


def write_whole(file: Place, content: bytes) -> None:
    """Write a file so that nobody ever sees a half-written one."""
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


def writable_or_say(file: Place, hint: str) -> None:
    """Raise UnderfireError, rather than after an hour, if a file cannot be written; arguments as in `write_or_say`."""
    if isinstance(file, Path) and not os.access(file.absolute().parent, os.W_OK):
        raise UnderfireError(f"Cannot write '{file}': its folder is missing or read-only; {hint}.")


def write_or_say(file: Place, content: bytes, hint: str) -> None:
    """Write a file, whole or not at all.

    Args:
        file: where.
        content: the whole of it.
        hint: what the user can do if it fails, such as 'give another --out'.

    Raises:
        UnderfireError: it cannot be written.
    """
    try:
        write_whole(file, content)
    except OSError as e:
        raise UnderfireError(f"Cannot write '{file}' ({e.strerror or e}): {hint}.") from e


def temporary_name() -> str:
    """Make up a name that no other file has, and that a sweep recognises."""
    return f"{TEMPORARY}{uuid.uuid4().hex}"


def write_many(folder: Remote, files: Mapping[str, bytes]) -> None:
    """Write files into a folder of an object store, many at once."""
    folder.ask(lambda fs, path: fs.pipe({f"{path}/{name}": content for name, content in files.items()}))
