"""The output streams: printing never stops a run, whatever the terminal can show.

An audit of hours does not end because its terminal has no 'ε', its pager was closed or the disk of its log is full.
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
    """Escape characters that would control the terminal: names of files can hold any character.

    Args:
        text: the text to be printed.
        keep: control characters that stay.
    """
    return _BUT_TEXT.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def _escaped(letter: str) -> str:
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
        code -= 0xDC00
    return repr(letter)[1:-1] if letter in "\n\r\t" else f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


class _Forgiving(io.FileIO):
    """A file that keeps its first error of writing, and raises none."""

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
    """Print without errors for the time of a `with` block.

    Yields:
        A list; after the block it holds the errors by which output was lost.
    """
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
    """Make a stream that replaces what its encoding lacks; a stream that is no file stays as it is."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream, None
    try:
        stream.flush()
        raw = _Forgiving(os.dup(stream.fileno()), "wb")
    except OSError:
        return stream, None
    return io.TextIOWrapper(io.BufferedWriter(raw), stream.encoding, "replace", line_buffering=True), raw
