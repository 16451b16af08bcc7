"""The short form of benchmarks/libraries.py: every door against its library on photos from 20 px to 12 megapixels."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
if not BENCHMARKS.is_dir():  # the source package has the tests alone
    pytest.skip("needs the folder benchmarks", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))

import libraries  # noqa: E402 (it lies beside the tests)


@pytest.mark.long
def test_every_door_is_its_library_to_the_level() -> None:
    rows = list(libraries.compared(24))
    assert len(rows) >= 26
    assert [row for row in rows if row["differ"]] == []
