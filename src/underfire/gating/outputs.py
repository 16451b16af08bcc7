"""The files of a ruling: the ending of a name chooses the format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from pydantic import TypeAdapter

from underfire.core import UnderfireError
from underfire.core.files import write_or_say
from underfire.core.place import place
from underfire.gating.badge import badge
from underfire.gating.junit import junit
from underfire.gating.markdown import markdown
from underfire.gating.ruling import Ruling
from underfire.gating.sarif import sarif

_RULING: TypeAdapter[Ruling] = TypeAdapter(Ruling)


def as_json(ruling: Ruling) -> bytes:
    """Write a ruling as JSON; its schema is docs/schemas/gate.schema.json."""
    return _RULING.dump_json(ruling, indent=2) + b"\n"


FORMATS: Mapping[str, Callable[[Ruling], bytes]] = {
    ".junit.xml": junit,
    ".xml": junit,
    ".sarif": sarif,
    ".sarif.json": sarif,
    ".json": as_json,
    ".svg": badge,
    ".md": lambda ruling: markdown(ruling).encode(errors="replace"),
}
"""Ending -> format; the longest that fits is taken."""


def format_of(file: str) -> Callable[[Ruling], bytes]:
    """Choose the format of a file by its ending.

    Raises:
        UnderfireError: no format has this ending.
    """
    fitting = [ending for ending in FORMATS if file.lower().endswith(ending)]
    if not fitting:
        raise UnderfireError(f"-o {file}: the ending gives the format: {', '.join(FORMATS)}.")
    return FORMATS[max(fitting, key=len)]


def write_all(ruling: Ruling, files: Sequence[str]) -> None:
    """Write a ruling into files; one that cannot be written keeps none of the others back.

    Raises:
        UnderfireError: an unknown ending, or files that cannot be written.
    """
    mistakes = []
    for file, content in [(file, format_of(file)(ruling)) for file in files]:
        try:
            write_or_say(place(file), content, "give another -o")
        except UnderfireError as e:
            mistakes.append(str(e))
    if mistakes:
        raise UnderfireError(" ".join(mistakes))
