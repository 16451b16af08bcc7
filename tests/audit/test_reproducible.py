"""Records depend on the plan alone (method, section 5.6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.e2e import TOY, photos, records, underfire


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("reproducible") / "in", 5)


def _run(folder: Path, out: Path, *more: str) -> list[dict[str, Any]]:
    batch = () if "--batch-size" in more else ("--batch-size", "2")
    assert underfire("run", "--images", folder, *TOY, *batch, *more, "--out", out).code == 0
    return records(out)


def _files(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in (out / "images").rglob("*.*")}


def test_worker_count_changes_nothing(folder: Path, tmp_path: Path) -> None:
    assert _run(folder, tmp_path / "one") == _run(folder, tmp_path / "two", "--workers", "2")
    assert _files(tmp_path / "one") == _files(tmp_path / "two")


def test_another_batch_size_keeps_the_targets(folder: Path, tmp_path: Path) -> None:
    def targets(rows: list[dict[str, Any]]) -> dict[tuple[str, str], int]:
        return {(r["image"], r["attack"]): r["target_class"] for r in rows}

    two, five = _run(folder, tmp_path / "two"), _run(folder, tmp_path / "five", "--batch-size", "5")
    assert targets(two) == targets(five)


def test_the_thread_count_of_an_earlier_run_does_not_stay(folder: Path, tmp_path: Path) -> None:
    import torch

    _run(folder, tmp_path / "one")
    _run(folder, tmp_path / "two", "--threads", "2")
    _run(folder, tmp_path / "three")
    assert torch.get_num_threads() == 1
