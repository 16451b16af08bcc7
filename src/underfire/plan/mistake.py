"""The first mistake of some settings, told in the user's words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from underfire import core

LONGEST = 200
"""Letters of a user's value that an error repeats."""


def sentence(error: ValidationError, known: Iterable[str]) -> str:
    """Tell the first mistake in the user's words."""
    first = error.errors()[0]
    word = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return str(core.unknown("setting", word, known))
    if first["type"] == "missing":
        return f"The plan does not say '{word}'."
    flag = "--" + word.partition(".")[0].replace("_", "-")
    if first["type"] == "empty":
        return f"{flag} is empty: give a value, or leave the flag out."
    hint = " The budget is in whole levels of 255." if word == "eps" else ""
    return f"{flag} {_short(first['input'])}: {first['msg'][0].lower()}{first['msg'][1:]}.{hint}"


def _short(given: Any) -> str:
    said = str(given)
    return said if len(said) <= LONGEST else said[:LONGEST] + "…"
