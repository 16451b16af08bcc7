"""Units on a Ray cluster, by a pool of actors that keep their classifier.

All actors are requested at once, and each gets a unit as soon as it has started: so an autoscaler sees how many are
wanted, and no actor waits for another. An actor whose unit has failed, or whose node has died, is replaced; its unit
goes to a free actor.
"""

from __future__ import annotations

import os
import socket
import warnings
from typing import Any

from underfire.core import UnderfireError, Unit, Workplace
from underfire.executors.crew import TRIES, CrewExecutor, Failure, Result, Work, attempt
from underfire.registry import register

KNOCK = 10.0
"""Seconds after which a head that does not answer at all is given up."""
PATIENCE = 60.0
"""Seconds without any actor after which the user hears what the cluster has."""


@register("executors", "ray")
class Ray(CrewExecutor):
    """--workers N actors on a Ray cluster (--address auto, ray://HOST:10001 or local); needs underfire[ray]."""

    def __init__(self, workplace: Workplace) -> None:
        try:
            import ray  # noqa: F401, PLC0415 (an extra)
        except ImportError as e:
            raise UnderfireError("--executor ray needs Ray: pip install 'underfire[ray]'.") from e
        super().__init__(lambda work: Actors(work, workplace))


def _connect(workplace: Workplace) -> None:
    import ray  # noqa: PLC0415

    address = workplace.address or "auto"
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address == "local":
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster that we start sends no statistics
        quiet |= {"num_cpus": workplace.workers * workplace.threads, "include_dashboard": False}
    try:
        _knock(address)
        ray.init(address=address, **quiet)
    except (OSError, ValueError, RuntimeError) as e:
        raise UnderfireError(
            f"There is no Ray cluster at --address {address} ({_first_line(e)}): "
            "start one with `ray start --head`, or give --address local for one on this machine alone."
        ) from e


def _knock(address: str) -> None:
    """Raise OSError where nothing answers: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), KNOCK).close()


class _Actor:
    """A worker on the cluster."""

    def __init__(self, fn: Work) -> None:
        self._fn = fn

    def ready(self) -> None:
        """Answer once the actor has started."""

    def run(self, unit: Unit) -> Result:
        """Try a unit."""
        return attempt(self._fn, unit)


class Actors:
    """A crew of Ray actors.

    Args:
        fn: what an actor does with a unit.
        workplace: number, threads and GPUs of the actors, and the cluster.

    Raises:
        UnderfireError: there is no such cluster.
    """

    def __init__(self, fn: Work, workplace: Workplace) -> None:
        import ray  # noqa: PLC0415

        self._ours = not ray.is_initialized()  # a notebook's own connection is used and left alone
        if self._ours:
            _connect(workplace)
        on_gpu = workplace.device.startswith("cuda")
        gpus = workplace.gpus if workplace.gpus is not None else float(on_gpu)
        self._needs = f"{workplace.threads} CPUs" + (f" and {gpus:g} GPUs" if gpus else "")
        self._kind = ray.remote(_Actor).options(
            num_cpus=workplace.threads,
            num_gpus=gpus,
            max_restarts=0,  # replaced here, where it is known what failed
            scheduling_strategy="SPREAD",
        )
        self._fn = ray.put(fn)
        self._starting: dict[Any, Any] = {}
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Unit]] = {}
        self._lost = 0
        for _ in range(workplace.workers):
            self._start()

    @property
    def busy(self) -> bool:
        """Whether some actor has a unit."""
        return bool(self._busy)

    def _start(self) -> None:
        actor = self._kind.remote(self._fn)
        self._starting[actor.ready.remote()] = actor

    def give(self, unit: Unit) -> bool:
        """Give a unit to an actor that has started and has none, and tell whether there was one."""
        if self._idle:
            actor = self._idle.pop()
            self._busy[actor.run.remote(unit)] = actor, unit
            return True
        return False

    def wait(self) -> list[tuple[Unit, Result]]:
        """Wait until an actor has started, is done or is dead, and return the units that are done, with results."""
        import ray  # noqa: PLC0415

        asked = [*self._busy, *self._starting]
        done, _ = ray.wait(asked, num_returns=1, timeout=None if self._busy else PATIENCE)
        if not done:
            warnings.warn(
                f"Ray has found no node for a worker with {self._needs} for {PATIENCE:.0f} s; the cluster has "
                f"{ray.cluster_resources()}. Still waiting.",
                stacklevel=2,
            )
        return [result for ref in done if (result := self._finished(ref)) is not None]

    def _finished(self, ref: Any) -> tuple[Unit, Result] | None:
        import ray  # noqa: PLC0415

        if ref in self._starting:
            self._started(ref, self._starting.pop(ref))
            return None
        actor, unit = self._busy.pop(ref)
        try:
            result: Result = ray.get(ref)
        except ray.exceptions.RayError as e:
            result = Failure(f"the end of its Ray actor ({_first_line(e)})")
        if isinstance(result, Failure):
            ray.kill(actor)
            self._start()
        else:
            self._idle.append(actor)
        return unit, result

    def _started(self, ref: Any, actor: Any) -> None:
        import ray  # noqa: PLC0415

        try:
            ray.get(ref)
        except ray.exceptions.RayError as e:
            self._lost += 1
            if self._lost == TRIES * (len(self._starting) + len(self._idle) + len(self._busy) + 1):
                raise UnderfireError(
                    f"Ray's actors do not start ({_first_line(e)}): underfire must be installed on every node."
                ) from e
            self._start()
            return
        self._lost = 0
        self._idle.append(actor)

    def stop(self) -> None:
        """End all actors, and the connection if we have made it."""
        import ray  # noqa: PLC0415

        actors = [*self._idle, *self._starting.values(), *(actor for actor, _ in self._busy.values())]
        for actor in actors:
            ray.kill(actor)
        if self._ours:
            ray.shutdown()


def _first_line(e: BaseException) -> str:
    return (str(e).strip().splitlines() or [type(e).__name__])[0].rstrip(".:")
