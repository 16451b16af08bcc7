"""What a page tells a reader to type works: Python blocks run, and command lines are ones that underfire has.

A page's Python blocks run one after the other, as a reader would, with few steps of search. Blocks that need what
takes minutes to make are compiled only; why, stands here.
"""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from skimage import data

import underfire
from support.e2e import TOY, photos
from support.e2e import underfire as command
from underfire.cli.app import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = ("README.md", "docs/try.md", "docs/audit.md", "docs/report.md")
COMPILED = {
    "docs/door.md": "its network is the reader's; tests/doors",
    "docs/extend.md": "its package is built and run by tests/test_extend.py",
    "docs/classifiers.md": "its network stands for several",
    "docs/gate.md": "needs two audits; tests/gating",
    "docs/defenses.md": "needs an alarm, calibrated on 26 photos; tests/defenses",
}
STEPS = 3
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _blocks(name: str) -> list[str]:
    return BLOCK.findall((ROOT / name).read_text(encoding="utf-8"))


def test_every_page_with_python_is_run_or_says_why_not() -> None:
    with_blocks = {_name(path) for path in PAGES if BLOCK.search(path.read_text(encoding="utf-8"))}
    assert with_blocks <= {*RUN, *COMPILED}


@pytest.mark.parametrize("name", RUN)
def test_python_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for photo, levels in (("coffee.jpg", data.coffee()), ("cat.jpg", data.chelsea())):
        Image.fromarray(np.ascontiguousarray(levels)).save(photo)
    photos(tmp_path / "few", 2)
    audit = ("run", "--images", "few", *TOY, "--interpreter", "cam", "--at", "input", "--out")
    for out in ("audit", "underfire-out/photos-1a2b3c4d"):
        assert command(*audit, tmp_path / out).code == 0
    attack = underfire.attack

    @functools.wraps(attack)
    def quick(*given: Any, **named: Any) -> Any:
        return attack(*given, **{**named, "steps": STEPS})

    monkeypatch.setattr(underfire, "attack", quick, raising=False)
    names: dict[str, Any] = {}
    for block in _blocks(name):
        exec(compile(block, name, "exec"), names)


@pytest.mark.parametrize("name", COMPILED)
def test_python_is_python(name: str) -> None:
    for block in _blocks(name):
        compile(block, name, "exec")


def _lines(text: str) -> Iterator[str]:
    """Command lines of a page: in indented blocks and in shell blocks, continued lines joined, without comments."""
    indented = "\n".join(line[4:] for line in text.splitlines() if line.startswith("    "))
    for block in (indented, *SHELL.findall(text)):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            if re.match(r"(\.venv/bin/)?underfire [a-z]", line.strip()):
                yield line.strip()


def _words(line: str) -> list[str]:
    words = shlex.split(line, comments=True)[1:]
    ends = [i for i, word in enumerate(words) if word in ("|", "&&", "||", ">", ";")]
    return words[: ends[0]] if ends else words


@pytest.mark.parametrize("path", PAGES, ids=_name)
def test_command_lines_are_ones_that_underfire_has(path: Path) -> None:
    root: Any = typer.main.get_command(app)
    for line in _lines(path.read_text(encoding="utf-8")):
        command, words = root, _words(line)
        while hasattr(command, "commands"):
            assert words and words[0] in command.commands, f"{line}: no such verb"
            command, words = command.commands[words[0]], words[1:]
        if any(word in ("…", "...") for word in words):
            continue
        try:
            command.make_context("underfire", list(words))
        except Exception as e:
            pytest.fail(f"{line}: {getattr(e, 'message', e)}", pytrace=False)
