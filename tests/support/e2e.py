"""What the end-to-end tests share: the command in this process, photos, and the extension package's toy classifier."""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from PIL import Image

from underfire.cli import app
from underfire.core.place import Place
from underfire.store import open_results

PLUGIN = Path(__file__).parents[1] / "plugin"
TOY = (
    "--classifier",
    "toy",
    "--set",
    "adv2.steps=3",
    "--set",
    "adv2.rescue=false",
    "--set",
    "pgd.steps=3",
    "--threads",
    "1",
)
"""A run of milliseconds."""


@functools.cache
def installed() -> Path:
    """A folder with the extension package, installed as a user would."""
    target = Path(tempfile.mkdtemp(prefix="underfire-plugin-"))
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    source = target / "source"  # building leaves nothing in the repository
    shutil.copytree(PLUGIN, source, ignore=shutil.ignore_patterns("__pycache__"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--no-index", "--target", target / "site", source], check=True)
    return target / "site"


@contextlib.contextmanager
def extended() -> Iterator[None]:
    """The extension package can be imported inside."""
    with mock.patch.object(sys, "path", [str(installed()), *sys.path]):
        yield


@dataclass(frozen=True)
class Ran:
    """What a command did: exit status, standard output, standard error."""

    code: int
    out: str
    err: str


def underfire(*words: str | Path) -> Ran:
    """``underfire WORDS...`` in this process, with the extension package at hand."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        extended(),
        mock.patch.object(sys, "argv", ["underfire", *map(str, words)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            app.main()
        except SystemExit as e:
            code = int(e.code or 0)
    return Ran(code, out.getvalue(), err.getvalue())


def photo(seed: int, width: int = 48, height: int = 40) -> Image.Image:
    """Soft random colours."""
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def photos(folder: Path, n: int) -> Path:
    """A folder of ``n`` photos."""
    folder.mkdir()
    for i in range(n):
        photo(i).save(folder / f"p{i:02d}.png")
    return folder


def records(out: Place) -> list[dict[str, Any]]:
    """All records of a run but for their wall time."""
    return [{k: v for k, v in row.items() if k != "seconds"} for row in open_results(out).rows()]


def temporaries(out: Path) -> list[Path]:
    """What a killed run left."""
    return [*out.rglob(".tmp-*"), *out.rglob(".report-*")]
