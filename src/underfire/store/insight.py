"""The side file of an audit that says how its classifier was understood: OUT/classifier.json."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from underfire.core import DamagedFileError
from underfire.core.insight import Insight
from underfire.core.place import Place

FILE = "classifier.json"
LARGEST = 1 << 20
"""Bytes at most; a picture has some 20,000."""
PICTURE = re.compile(r"data:image/(png|jpeg|webp);base64,[A-Za-z0-9+/=]*")
_READER: TypeAdapter[Insight] = TypeAdapter(Insight)


def dumped(insight: Insight) -> bytes:
    """Return the content of the file."""
    return (json.dumps(insight.to_dict(), ensure_ascii=False, indent=1, allow_nan=False) + "\n").encode()


def read_insight(out: Place) -> Insight | None:
    """Read the file in an audit's folder; None in a folder without one, as earlier versions wrote them.

    Raises:
        DamagedFileError: it is too large, or not what underfire writes.
    """
    file = out / FILE
    try:
        content = _at_most(file)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise DamagedFileError(f"Cannot read '{file}' ({e.strerror or e}).") from e
    try:
        if len(content) > LARGEST:
            raise ValueError(f"more than {LARGEST:,} bytes")
        found = _READER.validate_json(content)
        if found.picture and not PICTURE.fullmatch(found.picture):
            raise ValueError("its picture is none")
    except (ValidationError, ValueError, RecursionError) as e:
        raise DamagedFileError(
            f"'{file}' is not what underfire writes ({type(e).__name__}): delete it, and the page comes without it."
        ) from e
    return found


def _at_most(file: Place) -> bytes:
    if not isinstance(file, Path):
        return file.read_bytes()
    with file.open("rb") as open_file:
        return open_file.read(LARGEST + 1)
