"""Every executor: each unit once, tried again when it fails, given up after three tries, whatever the way it fails."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.works import JOB, Trouble, units
from underfire import registry
from underfire.core import Executor, ForgeUnit, Outcome, Photo, UnderfireError, Unit, Workplace
from underfire.executors.crew import TRIES
from underfire.executors.local import Local

KINDS = ("inline", "processes", "ray")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray leaves pipes to its own processes open


@pytest.fixture(params=KINDS)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    name, workers, address = "local", 1 if request.param == "inline" else 2, None
    if request.param == "ray":
        name, address = "ray", request.getfixturevalue("ray_cluster").address
        workers = 1
    made = registry.maker("executors", name)(Workplace(workers, 1, "cpu", address))
    with contextlib.closing(made):
        yield made


def run(executor: Executor, work: Any, n: int) -> dict[str, Outcome]:
    outcomes = list(executor.map(work, units(n)))
    found = {outcome.unit.name: outcome for outcome in outcomes}
    assert len(found) == len(outcomes)
    return found


def test_each_unit_comes_back_once_and_the_workers_stay(executor: Executor, tmp_path: Path) -> None:
    work = Trouble(str(tmp_path))
    for _ in range(2):
        found = run(executor, work, 20)
        assert {name: outcome.rows for name, outcome in found.items()} == {f"{i:06d}": 1 + i for i in range(20)}
    assert len({pid for i in range(20) for pid in work.workers(i)}) <= 2


def test_a_unit_that_fails_twice_is_tried_a_third_time(executor: Executor, tmp_path: Path) -> None:
    work = Trouble(str(tmp_path), "memory", times=2)
    found = run(executor, work, 6)
    assert [outcome.error for outcome in found.values()] == [None] * 6
    assert [work.tries(i) for i in range(6)] == [1, 1, 1, 3, 1, 1]


def test_a_unit_that_always_fails_is_given_up_and_the_rest_goes_on(executor: Executor, tmp_path: Path) -> None:
    work, said = Trouble(str(tmp_path), "bug"), "ValueError: no such axis"
    found = run(executor, work, 6)
    assert len(found) == 6
    assert found["000003"].rows == 0
    assert found["000003"].error == f"Failed {TRIES} times, the last with {said}. The same run command tries again."
    assert [work.tries(i) for i in range(6)] == [1, 1, 1, TRIES, 1, 1]


@pytest.mark.parametrize("executor", ["processes", "ray"], indirect=True)
@pytest.mark.parametrize("times", [1, 99])
def test_a_dead_worker_is_charged_to_its_own_unit_only(executor: Executor, times: int, tmp_path: Path) -> None:
    work = Trouble(str(tmp_path), "killed", times=times)
    found = run(executor, work, 8)
    assert len(found) == 8
    assert [work.tries(i) for i in range(8)] == [1, 1, 1, min(times + 1, TRIES), 1, 1, 1, 1]
    assert len(set(work.workers(3))) == work.tries(3)  # each try by another worker
    error = found["000003"].error
    assert (error is None) == (times == 1)
    assert error is None or "the end of its" in error


def test_a_mistake_of_the_users_stops_everything_at_once(executor: Executor, tmp_path: Path) -> None:
    with pytest.raises(UnderfireError, match=r"There is no such thing\."):
        run(executor, Trouble(str(tmp_path), "mistake"), 1000)
    assert len(list(tmp_path.iterdir())) < 10


@dataclasses.dataclass(frozen=True)
class DiesAtStart:
    """Work that ends its process before a unit is read, as a script without a main guard does."""

    def __call__(self, unit: Unit) -> Outcome:
        return Outcome(unit)

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (1,)


def test_a_worker_that_dies_at_its_start_is_a_failure_of_its_unit_however_large() -> None:
    large = ForgeUnit("000000", (Photo("p" * 1_000_000, "0"),), JOB, 1)  # more than a pipe takes before it is read
    with contextlib.closing(Local(Workplace(2))) as executor:
        (outcome,) = executor.map(DiesAtStart(), iter([large]))
    assert "the end of its worker process" in str(outcome.error)


def test_units_are_drawn_only_as_workers_get_free(tmp_path: Path) -> None:
    drawn: list[str] = []

    def watched() -> Iterator[Unit]:
        for unit in units(100):
            drawn.append(unit.name)
            yield unit

    executor = registry.maker("executors", "local")(Workplace(2))
    with contextlib.closing(executor):
        for n, _ in enumerate(executor.map(Trouble(str(tmp_path)), watched()), 1):
            assert len(drawn) <= n + 3
    assert len(drawn) == 100
