"""kill -9 at any point loses nothing finished, and the same command then gives the records of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from support.e2e import TOY, installed, photos, records, temporaries, underfire
from underfire.store import Store

# Imports once, then forks a fresh run for every line it reads.
SERVER = """
import os, sys
import underfire.api, underfire.audit.run, underfire.cli.show, underfire.report
from underfire import cli, registry
for kind in registry.KINDS: registry.names(kind)
for _ in sys.stdin:
    pid = os.fork()
    if pid == 0:
        sys.stdout = open(os.devnull, "w")
        cli.main()
        os._exit(0)
    print(pid, flush=True)
    print(os.WTERMSIG(os.waitpid(pid, 0)[1]), flush=True)
"""


def test_killed_three_times_and_resumed_equals_undisturbed(tmp_path: Path) -> None:
    n = 20
    command = ["run", "--images", str(photos(tmp_path / "in", n)), *TOY, "--batch-size", "1", "--set", "adv2.steps=30"]
    assert underfire(*command, "--out", tmp_path / "whole").code == 0
    out, delays, kept = tmp_path / "killed", random.Random(0), dict[str, int]()
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, *command, "--out", str(out)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(installed()), os.environ.get("PYTHONPATH", "")])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        for _ in range(3):
            print("go", file=server.stdin, flush=True)
            run = int(server.stdout.readline())
            before = len(Store(out).done("records"))
            while len(Store(out).done("records")) < before + 2:
                time.sleep(0.002)
            time.sleep(delays.uniform(0, 0.05))
            os.kill(run, signal.SIGKILL)
            assert int(server.stdout.readline()) == signal.SIGKILL
            for row in Store(out).rows():  # every part that is there is whole, with its files
                assert all((out / row[c]).is_file() for c in ("clean", "adversarial", "clean_map", "adversarial_map"))
            now = _parts(out)
            assert kept.items() <= now.items()
            kept = now
        server.stdin.close()
    assert 6 <= len(kept) < n
    (out / "records" / ".tmp-left").write_bytes(b"half")
    (out / "images" / ".tmp-left").mkdir()
    assert underfire(*command, "--out", out).code == 0
    assert records(out) == records(tmp_path / "whole")
    assert kept.items() <= _parts(out).items()
    assert not temporaries(out)
    assert len(list((out / "images").iterdir())) == n


def _parts(out: Path) -> dict[str, int]:
    return {p.name: p.stat().st_mtime_ns for p in (out / "records").glob("[!.]*")}
