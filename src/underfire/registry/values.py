"""The check of values that a user gives to a part, by the part's annotations and their constraints.

A part annotates its parameters, as ``momentum: Annotated[float, Field(ge=0, lt=1)]`` or
``slope: Literal["monotone", "published"]``; the constraints are those of pydantic and annotated_types. Numbers must be
finite, whatever the annotations say.
"""

from __future__ import annotations

import builtins
import inspect
import math
import os
import sys
import typing
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

from pydantic import PydanticUndefinedAnnotation, PydanticUserError, TypeAdapter, ValidationError

from underfire.core import UnderfireError, unknown


@runtime_checkable
class HasAttackOptions(Protocol):
    """The maker of an interpreter that says which ``surrogate`` settings an attack on it can have."""

    attack_options: ClassVar[Mapping[str, Any]]
    """Name -> annotation."""


def check_given(part: str, given: Mapping[str, Any]) -> None:
    """Raise UnderfireError for a number that is not finite, however deep it lies in the values.

    Args:
        part: the user's name of the part, such as ``adv2``.
        given: name -> value.
    """
    for name, value in _numbers(part, given):
        try:
            finite = math.isfinite(value)
        except OverflowError:
            finite = False
        if not finite:
            raise UnderfireError(f"{name}={_short(value)}: it should be a finite number.")


def check_options(part: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raise UnderfireError for an option that a part does not have, or a value that it does not take.

    Args:
        part: the user's name of the part, as in ``--set``.
        known: name -> annotation.
        given: name -> value.
    """
    check_given(part, given)
    for name, value in given.items():
        if name not in known:
            raise unknown(f"setting of {part}", name, known)
        check_value(f"{part}.{name}", value, known[name])


def check_call(part: str, maker: Any, given: Mapping[str, Any]) -> None:
    """Raise UnderfireError for a value that a maker's annotations do not allow; the maker itself checks names.

    Args:
        part: the user's name of the part.
        maker: a class or a function.
        given: name -> value.
    """
    check_given(part, given)
    known = hints_of(maker)
    for name in given.keys() & known.keys():
        check_value(f"{part}.{name}", given[name], known[name])


def hints_of(maker: Any, but: tuple[str, ...] = ()) -> dict[str, Any]:
    """Find the annotations of the parameters of a class or a function, by name, without those in ``but``."""
    hints = type_hints(maker.__init__ if inspect.isclass(maker) else maker)
    return {name: hint for name, hint in hints.items() if name != "return" and name not in but}


def type_hints(of: Any) -> dict[str, Any]:
    """Find the annotations of a class or a function; a type that exists for type checkers only becomes any type."""
    module = sys.modules.get(getattr(of, "__module__", ""))
    try:
        return typing.get_type_hints(of, localns=_Names(vars(builtins) | vars(module or builtins)), include_extras=True)
    except (NameError, TypeError, AttributeError):  # another package's annotation that is none
        return {}


class _Names(dict[str, Any]):
    """The names that annotations can use."""

    def __missing__(self, name: str) -> Any:
        return Any


def check_value(word: str, value: Any, hint: Any, given: Any = None) -> None:
    """Raise UnderfireError for a value that an annotation does not allow.

    Args:
        word: the user's name of the setting, such as ``adv2.steps``.
        value: the value of the part.
        hint: the annotation; values of types that pydantic does not know are not checked.
        given: the user's value, where it is another one.
    """
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint)
    except (PydanticUserError, PydanticUndefinedAnnotation):  # another package's own type
        return
    try:
        adapter.validate_python(_frozen(value), strict=True)
    except ValidationError as e:
        words = list(_choices(hint))
        if words and isinstance(value, str):
            raise unknown(word, value, words) from e
        why = e.errors()[0]["msg"].removeprefix("Value error, ").replace("Input should", "it should", 1)
        shown = value if given is None else given
        raise UnderfireError(f"{word}={_short(shown)}: {why[0].lower()}{why[1:]}.") from e


def _choices(hint: Any) -> Iterator[str]:
    """Yield the words that an annotation allows, where it lists them."""
    if typing.get_origin(hint) is Literal:
        yield from map(str, typing.get_args(hint))
    else:
        for part in typing.get_args(hint):
            yield from _choices(part)


def _frozen(value: Any) -> Any:
    """Turn lists of YAML into tuples, as parts take them, and paths into words."""
    if isinstance(value, list):
        return tuple(map(_frozen, value))
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _short(value: Any) -> str:
    try:
        text = str(value)
    except ValueError:  # more digits than Python writes out
        text = "a huge number"
    return text if len(text) <= 60 else f"{text[:57]}…"


def _numbers(name: str, value: Any) -> Iterator[tuple[str, int | float]]:
    if isinstance(value, Mapping):
        for key, one in value.items():
            yield from _numbers(f"{name}.{key}", one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _numbers(name, one)
    elif isinstance(value, int | float):
        yield name, value
