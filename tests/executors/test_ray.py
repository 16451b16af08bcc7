"""An audit on a Ray cluster: the records of one process, whatever is lost on the way."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support import cluster
from support.e2e import TOY, photos, records, temporaries, underfire
from underfire.store import Store

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # Ray leaves pipes to its own processes open
N = 16


@pytest.fixture(scope="module")
def command(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = photos(tmp_path_factory.mktemp("ray") / "in", N)
    return ["run", "--images", str(folder), *TOY, "--batch-size", "1", "--set", "adv2.steps=60"]


@pytest.fixture(scope="module")
def whole(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The records of an undisturbed run in one process."""
    out = tmp_path_factory.mktemp("whole") / "out"
    assert underfire(*command, "--out", out).code == 0
    return records(out)


@contextlib.contextmanager
def beside(act: Callable[[], None]) -> Iterator[None]:
    """Something happens while a run goes on; what it raises is raised."""
    errors: list[BaseException] = []

    def acted() -> None:
        try:
            act()
        except BaseException as e:
            errors.append(e)

    thread = threading.Thread(target=acted)
    thread.start()
    yield
    thread.join()
    if errors:
        raise errors[0]


def until(done: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_an_actor_is_killed_and_a_node_lost_in_the_middle(
    ray_cluster: Any, command: list[str], whole: list[dict[str, Any]], tmp_path: Path
) -> None:
    node, store = cluster.add_node(ray_cluster), Store(tmp_path)
    killed: list[int] = []

    def disturb() -> None:
        until(lambda: len(store.done("records")) >= 2)
        killed.extend(cluster.actors(ray_cluster)[:1])
        os.kill(killed[0], signal.SIGKILL)
        until(lambda: len(store.done("records")) >= 6)
        ray_cluster.remove_node(node, allow_graceful=False)

    with beside(disturb):
        ran = underfire(
            *command, "--executor", "ray", "--address", ray_cluster.address, "--workers", "2", "--out", tmp_path
        )
    assert ran.code == 0, ran.err
    assert len(killed) == 1
    assert records(tmp_path) == whole
    assert not temporaries(tmp_path)
    assert not Store(tmp_path).failed("records")


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_an_actor_is_killed_twenty_times_in_a_row(
    ray_cluster: Any, command: list[str], whole: list[dict[str, Any]], tmp_path: Path
) -> None:
    choose, store, kills = random.Random(0), Store(tmp_path), 0

    def disturb() -> None:
        nonlocal kills
        goal = len(store.done("records")) + choose.randint(1, 4)
        until(lambda: len(store.done("records")) >= goal)
        time.sleep(choose.uniform(0, 0.2))
        os.kill(choose.choice(cluster.actors(ray_cluster)), signal.SIGKILL)
        kills += 1

    on_ray = ("--executor", "ray", "--address", ray_cluster.address, "--workers", "2", "--out", tmp_path)
    while kills < 20:
        for unit in sorted(store.done("records"))[: N // 2]:  # so that there is something to disturb
            store.discard("records", unit)
        with beside(disturb):
            ran = underfire(*command, *on_ray)
        assert ran.code == 0, ran.err
        assert records(tmp_path) == whole
        assert not temporaries(tmp_path)
        assert not store.failed("records")


def test_an_address_without_a_cluster_is_said(command: list[str], tmp_path: Path) -> None:
    ran = underfire(*command, "--executor", "ray", "--address", "127.0.0.1:1", "--out", tmp_path / "out")
    assert ran.code == 2
    assert "There is no Ray cluster at --address 127.0.0.1:1" in ran.err
    assert "--address local" in ran.err
