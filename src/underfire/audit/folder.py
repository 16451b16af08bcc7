"""The output folder of an audit: its name, the plan that is in it, and whether that is the plan asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from underfire.core import UnderfireError
from underfire.core.hashing import digest_of
from underfire.core.place import Place, place, slug
from underfire.plan.settings import LATER, Settings, key_settings, read
from underfire.plan.units import Plan

DEFAULT_OUT = "underfire-out"


def default_out(settings: Settings) -> Place:
    """A folder that the settings as given name, so that the same command goes on where it stopped."""
    given = settings.model_dump(mode="json", exclude={"workers", "device", "executor", "address", "gpus", "resolved"})
    given = {word: value for word, value in given.items() if value is not None or word not in LATER}
    name = place(settings.images).stem or "images"
    return Path(DEFAULT_OUT) / f"{slug(name)}-{digest_of(given)[:8]}"


def stored_plan(out: Place) -> Settings | None:
    """The plan in an output folder; None where nothing has been run yet.

    Raises:
        UnderfireError: a folder with other things in it, or one that cannot be read.
    """
    try:
        if (out / "plan.yaml").is_file():
            return read(out / "plan.yaml")
        strangers = [path for path in out.iterdir() if _strange(path.name)] if out.is_dir() else []
    except OSError as e:
        raise UnderfireError(f"Cannot read '{out}' ({e.strerror or e}).") from e
    if strangers:
        raise UnderfireError(
            f"'{out}' holds files that underfire did not write, and no plan.yaml: give a new folder with --out."
        )
    return None


def _strange(name: str) -> bool:
    return not name.startswith(".") and name not in _OURS


_OURS = frozenset({"records", "scale", "transfer", "failed", "images"})
"""A run killed before its plan was written leaves these."""


def refuse_other_plan(out: Place, stored: Settings | None, plan: Plan, go_on: str = "") -> None:
    """Raise UnderfireError if ``out`` belongs to another plan, showing the difference and the two ways out.

    ``go_on`` is the command that goes on with what is there, where it is not ``underfire run``.
    """
    if stored is None or stored.resolved.get("plan_digest") == plan.digest:
        return
    there = key_settings(stored)
    now = plan.key_settings()
    changed = [f"{k}: {_word(there[k])} there, {_word(now[k])} now" for k in now if there.get(k) != now[k]]
    n_there = stored.resolved.get("photos")
    for what, value, found in (
        ("photos", plan.photos_digest, f"other files ({n_there} there, {len(plan.photos)} now)"),
        ("weights", plan.weights_digest, "another network or other weights"),
        ("classes", plan.classes_digest, "other class names"),
        ("defense", plan.defense_digest, "another defense, or one calibrated anew"),
        ("target_map", plan.job.target_map.key, f"{stored.target_map} there, {plan.settings.target_map} now"),
    ):
        if stored.resolved.get(f"{what}_digest") != value:
            changed.append(f"{what}: {found}")
    go_on = go_on or f"underfire run '{out / 'plan.yaml'}'"
    difference = "; ".join(changed) or "the presets of this version differ from the version that wrote it"
    raise UnderfireError(
        f"'{out}' holds the results of another plan ({difference}). Give a new folder with --out, or go on with the "
        f"plan that is there: {go_on}."
    )


def _word(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
