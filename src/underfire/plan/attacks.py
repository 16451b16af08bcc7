"""The attacks of a plan: made from their presets; the user's settings are checked before anything is run."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from underfire import registry
from underfire.core import Attack, Cell, Shrinking, TargetMap, UnderfireError, UnsuitableError
from underfire.plan.settings import Settings
from underfire.plan.values import is_smallest
from underfire.registry.values import HasAttackOptions, check_given, check_options, check_value, type_hints


def cells_of(settings: Settings) -> Iterator[Cell]:
    """Make the attacks of a plan: an attack on explanations once for each interpreter, any other attack once.

    Raises:
        UnderfireError: an attack or preset that does not exist, or a setting that does not suit it.
    """
    drawn = TargetMap(settings.target_map.partition(":")[0]).drawn
    for name in settings.attack:
        maker = registry.maker("attacks", name)
        own, given = taken(maker, max_shift=float(settings.max_shift), drawn=drawn), settings.options.get(name, {})
        check_surrogate(name, given, [registry.maker("interpreters", one) for one in settings.interpreter])
        for against in settings.interpreter if maker.fools_interpreter else (None,):
            refuse_judge(name, against)
            attack = attack_of(name, settings.preset, against, int(settings.eps), own, given)
            yield Cell(attack, against, is_searched(attack, settings.eps, settings.max_shift))


def is_searched(attack: Attack, eps: float, max_shift: float) -> bool:
    """Tell whether the smallest budget of an attack is searched: that of a control or of another package's is fixed."""
    return isinstance(attack, Shrinking) and is_smallest(max_shift if attack.bends else eps)


def refuse_judge(attack: str, against: str | None) -> None:
    """Raise UnsuitableError for an attack on an interpreter that only judges pictures that exist."""
    if against is not None and getattr(registry.maker("interpreters", against), "judges_only", False):
        raise UnsuitableError(
            f"'{against}' explains and judges pictures, and cannot be attacked itself: leave '{attack}' out "
            "(--attack pgd)."
        )


def taken(maker: Any, **given: Any) -> dict[str, Any]:
    """Pick the settings of an audit that an attack takes.

    Args:
        maker: what is registered under the attack's name; the parameters of its ``make`` say what it takes.
        given: the settings.
    """
    known = inspect.signature(maker.make).parameters
    return {name: value for name, value in given.items() if name in known}


def check_surrogate(attack: str, given: Mapping[str, Any], interpreters: Sequence[Any]) -> None:
    """Check the ``surrogate`` settings of an attack by what the interpreters, or their makers, allow.

    Args:
        attack: name of the attack.
        given: the user's settings of it.
        interpreters: the interpreters that it is made against, or their makers.

    Raises:
        UnderfireError: a setting that none of them has, or a value that makes no sense.
    """
    surrogate = given.get("surrogate")
    saying = [one for one in interpreters if isinstance(one, HasAttackOptions)]
    if isinstance(surrogate, Mapping) and len(saying) == len(interpreters):
        known = {name: hint for one in saying for name, hint in one.attack_options.items()}
        check_options(f"{attack}.surrogate", known, surrogate)


def attack_of(
    name: str, preset: str, against: str | None, eps: int, own: Mapping[str, Any], given: Mapping[str, Any]
) -> Attack:
    """Make an attack, and check the user's settings by the annotations of its fields.

    Args:
        name: name of the attack.
        preset: paper, fast or thorough.
        against: name of the interpreter that it is made against; None for an attack on the prediction alone.
        eps: ε in whole levels of 255.
        own: the settings of the audit that the attack takes.
        given: the user's settings in place of the preset's.

    Raises:
        UnderfireError: an attack or preset that does not exist, or a setting that does not suit it.
    """
    given = {key: value.item() if isinstance(value, np.generic) else value for key, value in given.items()}
    check_given(name, given)
    overrides = {**own, **given}
    try:
        attack: Attack = registry.maker("attacks", name).make(preset, against, eps, **overrides)
    except (TypeError, OverflowError) as e:
        raise UnderfireError(f"The settings {overrides} do not suit attack '{name}': {e}.") from e
    settings: Any = attack
    if not dataclasses.is_dataclass(settings):
        raise UnderfireError(f"Attack '{name}' must be a frozen dataclass: its fields go into its results' key.")
    for path, value, hint in _fields(settings):
        word, shown = _as_given(path, value, overrides)
        check_value(f"{name}.{word}", value, hint, shown)
    return attack


def _fields(settings: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Yield the path, the value and the annotation of each field of a dataclass; those of inner dataclasses first."""
    hints = type_hints(type(settings))
    for f in dataclasses.fields(settings):
        here, value = (*path, f.name), getattr(settings, f.name)
        if dataclasses.is_dataclass(value):
            yield from _fields(value, here)
        yield here, value, hints.get(f.name, Any)


def _as_given(path: tuple[str, ...], value: Any, given: Mapping[str, Any]) -> tuple[str, Any]:
    """Find the user's name and value of the field at ``path``; for a schedule the user may give one number."""
    for i, name in enumerate(path):
        if name in given:
            whole = i + 1 == len(path) or not isinstance(given[name], Mapping)
            return (name, given[name]) if whole else (".".join(path[i:]), value)
    return path[-1], value
