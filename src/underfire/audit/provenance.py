"""The provenance of a part: version, commit, hardware, date. None of it changes a number."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path


def provenance(device: str, seconds: float) -> dict[str, str]:
    """Collect when, where and with what a part was made on this machine, and how long it took.

    Args:
        device: what it was computed on.
        seconds: wall time of its unit.
    """
    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "hardware": hardware(device),
        "machine": platform.machine(),
        "seconds": f"{seconds:.3f}",
        "underfire_version": underfire(),
        "torch": version("torch"),
        "timm": version("timm"),
    }


@lru_cache
def hardware(device: str) -> str:
    """Describe the processor and the accelerator in words, without the name of the machine."""
    cpu = f"{os.cpu_count()} × {_processor()}, {platform.system()}"
    if device == "cpu":
        return cpu
    import torch  # noqa: PLC0415 (the name of a CPU does not need it)

    here = device.startswith("cuda") and torch.cuda.is_available()  # the driver of a cluster may have none
    return f"{torch.cuda.get_device_name(device) if here else device}, {cpu}"


@lru_cache
def underfire() -> str:
    """Return the installed version, and the commit where the source tree is a git checkout of its own."""
    here = Path(__file__).resolve().parents[1]
    git = ["git", "-C", str(here), "rev-parse", "--show-toplevel", "--short", "HEAD"]
    try:
        done = subprocess.run(git, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return version("underfire")
    top, _, commit = done.stdout.strip().partition("\n")
    if done.returncode or Path(top) / "src" / "underfire" != here:
        return version("underfire")
    return f"{version('underfire')}, commit {commit}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        return platform.processor() or platform.machine()
    return next((x.partition(":")[2].strip() for x in lines if x.startswith("model name")), platform.machine())
