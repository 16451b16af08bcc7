"""Name -> maker, for everything that can be added to; and what is built, built once."""

from __future__ import annotations

from underfire.registry.parts import (
    KINDS,
    build_classifier,
    build_defense,
    build_interpreter,
    maker,
    names,
    register,
)
from underfire.registry.victims import VICTIMS, Victims

__all__ = [
    "KINDS",
    "VICTIMS",
    "Victims",
    "build_classifier",
    "build_defense",
    "build_interpreter",
    "maker",
    "names",
    "register",
]
