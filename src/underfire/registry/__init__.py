"""The registry: makers by name, for all kinds of parts that can be added; and the cache of what they have built."""

from __future__ import annotations

from underfire.registry.listed import Listed, listed
from underfire.registry.parts import (
    KINDS,
    build_classifier,
    build_defense,
    build_door,
    build_interpreter,
    compares,
    door_of,
    maker,
    names,
    of_library,
    register,
)
from underfire.registry.victims import VICTIMS, Victims

__all__ = [
    "KINDS",
    "VICTIMS",
    "Listed",
    "Victims",
    "build_classifier",
    "build_defense",
    "build_door",
    "build_interpreter",
    "compares",
    "door_of",
    "listed",
    "maker",
    "names",
    "of_library",
    "register",
]
