"""The start of the command line: --help loads nothing that it does not show."""

from __future__ import annotations

import subprocess
import sys

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
