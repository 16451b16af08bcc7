"""The desk: when units that fail are to blame, and when nothing works."""

from __future__ import annotations

import functools
from pathlib import Path

import pytest

from support.works import JOB
from underfire.audit.desk import HOPELESS, Desk
from underfire.core import ForgeUnit, Outcome, Photo, Quiet, UnderfireError, Unit, Workplace
from underfire.executors.local import Local
from underfire.store import Store

UNITS: list[Unit] = [ForgeUnit(f"{i:06d}-{i:016x}", (Photo(f"p{i}.png", "0"),), JOB, 1) for i in range(HOPELESS + 2)]


def fail(unit: Unit) -> Outcome:
    raise OSError("no such device")


def done(tmp_path: Path) -> int:
    """Do all units, each of which fails, and count the failures that are noted."""
    with Store(tmp_path).open() as store:
        Desk(store, Local(Workplace()), Quiet(), "toy", fail).do(functools.partial(iter, UNITS))
    return len(store.failed("records"))


def test_when_nothing_at_all_works_it_is_not_the_units(tmp_path: Path) -> None:
    with pytest.raises(UnderfireError, match=r"first 10 units failed.*no such device"):
        done(tmp_path)
    assert len(Store(tmp_path).failed("records")) == HOPELESS


def test_units_that_keep_failing_beside_finished_ones_are_to_blame_in_every_run(tmp_path: Path) -> None:
    with Store(tmp_path).open() as store:
        store.put("records", UNITS[0].name, [], {}, {})
    assert done(tmp_path) == done(tmp_path) == HOPELESS + 1
