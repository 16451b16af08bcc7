"""The files that are found below a folder of photos: which of them are photos, and why the others are left out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from underfire.core.place import Place
from underfire.images.formats import FORMATS, looks_like_picture, suffixes

LOGS = ("plan.yaml", "study.yaml")
"""Files of which every folder of results has one."""
DEFAULT_OUT = "underfire-out"
"""Folder of the output folders that the user does not name."""
NAMED = 5
"""Number of left-out files that a sentence names."""
_TAKEN_NO = "that cannot be decoded here"
_RESULTS = "with results of underfire"
_ODD = "no regular file"
_NAME = "whose name is not UTF-8"
_CLOSED = "that cannot be read"
_LINK = "behind a link"


def sort_out(found: Iterable[tuple[str, str | None]], root: Place) -> dict[str, str | None]:
    """Tell for each path of a photo or a folder why it is left out; None for photos that are taken.

    Args:
        found: all paths below ``root`` that are not hidden, with a reason where the search knows one.
        root: the folder of photos.
    """
    seen = dict(found)
    logs = (PurePosixPath(path) for path in seen)
    # The root itself may have a log: `Folder.refuse_results` refuses the folder of an audit.
    results = {str(path.parent) for path in logs if path.name in LOGS and path.parent.parts}
    out: dict[str, str | None] = {}
    for path, reason in seen.items():
        above = _results_above(PurePosixPath(path), results)
        if above is not None:
            out[above + "/"] = _RESULTS
        elif reason is not None:
            out[path] = reason
        elif looks_like_picture(PurePosixPath(path).suffix.lower()):
            out[path] = _why_left_out(path, root)
    return out


def _results_above(path: PurePosixPath, results: set[str]) -> str | None:
    """Find the topmost folder of results that a path lies in."""
    for folder in reversed(path.parents):
        if str(folder) in results or folder.name == DEFAULT_OUT:
            return str(folder)
    return None


def _why_left_out(path: str, root: Place) -> str | None:
    if PurePosixPath(path).suffix.lower() not in suffixes():
        return _TAKEN_NO
    if not is_text(path):
        return _NAME
    return _ODD if isinstance(root, Path) and not (root / path).is_file() else None


def left_out_sentence(reason: str, names: list[str]) -> str:
    """Say which files or folders are left out for a reason."""
    folders = reason in (_RESULTS, _CLOSED, _LINK)
    what = ("folder" if folders else "file") + ("" if len(names) == 1 else "s")
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    hint = ""
    if reason == _TAKEN_NO and any(PurePosixPath(name).suffix.lower() in FORMATS["HEIF"] for name in names):
        hint = " (HEIC needs: pip install 'underfire[heif]')"
    return f"{len(names)} {what} left out, {reason}: {', '.join(names[:NAMED])}{more}{hint}."


def is_text(name: str) -> bool:
    """Tell whether a name is text, which records can hold; Python keeps other bytes as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def shown(name: str) -> str:
    """Write a name so that it can be printed: other bytes than text are escaped."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def walk(root: Path) -> Iterator[tuple[str, str | None]]:
    """Yield the paths below a folder that are not hidden, with the reason where one cannot be searched."""
    closed: list[str] = []
    for folder, folders, files in os.walk(root, onerror=lambda e: closed.append(str(e.filename))):
        folders[:] = [name for name in folders if not name.startswith(".")]
        links = {name for name in folders if Path(folder, name).is_symlink()}
        for name in (*files, *links):
            if not name.startswith("."):
                yield Path(folder, name).relative_to(root).as_posix(), _LINK if name in links else None
    yield from ((Path(name).relative_to(root).as_posix() + "/", _CLOSED) for name in closed)


def find(fs: Any, root: str) -> list[tuple[str, str | None]]:
    """List the paths below a folder of fsspec's that are not hidden."""
    inside = (path.partition(root.strip("/") + "/")[2] for path in fs.find(root))
    return [(path, None) for path in inside if not any(part.startswith(".") for part in path.split("/"))]
