"""Steps side by side: in turns, after what they need, and none left over when one fails."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.e2e import photos, underfire
from support.study import TOY
from support.works import Trouble, units
from underfire.core import Executor, UnderfireError
from underfire.executors.local import EndedError
from underfire.store import Store
from underfire.study import side
from underfire.study.side import SPARE, Crew, Step


@pytest.mark.parametrize("workers", [1, 2])
def test_a_step_waits_for_those_that_it_comes_after(workers: int) -> None:
    said: list[str] = []

    def says(word: str) -> Callable[[Executor | None], None]:
        return lambda executor: said.append(word)

    first, second = Step(says("first")), Step(says("second"))
    with contextlib.closing(Crew(workers)) as crew:
        crew.do([Step(says("last"), [first, second]), first, second])
    assert said == ["first", "second", "last"]


def test_steps_share_the_processes_and_never_run_here_at_once(tmp_path: Path) -> None:
    here = threading.Lock()
    works = [Trouble(str(tmp_path / str(i))) for i in range(4)]
    found: dict[int, int] = {}

    def step(i: int) -> Step:
        def work(executor: Executor | None) -> None:
            assert executor is not None
            assert here.acquire(blocking=False)
            outcomes = executor.map(works[i], units(6))
            here.release()
            rows = []
            for outcome in outcomes:
                assert here.acquire(blocking=False)
                time.sleep(0.01)
                rows.append(outcome.rows)
                here.release()
            found[i] = sum(rows)

        return Step(work)

    for i in range(4):
        (tmp_path / str(i)).mkdir()
    with contextlib.closing(Crew(2)) as crew:
        crew.do([step(i) for i in range(4)])
    assert found == dict.fromkeys(range(4), sum(range(1, 7)))
    assert len({pid for work in works for n in range(6) for pid in work.workers(n)}) <= 2


@pytest.mark.timeout(60)
def test_a_step_that_fails_ends_the_others(tmp_path: Path) -> None:
    seen: list[str] = []

    def fails(executor: Executor | None) -> None:
        raise KeyError("a bug")

    def long(executor: Executor | None) -> None:
        assert executor is not None
        try:
            for _ in executor.map(Trouble(str(tmp_path)), units(1000)):
                pass
        except EndedError:
            seen.append("ended")
            raise

    with contextlib.closing(Crew(2)) as crew, pytest.raises(KeyError, match="a bug"):
        first = Step(long)
        crew.do([first, Step(fails), *(Step(long, [first]) for _ in range(5))])
    assert seen == ["ended"]


def test_a_mistake_in_one_step_s_units_leaves_the_others_their_workers(tmp_path: Path) -> None:
    outcomes: list[Any] = []
    for name in ("bad", "good"):
        (tmp_path / name).mkdir()

    def bad(executor: Executor | None) -> None:
        assert executor is not None
        with pytest.raises(UnderfireError, match=r"There is no such thing\."):
            list(executor.map(Trouble(str(tmp_path / "bad"), "mistake", at=0), units(20)))

    def good(executor: Executor | None) -> None:
        assert executor is not None
        outcomes.extend(executor.map(Trouble(str(tmp_path / "good")), units(20)))

    with contextlib.closing(Crew(2)) as crew:
        crew.do([Step(bad), Step(good)])
    assert [outcome.error for outcome in outcomes] == [None] * 20
    assert SPARE == 1


def test_a_study_side_by_side_has_the_numbers_of_one_after_the_other(tmp_path: Path) -> None:
    options = {"pgd": {"steps": 2}, "adv2": {"steps": 2, "warmup": 0}}
    subject = TOY | {"images": str(photos(tmp_path / "in", 2)), "options": options}
    none = {"bends": 0, "control": 0, "rerun": 0, "sanity": 0, "budget": 0}
    plan = {"classifiers": [subject], "photos": {"main": {"default": 2, "grad": 1}, "random": 1, **none}, "threads": 1}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    for workers in "12":
        ran = underfire("study", tmp_path / "plan.yaml", "--workers", workers, "--out", tmp_path / workers)
        assert ran.code == 0, ran.err
        assert "toy/main-1, judged by others: " in ran.out
    folders = sorted(p.parent.relative_to(tmp_path / "1") for p in (tmp_path / "1").rglob("plan.yaml"))
    assert len(folders) == 3
    for folder in folders:
        for stage in ("records", "transfer"):
            one, two = ([{**r, "seconds": 0} for r in Store(tmp_path / w / folder).rows(stage)] for w in "12")
            assert one == two
    again = underfire("study", tmp_path / "plan.yaml", "--workers", "2", "--out", tmp_path / "2")
    assert again.out.count(": done before") == 5


@pytest.mark.timeout(60)
def test_ctrl_c_waits_for_no_step_that_hangs_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side, "GRACE", 0.2)
    started = time.monotonic()

    def hangs(executor: Executor | None) -> None:
        signal.raise_signal(signal.SIGINT)
        time.sleep(30)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs do not hear it
    try:
        with contextlib.closing(Crew(2)) as crew, pytest.raises(KeyboardInterrupt):
            crew.do([Step(hangs)])
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - started < 20
