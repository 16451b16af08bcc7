"""The start of the command line: --help loads nothing that it does not show."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import sys
from underfire.cli.app import main
sys.argv = ["underfire", *{words}]
try:
    main()
except SystemExit as end:
    assert end.code == 0, end.code
heavy = [m for m in ("torch", "pyarrow", "pygments", "markdown_it", "yaml") if m in sys.modules]
assert not heavy, heavy
import rich.markdown, rich.traceback
assert rich.markdown.Markdown("**a**").markup == "**a**"
assert hasattr(rich.traceback, "install")
"""


def test_help_loads_no_highlighter_and_leaves_the_real_one_to_others() -> None:
    for words in (["--help"], ["run", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", CODE.format(words=words)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "Attack a classifier" in done.stdout


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "passive 3000"),
        ({"GOMP_SPINCOUNT": "7"}, "passive 7"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "PASSIVE 3000"),
        ({"OMP_WAIT_POLICY": "active"}, "active None"),
    ],
)
def test_waiting_threads_spin_for_a_moment_unless_the_user_has_said_otherwise(
    given: dict[str, str], expected: str
) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    code = f"import os, underfire; print(*(os.environ.get(name) for name in {names}))"
    environment = {k: v for k, v in os.environ.items() if k not in names} | given
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected
