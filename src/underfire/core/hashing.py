"""Digests: which text stands for a value in the key of a result.

A digest is part of the data format. A class that goes into one names itself with ``spelled`` and is written out field
by field, so that a class may be renamed or moved without orphaning what was computed with it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from underfire.core.types import Photo

ADDED = {"spelled": False}
"""Metadata of a field that an earlier version did not have: while it holds its default, a digest does not change."""


def spell(value: Any) -> str:
    """Write a value out for a digest.

    Args:
        value: numbers, words, tuples and frozen dataclasses of these. A dataclass is called what its class attribute
            ``spelled`` says, or else by its own name.

    Returns:
        One line, such as ``Schedule(start=2.0, end=0.01, shape='geometric', cycles=1)``.
    """
    if isinstance(value, tuple):
        return f"({', '.join(map(spell, value))}{',' * (len(value) == 1)})"
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return repr(value)
    name = getattr(value, "spelled", type(value).__qualname__)
    given = ((field, getattr(value, field.name)) for field in dataclasses.fields(value) if field.repr)
    told = (f"{f.name}={spell(v)}" for f, v in given if f.metadata != ADDED or v != f.default)
    return f"{name}({', '.join(told)})"


def digest_of(content: Any) -> str:
    """SHA-256 in hexadecimal of lists, mappings, numbers and words; of a mapping the order does not count."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def seed_of(seed: int, photo: Photo, purpose: str) -> int:
    """A seed that depends on (seed, image digest) and on what it is for, never on the batch."""
    digest = hashlib.sha256(f"{seed}/{photo.sha256}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big")
