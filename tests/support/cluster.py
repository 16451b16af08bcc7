"""One small Ray cluster for all tests of a session: nodes on this machine, started when first needed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from support import e2e

SMALL = {"object_store_memory": 80_000_000, "include_dashboard": False}
"""Ray's least is 75 MB a node."""
HEALTH = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500}
STARTS = 3


def start() -> Any:
    """A cluster of one node with one CPU."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 1, **SMALL, "_system_config": HEALTH}
    return _patiently(lambda: Cluster(initialize_head=True, head_node_args=head))


def add_node(cluster: Any) -> Any:
    """One more node of this machine, with one CPU."""
    return _patiently(lambda: cluster.add_node(num_cpus=1, **SMALL))


def _patiently(begin: Callable[[], Any]) -> Any:
    """Ray gives a node 30 s to start, whatever else the machine does; a busy one needs more than one such time."""
    with _environment():
        for _ in range(STARTS - 1):
            with contextlib.suppress(Exception):
                return begin()
        return begin()


def _environment() -> Any:
    """A node's workers find underfire, the tests and the extension package where this process does."""
    here = [str(e2e.installed()), str(e2e.PLUGIN.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    return mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(here), RAY_USAGE_STATS_ENABLED="0")


def actors(cluster: Any) -> list[int]:
    """Process ids of the actors that run on the cluster's nodes."""
    raylets = {node.all_processes["raylet"][0].process.pid for node in cluster.list_all_nodes()}
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = stat.read_text().rpartition(")")
            title = (stat.parent / "cmdline").read_text()
            if int(rest.split()[1]) in raylets and title.startswith("ray::_Actor"):
                found.append(int(name.split()[0]))
    return found
