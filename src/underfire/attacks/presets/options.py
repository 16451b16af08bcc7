"""From a preset's name and the user's own settings to the arguments of an attack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, NamedTuple

from underfire.attacks.presets.table import DRAWN, PRESETS
from underfire.attacks.search import Ball, Flow, Rescue, Schedule, SearchAttack, SearchSettings
from underfire.core import UnderfireError, unknown
from underfire.core.presets import PRESET_NAMES

BUDGETS = ("eps", "max_shift")
"""Fields of a search space that no preset sets."""


class Chosen(NamedTuple):
    """A preset's numbers, with the user's in place of some.

    Attributes:
        space: arguments of the search space, but for its budget.
        settings: those of the search.
        surrogate: options of the interpreter's surrogate, sorted by name.
    """

    space: dict[str, Any]
    settings: SearchSettings
    surrogate: tuple[tuple[str, Any], ...]


def options_of(
    attack: str,
    against: str | None,
    preset: str,
    overrides: Mapping[str, object],
    space_type: type[Ball | Flow],
    drawn: bool = False,
) -> Chosen:
    """Look a preset up and put the user's settings in.

    Args:
        attack: its name.
        against: the interpreter that it is made against.
        preset: paper, fast or thorough.
        overrides: the user's settings, which win over the preset's.
        space_type: the search space; its fields may be set, but for its budget.
        drawn: the target map is a shape or a file, the map of no image.

    Raises:
        UnderfireError: for an unknown preset, or a setting that the attack does not have or that makes no sense.
    """
    if preset not in PRESET_NAMES:
        raise unknown("preset", preset, PRESET_NAMES)
    rows = PRESETS | DRAWN if drawn else PRESETS
    row = rows.get((attack, against, preset)) or rows[attack, None, preset]
    space, search, surrogate = dict(row.space), dict(row.search), dict(row.surrogate)
    of_space = (f.name for f in fields(space_type) if f.name not in BUDGETS)
    homes = {**dict.fromkeys(of_space, space), **dict.fromkeys((f.name for f in fields(SearchSettings)), search)}
    for key, value in overrides.items():
        if key == "surrogate":
            surrogate |= _mapping(f"{attack}.{key}", value)
        elif key in homes:
            homes[key][key] = _schedule(f"{attack}.{key}", value) if key in ("step", "lam") else value
        else:
            raise UnderfireError(f"'{attack}' has no setting '{key}': it has {', '.join(sorted(homes))}.")
    if "steps" in overrides and "warmup" not in overrides and isinstance(search["steps"], int):
        search["warmup"] = min(search.get("warmup", 0), search["steps"])  # the user shortens the search, not its rest
    return Chosen(space, SearchSettings(**search), tuple(sorted(surrogate.items())))


def rescue_of(alone: SearchAttack, attack: str, preset: str, given: bool | None) -> Rescue | None:
    """Give an attack on both the rescue of the photos whose class it loses: the attack on the prediction alone.

    Args:
        alone: that attack, with the same preset and budget.
        attack: name of the attack on both.
        preset: paper has no rescue: the published protocol knows none.
        given: what the user wants; None: as the preset has it.

    Raises:
        UnderfireError: ``given`` is neither true nor false.
    """
    if given is not None and not isinstance(given, bool):
        raise UnderfireError(f"{attack}.rescue={given}: give true or false.")
    wanted = preset != "paper" if given is None else given
    # a rescue starts at the clean image: a random start draws from seeds that its walk does not have
    space = replace(alone.space, start=0.0) if isinstance(alone.space, Flow) else alone.space
    return Rescue(space, alone.settings) if wanted else None


def _mapping(told: str, value: object) -> Mapping[str, Any]:
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return value
    raise UnderfireError(f"{told}={value}: give settings by name, such as {{tau: 0.01}}.")


def _schedule(told: str, value: object) -> Schedule:
    """Read a schedule: a number, or a mapping of start, end, shape and cycles."""
    if isinstance(value, Schedule):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Schedule(float(value))
    if not isinstance(value, Mapping) or "start" not in value:
        raise UnderfireError(f"{told}={value}: '{value}' is no schedule: give a number, or start, end and shape.")
    known = [f.name for f in fields(Schedule)]
    for key in value:
        if key not in known:
            raise unknown(f"part of {told}", str(key), known)
    try:
        return Schedule(**value)
    except UnderfireError as e:
        raise UnderfireError(f"{told}={value}: {e}") from e
