"""Digests: the text that stands for a value in the key of a result.

Digests are part of the data format. A class that goes into one has a name for it, ``spelled``, and is written out field
by field. So the class can be renamed or moved, and results that were computed with it are still found. A class whose
fields are not those of its digest writes them itself (`Spelled`).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from underfire.core.types import Photo

ADDED = {"spelled": False}
"""Metadata of a field that earlier versions did not have: while it has its default value, digests do not change."""


@runtime_checkable
class Spelled(Protocol):
    """A dataclass whose fields are not those of its digests."""

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
    """Compute the SHA-256, in hexadecimal, of lists, mappings, numbers and words; the order of keys does not count."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def seed_of(seed: int, photo: Photo, purpose: str) -> int:
    """Derive a seed from the audit's seed, the photo's digest and the purpose; never from the batch."""
    digest = hashlib.sha256(f"{seed}/{photo.sha256}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big")
