"""Values of settings that people write in several ways: sizes, numbers by channel."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

Finite = Annotated[float, Field(allow_inf_nan=False)]
Side = Annotated[int, Field(ge=16, le=4096)]


def _sides(value: Any) -> Any:
    found = re.fullmatch(r"\s*(\d+)\s*[x×]\s*(\d+)\s*", value) if isinstance(value, str) else None
    sides = tuple(map(int, found.groups())) if found else value
    return sides[0] if isinstance(sides, tuple | list) and len(set(sides)) == 1 else sides


def _one_for_all(value: Any) -> Any:
    return (value,) if isinstance(value, int | float) else value


def _one_or_three(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) not in (1, 3):
        raise ValueError("give three numbers, red, green and blue, or one for all channels")
    return values


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.strip().isdigit() else value


Size = Annotated[Side | tuple[Side, Side], BeforeValidator(_sides)]
"""Side of a square, px; or height and width, also as '64x96'."""
Numbers = Annotated[tuple[Finite, ...], BeforeValidator(_one_for_all), AfterValidator(_one_or_three)]
"""A number for each colour, or one for all channels."""
Colours = Annotated[Literal[1, 3], BeforeValidator(_whole)]
"""Channels of an input."""
HeadKind = Literal["softmax", "binary", "multilabel"]
