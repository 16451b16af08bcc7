"""Values of settings that people write in several ways: sizes, numbers by channel."""

from __future__ import annotations

import re
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

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
    return int(value) if isinstance(value, str) and value.strip() in ("1", "3") else value


def plain(value: Any) -> Any:
    """Turn NumPy's numbers among settings into Python's, which YAML and keys can hold."""
    if isinstance(value, Mapping):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


Size = Annotated[Side | tuple[Side, Side], BeforeValidator(_sides)]
"""Side of a square, px; or height and width, also as '64x96'."""
Numbers = Annotated[tuple[Finite, ...], BeforeValidator(_one_for_all), AfterValidator(_one_or_three)]
"""A number for each colour, or one for all channels."""
Colours = Annotated[Literal[1, 3], BeforeValidator(_whole)]
"""Channels of an input."""
HeadKind = Literal["softmax", "binary", "multilabel"]


SMALLEST = "smallest"
"""Said in place of a budget, or before the largest one: the smallest that forges is searched."""
SMALLEST_BUDGET = 0.1
"""The smallest shift that is tried, px; the smallest ε is a level."""


class SmallestEps(int):
    """The largest ε of which the smallest that forges is searched; users write it as 'smallest:8'."""


class SmallestShift(float):
    """The largest shift of bends of which the smallest that forges is searched; users write it as 'smallest:2.0'."""


def is_smallest(budget: float) -> bool:
    """Tell whether the smallest budget is searched, and this is the largest."""
    return isinstance(budget, SmallestEps | SmallestShift)


def smallest_or_fixed(kind: type[SmallestEps] | type[SmallestShift], most: float) -> tuple[Any, Any]:
    """Make the validator and the serializer of a budget that may be searched.

    Args:
        kind: what it becomes where it is.
        most: the largest budget where the user names none.
    """

    def read(value: Any, handler: Any) -> Any:
        if isinstance(value, kind):
            return value
        word, colon, largest = value.partition(":") if isinstance(value, str) else ("", "", "")
        if word.strip() != SMALLEST:
            return handler(value)
        try:
            found = kind(handler(largest if colon else most))
        except ValidationError as e:
            why = e.errors()[0]["msg"]
            raise PydanticCustomError("smallest", f"the largest budget is named after the colon: {why}") from e
        if found < SMALLEST_BUDGET:
            raise PydanticCustomError("smallest", f"the largest budget that is tried is {SMALLEST_BUDGET} px or more")
        if abs(found / SMALLEST_BUDGET - round(found / SMALLEST_BUDGET)) > 1e-6:
            raise PydanticCustomError("smallest", "the largest shift is a whole number of tenths of a pixel")
        return found

    def write(value: Any) -> Any:
        return f"{SMALLEST}:{kind.__repr__(value)}" if isinstance(value, kind) else value

    return WrapValidator(read), PlainSerializer(write)
