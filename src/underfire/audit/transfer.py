"""Transfer: the PNGs of a finished audit are judged by interpreters or classifiers that they were not made against.

The units are cut from the stored records alone and have their own stage in the audit's store. They are resumed like any
others, and the name of a unit has the digest of everything that its numbers depend on.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from underfire.audit.desk import Desk
from underfire.audit.run import crew_of
from underfire.core import NUMBERS_VERSION, Executor, JudgeUnit, Listener, Photo, Record
from underfire.core.hashing import digest_of
from underfire.plan.units import Plan
from underfire.store import Store

STAGE = JudgeUnit.stage
"""Folder of these units."""


def run(
    out: Path,
    judge: Plan,
    judges: Sequence[str],
    wanted: Callable[[Record], bool],
    listener: Listener,
    executor: Executor | None = None,
) -> None:
    """Judge what is missing, and nothing twice.

    Args:
        out: the folder of the audit that made the PNGs.
        judge: plan of an audit of the judging classifier; its settings are used.
        judges: names of the judging interpreters.
        wanted: tells which of the audit's good records are judged again.
        listener: hears how it goes on.
        executor: workers that others have too; by default the judging plan's own.

    Raises:
        UnderfireError: a mistake of the user's.
    """
    with Store(out).open() as store, crew_of(judge, out, executor) as crew:
        desk = Desk(store, crew, listener, judge.settings.classifier)
        for name in judges:
            desk.do(functools.partial(iter, units(out, judge, name, wanted)))


def units(out: Path, judge: Plan, name: str, wanted: Callable[[Record], bool]) -> list[JudgeUnit]:
    """Cut the units of the judging interpreter ``name``; the other arguments are as in `run`."""
    rows = Store(out).rows()
    made = [record for row in rows if row["error"] is None and wanted(record := Record(**row))]
    return list(_units(out, judge, name, made))


def _units(out: Path, judge: Plan, name: str, made: Sequence[Record]) -> Iterator[JudgeUnit]:
    """Yield the units of one judging interpreter: some photos each, with all images that were made of them."""
    job = dataclasses.replace(
        judge.job,
        source=str(out.absolute()),
        interpreters=(name,),
        interpreter_options={k: v for k, v in judge.job.interpreter_options.items() if k == name},
        cells=(),
    )
    photos = list(dict.fromkeys(Photo(r.image, r.image_sha256) for r in made))
    size = judge.settings.batch_size or 1
    n = -(-len(photos) // size)
    for i in range(n):
        part = tuple(photos[i * len(photos) // n : (i + 1) * len(photos) // n])
        mine = tuple(r for r in made if Photo(r.image, r.image_sha256) in part)
        key = _key(judge, name, mine)
        yield JudgeUnit(f"{i:06d}-{name}-{key}", part, job, mine)


def _key(judge: Plan, name: str, made: Sequence[Record]) -> str:
    """Digest everything that the numbers of a unit depend on; a PNG's path has the key of the unit that forged it."""
    settings = judge.key_settings()
    content = {
        "schema": NUMBERS_VERSION,
        "weights": judge.weights_digest,
        "classes": judge.classes_digest,
        "options": settings["options"].get(name),
        "judge": {k: settings[k] for k in ("classifier", "input_size", "resize", "mean", "std", "threads")},
        "interpreter": name,
        "made": [(r.adversarial, r.attack, r.against, r.target_class) for r in made],
    }
    return digest_of(content)[:16]
