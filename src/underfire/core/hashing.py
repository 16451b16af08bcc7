"""Digests: which text stands for a value in the key of a result.

A digest is part of the data format. A class that goes into one names itself with ``spelled`` and is written out field
by field, so that a class may be renamed or moved without orphaning what was computed with it. One whose fields are not
those of its digest says them itself (`Spelled`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

from underfire.core.types import Photo

ADDED = {"spelled": False}
"""Metadata of a field that an earlier version did not have: while it holds its default, a digest does not change."""


@runtime_checkable
class Spelled(Protocol):
    """A dataclass whose fields are not those that its digests know."""

    def spelling(self) -> tuple[str, Mapping[str, Any]]:
        """Give the name and the fields, in order, that digests know the value by."""


def spell(value: Any) -> str:
    """Write a value out for a digest.

    Args:
        value: numbers, words, tuples and frozen dataclasses of these. A dataclass is called what its class attribute
            ``spelled`` says, or else by its own name, unless it is `Spelled`.

    Returns:
        One line, such as ``Schedule(start=2.0, end=0.01, shape='geometric', cycles=1)``.
    """
    if isinstance(value, tuple):
        return f"({', '.join(map(spell, value))}{',' * (len(value) == 1)})"
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return repr(value)
    name, content = value.spelling() if isinstance(value, Spelled) else _by_field(value)
    return f"{name}({', '.join(f'{key}={spell(one)}' for key, one in content.items())})"


def _by_field(value: Any) -> tuple[str, dict[str, Any]]:
    name = getattr(value, "spelled", type(value).__qualname__)
    given = ((field, getattr(value, field.name)) for field in dataclasses.fields(value) if field.repr)
    return name, {f.name: v for f, v in given if f.metadata != ADDED or v != f.default}


def digest_of(content: Any) -> str:
    """SHA-256 in hexadecimal of lists, mappings, numbers and words; of a mapping the order does not count."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def seed_of(seed: int, photo: Photo, purpose: str) -> int:
    """A seed that depends on (seed, image digest) and on what it is for, never on the batch."""
    digest = hashlib.sha256(f"{seed}/{photo.sha256}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big")
