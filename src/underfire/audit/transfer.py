"""Transfer: PNGs of a finished audit judged by interpreters or classifiers they were not made against.

Units are cut from the stored records alone, in their own stage of the audit's store: resumed like any other, and a
unit's name holds all that its numbers depend on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from underfire.audit.desk import Desk, Watcher
from underfire.audit.run import executor_of
from underfire.core import SCHEMA_VERSION, Photo, Record, Unit
from underfire.plan.units import Plan
from underfire.store import Store

STAGE = "transfer"


def run(
    out: Path,
    judge: Plan,
    scale: dict[str, float],
    judges: Sequence[str],
    wanted: Callable[[Record], bool],
    watcher: Watcher,
) -> None:
    """Judge what is missing, and nothing twice.

    Args:
        out: the folder of the audit that made the PNGs.
        judge: an audit of the judging classifier, whose settings hold.
        scale: the judge's own: interpreter -> map_l1 up to which a map counts as untouched.
        judges: interpreters that look.
        wanted: which of the audit's good records are judged again.
        watcher: who is told.
    """
    with Store(out).open() as store, contextlib.closing(executor_of(judge, out)) as executor:
        desk = Desk(store, executor, watcher, judge.settings.classifier)
        for name in judges:
            desk.stage(STAGE, functools.partial(iter, units(out, judge, scale, name, wanted)))


def units(out: Path, judge: Plan, scale: dict[str, float], name: str, wanted: Callable[[Record], bool]) -> list[Unit]:
    """The units of one judging interpreter; arguments as in `run`."""
    rows = Store(out).rows()
    made = [record for row in rows if row["error"] is None and wanted(record := Record(**row))]
    return list(_units(out, judge, scale, name, made))


def _units(out: Path, judge: Plan, scale: dict[str, float], name: str, made: Sequence[Record]) -> Iterator[Unit]:
    """Units of one judging interpreter: some photos each, with everything that was made of them."""
    job = dataclasses.replace(
        judge.job,
        source=str(out.absolute()),
        interpreters=(name,),
        interpreter_options={k: v for k, v in judge.job.interpreter_options.items() if k == name},
        cells=(),
        scale={k: v for k, v in scale.items() if k == name},
    )
    photos = list(dict.fromkeys(Photo(r.image, r.image_sha256) for r in made))
    size = judge.settings.batch_size or 1
    n = -(-len(photos) // size)
    for i in range(n):
        part = tuple(photos[i * len(photos) // n : (i + 1) * len(photos) // n])
        mine = tuple(r for r in made if Photo(r.image, r.image_sha256) in part)
        key = _key(judge, job.scale, name, mine)
        yield Unit(f"{i:06d}-{name}-{key}", STAGE, part, job, made=mine)


def _key(judge: Plan, scale: Any, name: str, made: Sequence[Record]) -> str:
    """Of all that the numbers of a unit depend on; a PNG's path holds the key of the unit that forged it."""
    settings = judge.key_settings()
    content = {
        "schema": SCHEMA_VERSION,
        "weights": judge.weights_digest,
        "classes": judge.classes_digest,
        "options": settings["options"].get(name),
        "judge": {k: settings[k] for k in ("classifier", "input_size", "resize", "mean", "std", "threads")},
        "interpreter": name,
        "scale": dict(scale),
        "made": [(r.adversarial, r.attack, r.against, r.target_class) for r in made],
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
