"""The attacks of a plan: made from their presets; the user's settings are checked before anything is run."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import PydanticSchemaGenerationError, TypeAdapter, ValidationError

from underfire import registry
from underfire.core import Attack, Cell, TargetMap, UnderfireError
from underfire.plan.settings import Settings


def cells_of(settings: Settings) -> Iterator[Cell]:
    """Make the attacks of a plan: an attack on explanations once for each interpreter, any other attack once.

    Raises:
        UnderfireError: an attack or preset that does not exist, or a setting that does not suit it.
    """
    drawn = TargetMap(settings.target_map.partition(":")[0]).drawn
    for name in settings.attack:
        maker = registry.maker("attacks", name)
        overrides = {**taken(maker, max_shift=settings.max_shift, drawn=drawn), **settings.options.get(name, {})}
        for against in settings.interpreter if maker.fools_interpreter else (None,):
            try:
                attack: Attack = maker.make(settings.preset, against, settings.eps, **overrides)
            except TypeError as e:
                raise UnderfireError(f"The settings {overrides} do not suit attack '{name}': {e}.") from e
            _check(name, attack)
            yield Cell(attack, against)


def taken(maker: Any, **given: Any) -> dict[str, Any]:
    """Pick the settings of an audit that an attack takes.

    Args:
        maker: what is registered under the attack's name; the parameters of its ``make`` say what it takes.
        given: the settings.
    """
    known = inspect.signature(maker.make).parameters
    return {name: value for name, value in given.items() if name in known}


def _check(attack: str, settings: Any) -> None:
    """Raise UnderfireError for a word in place of a number, and the like: the search would fail on it much later."""
    if not dataclasses.is_dataclass(settings):
        raise UnderfireError(f"Attack '{attack}' must be a frozen dataclass: its fields go into its results' key.")
    try:
        hints = typing.get_type_hints(type(settings))
    except NameError:  # another package's types that exist for type checkers only
        return
    for f in dataclasses.fields(settings):
        value = getattr(settings, f.name)
        if dataclasses.is_dataclass(value):
            _check(attack, value)
        else:
            _check_one(attack, f.name, value, hints[f.name])


def _check_one(attack: str, name: str, value: Any, hint: Any) -> None:
    try:
        TypeAdapter(hint).validate_python(value, strict=True)
    except PydanticSchemaGenerationError:  # another package's own type
        return
    except ValidationError as e:
        why = e.errors()[0]["msg"]
        raise UnderfireError(f"--set {attack}.{name}={value}: {why[0].lower()}{why[1:]}.") from e
