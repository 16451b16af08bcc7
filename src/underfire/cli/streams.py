"""What is printed reaches the terminal, whatever it can show, and never decides whether a run goes on.

An audit of hours does not die because its terminal knows no 'ε', its pager was closed or its log's disk is full.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Iterator
from typing import TextIO

_BUT_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str, keep: str = "") -> str:
    """Escape what would steer a terminal: names of files and words of foreign folders may hold any character.

    Args:
        text: what is to be printed.
        keep: such characters that are meant.
    """
    return _BUT_TEXT.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def _escaped(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        code -= 0xDC00
    return repr(letter)[1:-1] if letter in "\n\r\t" else f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


class _Forgiving(io.FileIO):
    """A file that keeps the first error of writing to itself."""

    lost: OSError | None = None

    def write(self, content: object) -> int:
        data = memoryview(content).cast("B")  # type: ignore[arg-type]
        if self.lost is None:
            try:
                return super().write(data) or 0
            except OSError as e:
                self.lost = e
        return len(data)


@contextlib.contextmanager
def forgiving() -> Iterator[list[OSError]]:
    """Print inside without an error; what is given lists afterwards why output was lost."""
    lost: list[OSError] = []
    before = sys.stdout, sys.stderr
    files = [_forgiven(stream) for stream in before]
    sys.stdout, sys.stderr = (file[0] for file in files)
    try:
        yield lost
    finally:
        for stream, raw in files:
            if raw is not None:
                with contextlib.suppress(OSError):
                    stream.close()
                lost += [raw.lost] if raw.lost is not None and raw.lost.errno != errno.EPIPE else []
        sys.stdout, sys.stderr = before


def _forgiven(stream: TextIO) -> tuple[TextIO, _Forgiving | None]:
    """The same stream with replacements for what its encoding lacks; one that is no file stays."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream, None
    try:
        stream.flush()
        raw = _Forgiving(os.dup(stream.fileno()), "wb")
    except OSError:
        return stream, None
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, "replace", line_buffering=True), raw
