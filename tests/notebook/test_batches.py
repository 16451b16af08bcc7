"""Many images: `underfire.attack` takes them in batches, and nobody sees it in what comes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import underfire
from support.e2e import photos
from support.toys import pictures, toy
from underfire.core import UnderfireError
from underfire.notebook import attacking
from underfire.notebook.result import Result

SEVEN = {"steps": 6, "target": "random"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight files, of which the third is no photo."""
    given = photos(tmp_path / "in", 7)
    (given / "p01b.png").write_text("no photo")
    return given


def in_batches(monkeypatch: pytest.MonkeyPatch, size: int, *given: Any, **settings: Any) -> Result:
    monkeypatch.setattr(attacking, "UNIT_IMAGES", {"cpu": size})
    result: Result = underfire.attack(toy(), "cam", *given, **{**SEVEN, **settings})
    return result


def same(one: Result, other: Result) -> None:
    for name in ("clean", "images", "clean_maps", "maps"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), atol=1e-5, rtol=1e-4)
    assert len(one.files) == len(other.files)
    for a, b in zip(one.records, other.records, strict=True):
        said = [(r.image, r.error, r.source_class, r.target_class, r.success, r.linf_levels) for r in (a, b)]
        assert said[0] == said[1]


@pytest.mark.parametrize("target_map", ["benign", "image:random"])
def test_batches_have_the_results_of_one_batch(target_map: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = in_batches(monkeypatch, 64, folder, target_map=target_map)
    cut = in_batches(monkeypatch, 3, folder, target_map=target_map)
    assert [r.error is None for r in cut.records] == [True, True, False, *[True] * 5]
    same(whole, cut)
    assert torch.equal(cut[4].images[0], cut.images[3])
    same(in_batches(monkeypatch, 64, pictures(7)), in_batches(monkeypatch, 2, pictures(7)))


def test_a_batch_without_any_photo_takes_nothing_from_the_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cut = in_batches(monkeypatch, 1, folder)
    assert [r.error is None for r in cut.records] == [True, True, False, *[True] * 5]
    assert len(cut.images) == len(cut.files) == 7
    with pytest.raises(UnderfireError, match=r"None of the images could be attacked: .*p01b\.png"):
        in_batches(monkeypatch, 1, [folder / "p01b.png", folder / "p01b.png"])


def test_the_memory_decides_where_there_are_more_than_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    def fits(classifier: Any, device: str, workers: int, step_passes: float) -> int:
        asked.append(step_passes)
        return 2

    monkeypatch.setattr(attacking, "batch_that_fits", fits)
    seen: list[int] = []

    class Watching:
        def see(self, glimpse: Any) -> bool:
            seen.append(len(glimpse.rows))
            return False

    in_batches(monkeypatch, 4, pictures(4), progress=Watching())
    assert not asked and max(seen) == 4
    seen.clear()
    in_batches(monkeypatch, 4, pictures(5), progress=Watching())
    assert len(asked) == 1 and max(seen) == 2
    seen.clear()


def test_all_batches_make_one_yardstick(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = in_batches(monkeypatch, 64, pictures(20))
    for size in (6, 1):  # a photo alone has the wrong maps of the others too
        cut = in_batches(monkeypatch, size, pictures(20))
        assert list(cut.rulers) == list(whole.rulers) == ["cam"]
        assert [one.forged for one in cut.verdicts] == [one.forged for one in whole.verdicts] != [None] * 20
