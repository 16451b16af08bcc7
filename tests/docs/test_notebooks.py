"""The notebooks run from their first cell to their last, and are saved with what they show.

UNDERFIRE_RENEW=1 python -m pytest tests/docs/test_notebooks.py saves them with new outputs.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support import notebooks

FOLDER = Path(__file__).parents[2] / "docs/notebooks"
LARGEST = 400_000
"""Bytes of a notebook: its pictures are small ones."""


@pytest.mark.parametrize("name", ["try", "audit"])
def test_a_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = FOLDER / f"{name}.ipynb"
    monkeypatch.chdir(tmp_path)
    made = notebooks.run(path)
    if os.environ.get("UNDERFIRE_RENEW"):
        path.write_text(notebooks.dumps(made), encoding="utf-8")
    text = notebooks.dumps(made)
    assert len(text) < LARGEST
    assert str(tmp_path) not in text
    assert sum(len(cell.get("outputs", ())) for cell in made["cells"]) >= 2


@pytest.mark.parametrize("name", ["try", "audit"])
def test_a_notebook_is_saved_with_its_outputs(name: str) -> None:
    saved = (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")
    assert '"outputs": [\n' in saved
    assert len(saved) < LARGEST
