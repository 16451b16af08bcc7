"""What breaks under a run: nothing finished is lost, nothing is half-written, nothing counts twice (toy classifier)."""

from __future__ import annotations

import datetime
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.e2e import TOY, installed, photos, records, temporaries, underfire
from underfire.core import Unit, files
from underfire.store import Store
from underfire.trial.run import run_unit
from underfire.trial.system import System

N = 12
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("faults") / "in", N)


@pytest.fixture(scope="module")
def whole(folder: Path) -> Rows:
    """The records of an undisturbed run."""
    assert underfire(*command(folder), "--out", folder.parent / "out").code == 0
    return records(folder.parent / "out")


def command(folder: Path, *more: str) -> list[str]:
    return ["run", "--images", str(folder), *TOY, "--batch-size", "1", "--set", "adv2.steps=30", *more]


def complete(out: Path, whole: Rows) -> None:
    assert records(out) == whole
    assert not temporaries(out)
    assert not Store(out).failed("records")
    assert len(list((out / "images").iterdir())) == N


# -- killed processes


def start(*words: str | Path) -> subprocess.Popen[bytes]:
    """``underfire WORDS...`` as a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", "from underfire.cli import main; main()", *map(str, words)],
        env={**os.environ, "PYTHONPATH": f"{installed()}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def kill_at_random(folder: Path, out: Path, whole: Rows, times: int, *, driver: bool) -> None:
    """Run with two workers, kill -9 the driver or a worker at random points, ``times`` times, then finish."""
    choose = random.Random(times + driver)
    words = (*command(folder, "--workers", "2"), "--out", str(out))
    kills = 0
    while kills < times:
        done = len(Store(out).done("records")) if (out / "records").is_dir() else 0
        if done >= N - 2:  # all but done: some parts are taken away, so that there is something to disturb
            for unit in sorted(Store(out).done("records"))[: N - 4]:
                Store(out).discard("records", unit)
            done = 4 - (N - done)
        with start(*words) as run:
            goal = min(N - 1, done + choose.randint(0, 3))
            while run.poll() is None and not ((out / "records").is_dir() and len(Store(out).done("records")) > goal):
                time.sleep(0.005)
            time.sleep(choose.uniform(0, 0.05))
            workers = [] if run.poll() is not None else children(run.pid)
            if workers:
                os.kill(run.pid if driver else choose.choice(workers), signal.SIGKILL)
                kills += 1
            if not driver:
                assert run.wait(120) == 0
            else:
                run.wait(120)
        limit = time.monotonic() + 20
        while not all(gone(pid) for pid in workers):  # no worker outlives its driver
            assert time.monotonic() < limit
            time.sleep(0.05)
        for row in Store(out).rows():
            assert row["error"] is None
            assert all((out / row[c]).is_file() for c in ("clean", "adversarial", "clean_map", "adversarial_map"))
    assert underfire(*command(folder), "--out", out).code == 0
    complete(out, whole)


@pytest.mark.long  # test_resume kills a driver, test_executors a worker, in a tenth of the time
@pytest.mark.parametrize("driver", [True, False], ids=["driver", "worker"])
def test_killed_once_and_resumed(driver: bool, folder: Path, whole: Rows, tmp_path: Path) -> None:
    kill_at_random(folder, tmp_path / "out", whole, 1, driver=driver)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("driver", [True, False], ids=["driver", "worker"])
def test_killed_twenty_times_in_a_row_and_resumed(driver: bool, folder: Path, whole: Rows, tmp_path: Path) -> None:
    kill_at_random(folder, tmp_path / "out", whole, 20, driver=driver)


# -- the disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with room for about half a run."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_space(
    small_disk: Path, folder: Path, whole: Rows
) -> None:
    ballast, out = small_disk / "ballast", small_disk / "out"
    ballast.write_bytes(b"x" * 100_000)
    ran = underfire(*command(folder), "--out", out)
    assert ran.code == 2
    assert f"The disk that holds '{out}' is full" in ran.err
    assert 0 < len(Store(out).done("records")) < N
    assert not temporaries(out)
    assert Store(out).damaged("records") == []
    subprocess.run(["mount", "-o", "remount,size=32m", str(small_disk)], check=True)
    assert underfire(*command(folder), "--out", out).code == 0
    complete(out, whole)


def test_a_file_that_does_not_fit_leaves_nothing_behind(small_disk: Path) -> None:
    with pytest.raises(OSError, match="No space left"):
        files.write_whole(small_disk / "part", bytes(1 << 20))
    assert list(small_disk.iterdir()) == []


# -- the photos


def test_photos_of_a_read_only_folder_are_enough(folder: Path, whole: Rows, tmp_path: Path) -> None:
    there = tmp_path / "in"
    shutil.copytree(folder, there)
    for path in (*there.iterdir(), there):
        path.chmod(0o555 if path.is_dir() else 0o444)
    assert underfire(*command(there), "--out", tmp_path / "out").code == 0
    there.chmod(0o755)
    complete(tmp_path / "out", whole)


@pytest.mark.parametrize("way", ["emptied", "gone", "changed"])
def test_photos_that_vanish_under_way_are_never_recorded_as_bad(
    way: str, folder: Path, whole: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there, away, out = tmp_path / "in", tmp_path / "away", tmp_path / "out"
    shutil.copytree(folder, there)
    real = run_unit

    def disturbed(unit: Unit) -> Any:
        if unit.stage == "records" and len(Store(out).done("records")) == 3 and not away.exists():
            shutil.copytree(there, away)
            if way == "gone":
                shutil.rmtree(there)
            for path in there.iterdir() if way != "gone" else ():
                path.unlink() if way == "emptied" else path.write_bytes(path.read_bytes() + b" ")
        return real(unit)

    monkeypatch.setattr("underfire.audit.desk.run_unit", disturbed)
    ran = underfire(*command(there), "--out", out)
    assert ran.code == 2
    assert str(there) in ran.err
    assert "Traceback" not in ran.err
    assert len(Store(out).done("records")) == 3
    assert all(row["error"] is None for row in Store(out).rows())
    shutil.rmtree(there, ignore_errors=True)
    shutil.copytree(away, there)
    assert underfire(*command(there), "--out", out).code == 0
    complete(out, whole)


# -- memory and clocks


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: 9"),
    ],
)
def test_an_attack_out_of_memory_is_no_result_of_the_photo(
    error: Exception, folder: Path, whole: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from underfire.attacks.search import SearchAttack

    real, seen = SearchAttack.run, []

    def hungry(self: Any, victim: Any, x: Any, goal: Any, seeds: Any) -> Any:
        if self.name != "pgd":
            return real(self, victim, x, goal, seeds)
        seen.append(seeds)
        if seeds == seen[min(4, len(seen) - 1)] and len(seen) > 4:  # the fifth photo, whenever it comes
            raise error
        return real(self, victim, x, goal, seeds)

    monkeypatch.setattr(SearchAttack, "run", hungry)
    out = tmp_path / "out"
    ran = underfire(*command(folder), "--out", out)
    assert ran.code == 3
    assert len(Store(out).done("records")) == N - 1
    assert len(Store(out).failed("records")) == 1
    rows = Store(out).rows()
    failed = [row for row in rows if row["error"] is not None]
    assert len(rows) == len(whole)
    assert len(failed) == 2  # the photo's rows of both attacks
    assert all("Failed 3 times" in row["error"] for row in failed)
    assert "1 failed" in underfire("status", out).out
    monkeypatch.undo()
    assert underfire(*command(folder), "--out", out).code == 0
    complete(out, whole)


def test_other_failures_of_a_third_partys_attack_are_its_result(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from underfire.attacks.search import SearchAttack

    real = SearchAttack.run

    def buggy(self: Any, *given: Any) -> Any:
        if self.name != "pgd":
            return real(self, *given)
        raise ZeroDivisionError("step of nothing")

    monkeypatch.setattr(SearchAttack, "run", buggy)
    assert underfire(*command(folder), "--out", tmp_path).code == 3
    assert Store(tmp_path).failed("records") == set()
    assert len(Store(tmp_path).done("records")) == N


def test_a_clock_that_jumps_changes_nothing(
    folder: Path, whole: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jumps = random.Random(0)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jumps.choice((-1e8, 0, 1e8)))

    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Jumping:
            return cls.fromtimestamp(time.time(), tz)

    monkeypatch.setattr("underfire.audit.provenance.datetime", Jumping)
    out = tmp_path / "out"
    assert underfire(*command(folder), "--out", out).code == 0
    for i, path in enumerate(sorted((out / "records").iterdir())):
        os.utime(path, (0, real() + (-1) ** i * 1e8))
    assert underfire("status", out).code == 0
    assert underfire(*command(folder), "--out", out).code == 0
    assert all(row["seconds"] > 0 for row in Store(out).rows())
    complete(out, whole)


def test_one_worker_builds_one_classifier_for_all_lanes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from support.e2e import extended
    from underfire.plan import make
    from underfire.plan.settings import Settings

    with extended():
        settings = Settings.parse(
            {"images": str(folder), "classifier": "toy", "interpreter": ("cam", "grad"), "attack": ("adv2",)}
        )
        plan = make.make_plan(settings)
        units = list(plan.units())
        systems = [System.of_job(unit.job) for unit in units]
    assert len({unit.job.interpreters for unit in units}) == 2
    assert len({id(system.classifier) for system in systems}) == 1
