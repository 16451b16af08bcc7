"""The plan file: settings in YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from underfire.core import UnderfireError
from underfire.core.bounded import read_yaml
from underfire.core.place import Place
from underfire.plan.settings import Settings


def read(path: Place) -> Settings:
    """Read the settings of a YAML plan.

    Raises:
        UnderfireError: there is no such file, it is not YAML, or it has settings that do not exist.
    """
    try:
        content = read_yaml(path)
    except IsADirectoryError as e:
        inside = path / "plan.yaml"
        hint = f"its plan is '{inside}'" if inside.is_file() else f"photos are given with --images '{path}'"
        raise UnderfireError(f"'{path}' is a folder, not a plan: {hint}.") from e
    except OSError as e:
        raise UnderfireError(f"Cannot read the plan '{path}' ({e.strerror or e}).") from e
    except yaml.YAMLError as e:
        reason = str(e).splitlines()[0]
        raise UnderfireError(f"'{path}' is no YAML plan ({reason}): photos are given with --images.") from e
    if not isinstance(content, dict):
        raise UnderfireError(f"'{path}' is no plan: a plan is a mapping of settings, such as 'images: photos'.")
    return Settings.parse(content)


def merged(there: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Merge the settings of a plan with those that are given beside it, which win; options are merged one by one."""
    parts = _asked(there, given), given.get("options", {})
    options = {part: {**parts[0].get(part, {}), **parts[1].get(part, {})} for part in {**parts[0], **parts[1]}}
    return {**there, **given, **({"options": options} if options else {})}


def _asked(there: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Give a plan's options; without what it filled in for its alarm, where another alarm or other judges are given.

    What an attack on the alarm goes for (plan/make) then follows the flags, as the judgement does.
    """
    options: dict[str, Any] = dict(there.get("options", {}))
    if "ensemble" in options and ("defense" in given or "interpreter" in given):
        members = [name for name in there.get("interpreter", ()) if name != "ensemble"]
        filled = {"defense": there.get("defense"), "members": members}
        own = {k: v for k, v in options.pop("ensemble").items() if k not in filled or v != filled[k]}
        options |= {"ensemble": own} if own else {}
    return options
