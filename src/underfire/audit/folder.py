"""The output folder of an audit: its name, the plan in it, and whether this is the present plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from underfire.core import MismatchError, UnderfireError
from underfire.core.hashing import digest_of
from underfire.core.naming import DEMO
from underfire.core.place import Place, place, slug
from underfire.images.found import DEFAULT_OUT
from underfire.plan.file import read
from underfire.plan.keys import as_before, key_settings, settings_digest
from underfire.plan.settings import Settings
from underfire.plan.units import Plan
from underfire.report.text import count
from underfire.store import Store
from underfire.store.store import STAGES
from underfire.store.yardsticks import FOLDER as YARDSTICKS
from underfire.store.yardsticks import NAME_LENGTH

NAMING = (
    *("images", "weights", "classes", "defense", "target_map", "interpolation", "channels", "head"),
    *("key", "output", "layout", "order", "scale"),
)
"""Settings outside the key that choose files or the input policy: where they are the same, the files have changed."""


def default_out(settings: Settings) -> Place:
    """Name an output folder after the settings, so that the same command goes on where it stopped."""
    given = settings.model_dump(mode="json", exclude={"workers", "device", "executor", "address", "gpus", "resolved"})
    name = place(settings.images).stem or "images"
    return Path(DEFAULT_OUT) / f"{slug(name)}-{digest_of(as_before(given))[:8]}"


def stored_plan(out: Place) -> Settings | None:
    """Read the plan in an output folder; None where nothing has been run yet, of a plan of the user's own either.

    Raises:
        UnderfireError: the folder holds other files, or cannot be read.
    """
    try:
        if (out / "plan.yaml").is_file():
            there = read(out / "plan.yaml")
            if "plan_digest" in there.resolved or any(map(Store(out).done, STAGES)):
                return there
        strangers = [path for path in out.iterdir() if _strange(path.name)] if out.is_dir() else []
    except OSError as e:
        raise UnderfireError(f"Cannot read '{out}' ({e.strerror or e}).") from e
    if strangers:
        raise UnderfireError(
            f"'{out}' holds files that underfire did not write, and no plan.yaml of a run: give a new one with --out."
        )
    return None


def _strange(name: str) -> bool:
    return not name.startswith(".") and name not in _OURS


_OURS = frozenset({"plan.yaml", "records", "scale", "transfer", "failed", "images", YARDSTICKS})
"""Names that a run leaves which was killed before it wrote its plan, and that of a plan that was not run."""


def refuse_images_in(out: Place, images: str) -> None:
    """Check that the photos do not lie where the audit would put its own files.

    Args:
        out: the output folder.
        images: as --images.

    Raises:
        UnderfireError: they do.
    """
    parts, root = _parts(place(images)), _parts(out)
    inside = parts[len(root) :] if parts[: len(root)] == root else ()
    if images != DEMO and inside and inside[0] in _OURS:
        raise UnderfireError(
            f"--images '{images}' lies where the audit in '{out}' would put files of its own: give another folder "
            "with --out."
        )


def _parts(where: Place) -> tuple[str, ...]:
    return where.expanduser().resolve().parts if isinstance(where, Path) else tuple(where.url.split("/"))


def refuse_other_plan(out: Place, stored: Settings | None, plan: Plan, go_on: str = "") -> None:
    """Check that an output folder does not belong to another plan.

    Args:
        out: the folder.
        stored: the plan in it, if there is one.
        plan: the present plan.
        go_on: the command that goes on with the plan in the folder; by default ``underfire run``.

    Raises:
        UnderfireError: it does; the error says what differs, and what to do.
    """
    if stored is None or stored.resolved.get("plan_digest") == plan.digest:
        if stored is not None:
            _refuse_other_cut(out, stored, plan)
            _refuse_other_yardstick(out, stored, plan)
        return
    _refuse_edited(out, stored)
    chosen, moved = list(_chosen(stored, plan)), list(_moved(stored, plan))
    difference = (
        "; ".join([*chosen, *moved])
        or "its plan.yaml was changed since, or written by a version with other presets, or another walk in files"
    )
    advice = "Give a new folder with --out"
    if chosen or any(getattr(stored, name) != getattr(plan.settings, name) for name in NAMING):
        plan_there = go_on or f"underfire run '{out / 'plan.yaml'}'"
        advice += f", or go on with the plan that is there: {plan_there}"
    elif moved:  # the plan that is there would be refused for the same reason
        advice += ", or bring back what was there and run the same command again"
    raise MismatchError(f"'{out}' holds the results of another plan ({difference}). {advice}.")


def _refuse_edited(out: Place, stored: Settings) -> None:
    """Check that plan.yaml has the settings that it was written with; earlier versions did not note their digest."""
    if stored.resolved.get("settings_digest", digest := settings_digest(stored)) != digest:
        raise MismatchError(
            f"'{out / 'plan.yaml'}' was changed after the run began, whose results are of the settings before: bring "
            "them back, or run the changed plan with a new folder as --out."
        )


def _refuse_other_cut(out: Place, stored: Settings, plan: Plan) -> None:
    """Check that the photos are cut into the units that are there; versions that did not note the cut had the device's.

    Other units would do finished work again, and count each photo twice.
    """
    there, now = stored.resolved.get("units"), sum(1 for _ in plan.units())
    if isinstance(there, int) and there != now:
        raise MismatchError(
            f"'{out}' was begun on another kind of device than {plan.job.device}, with {count(there, 'unit')} and not "
            f"{now}: go on with that --device, or give a new folder with --out."
        )


def _refuse_other_yardstick(out: Place, stored: Settings, plan: Plan) -> None:
    """Check that named yardsticks are those in the folder; of packaged ones the folder keeps its own."""
    there = stored.resolved.get("yardsticks") or {}
    other = [one for one in plan.yardsticks.values() if there.get(one.interpreter) != one.digest]
    if plan.settings.yardstick and other:
        raise MismatchError(
            f"'{out}' is judged with another yardstick for {other[0].interpreter}: give a new folder with --out, or "
            "leave out --yardstick."
        )


def write_yardsticks(store: Store, plan: Plan) -> None:
    """Write the yardsticks of a plan into the folder, so that its verdicts need nothing else."""
    for one in plan.yardsticks.values():
        if isinstance(store.root, Path):
            (store.root / YARDSTICKS).mkdir(exist_ok=True)
        store.write(f"{YARDSTICKS}/{one.digest[:NAME_LENGTH]}.json", one.dump())


def _chosen(stored: Settings, plan: Plan) -> Iterator[str]:
    """Tell which settings are not what they were."""
    there, now = key_settings(stored), plan.key_settings()
    for k in dict.fromkeys([*now, *there]):
        if there.get(k) != now.get(k):
            yield f"{k}: {_word(there.get(k, 'default'))} there, {_word(now.get(k, 'default'))} now"


def _moved(stored: Settings, plan: Plan) -> Iterator[str]:
    """Tell which files are not what they were."""
    n_there = stored.resolved.get("photos")
    for what, value, found in (
        ("photos", plan.photos_digest, f"other files ({n_there} there, {len(plan.photos)} now)"),
        ("weights", plan.weights_digest, "another network or other weights"),
        ("classes", plan.classes_digest, "other class names"),
        ("defense", plan.defense_digest, "another defense, or one calibrated anew"),
        ("target_map", plan.job.target_map.key, f"{stored.target_map} there, {plan.settings.target_map} now"),
    ):
        if stored.resolved.get(f"{what}_digest") != value:
            yield f"{what}: {found}"
    there = stored.resolved.get("yardsticks") or {}
    for name in sorted({cell.against for cell in plan.job.cells if cell.smallest and cell.against}):
        ruler = plan.yardsticks.get(name)  # it tells when the smallest budget is found
        if there.get(name) != (ruler and ruler.digest):
            words = (
                "one" if name in there else "none",
                "another" if ruler and name in there else "one" if ruler else "none",
            )
            yield f"yardstick of {name}: {words[0]} there, {words[1]} now"


def _word(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
