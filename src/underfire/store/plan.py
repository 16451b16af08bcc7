"""The plan.yaml of a folder of results, as it is written there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from underfire.core import NotFoundError, UnderfireError
from underfire.core.bounded import read_yaml
from underfire.core.place import Place


def read_plan(out: Place) -> Mapping[str, Any]:
    """Read the plan.yaml of a folder of results.

    Raises:
        UnderfireError: it is no such folder, or the file cannot be read.
    """
    path = out / "plan.yaml"
    try:
        plan = read_yaml(path)
    except (FileNotFoundError, NotADirectoryError) as e:
        raise NotFoundError(
            f"'{out}' is no folder of an underfire audit (it has no plan.yaml): give the folder named by --out."
        ) from e
    except (OSError, yaml.YAMLError) as e:
        reason = str(e).splitlines()[0]
        raise UnderfireError(f"Cannot read '{path}' ({reason}): it was damaged since a run wrote it.") from e
    if not isinstance(plan, dict):
        raise UnderfireError(f"'{path}' holds no settings: run the audit again with a new --out.")
    if not isinstance(plan.get("resolved", {}), dict):
        raise UnderfireError(f"'{path}' does not say what it resolved to: no run has written it.")
    return plan
