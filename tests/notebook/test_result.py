"""The result in a notebook: one line, a strip, a table, files, one image of several."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from rich.progress import Progress

import underfire
from support.e2e import photo, photos
from support.toys import pictures, toy
from underfire.core import UnderfireError
from underfire.core.precision import precision
from underfire.images.overlay import over
from underfire.notebook import progress, threads
from underfire.notebook.result import Result


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """Three photos of which one is none."""
    folder = photos(tmp_path_factory.mktemp("given") / "in", 2)
    (folder / "p00b.png").write_text("no photo")
    return underfire.attack(toy(), "cam", folder, steps=8, target="least-likely", eps=32)


def test_a_folder_is_its_photos(result: Result, tmp_path: Path) -> None:
    assert [Path(record.image).name for record in result.records] == ["p00.png", "p00b.png", "p01.png"]
    given: list[Any] = [
        str(photos(tmp_path / "in", 2)),
        photo(5),
        ("named.png", (tmp_path / "in/p01.png").read_bytes()),
    ]
    several = underfire.attack(toy(), "cam", given, steps=0)
    assert [Path(r.image).name for r in several.records] == ["p00.png", "p01.png", "image-1.png", "named.png"]
    assert several.records[3].image_sha256 == several.records[1].image_sha256
    with pytest.raises(UnderfireError, match="No images in"):
        (tmp_path / "empty").mkdir()
        underfire.attack(toy(), "cam", tmp_path / "empty", steps=0)


def test_it_prints_in_a_line(result: Result) -> None:
    won = sum(bool(record.success) for record in result.records)
    l1 = np.mean([record.map_l1 for record in result.records if record.map_l1 is not None])
    found = re.fullmatch(
        r"Result\(3 photos, ADV² on CAM: (\d) success, forged: not calibrated, L1 (\S+), 1 error\)", repr(result)
    )
    assert found is not None, repr(result)
    assert int(found[1]) == won
    assert float(found[2]) == pytest.approx(float(l1), rel=0.05)
    assert "seen by CAM" in repr(underfire.attack(toy(), "cam", photo(1), attack="pgd", steps=1))


def test_one_image_of_several(result: Result) -> None:
    assert len(result) == 3
    assert [len(one) for one in result] == [1, 1, 1]
    assert torch.equal(result[2].images, result.images[1:])
    assert result[-1].records == result.records[2:]
    assert result[2].files == result.files[1:]
    assert len(result[1].images) == 0
    with pytest.raises(IndexError, match="3 images"):
        _ = result[3]


def test_its_pictures(result: Result) -> None:
    drawn = np.asarray(result.overlay(2))
    levels = (result.images[1] * 255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(drawn, over(levels, result.maps[1].numpy()))
    assert np.array_equal(np.asarray(result.picture(2)), levels)
    clean = np.asarray(result.overlay(0, clean=True))
    assert np.array_equal(clean, over(np.asarray(result.picture(0, clean=True)), result.clean_maps[0].numpy()))
    with pytest.raises(UnderfireError, match=r"Image 1 has no picture: .*p00b\.png"):
        result.overlay(1)


def test_its_strip_needs_nothing_else(result: Result) -> None:
    html = result._repr_html_()
    assert html.count("<img") == 2 * 5
    assert re.findall(r'(?:src|href)="(?!data:image/jpeg;base64,)', html) == []
    assert "<script" not in html
    assert "p00b.png" in html
    evil = underfire.attack(toy(), "cam", [("<b>&.png", io_png())], steps=0)
    assert "&lt;b&gt;&amp;.png" in evil._repr_html_()
    assert "<b>&" not in evil._repr_html_()


def io_png() -> bytes:
    buffer = io.BytesIO()
    photo(3).save(buffer, "PNG")
    return buffer.getvalue()


def test_its_table(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    table = result.to_table()
    assert table["map_l1"].to_pylist() == [record.map_l1 for record in result.records]
    assert table["untouched"].to_pylist() == [one.untouched for one in result.verdicts]
    assert "iou_0.5" in table.column_names
    frame = result.to_frame()
    assert list(frame.columns) == table.column_names
    assert frame["image"].tolist() == [record.image for record in result.records]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UnderfireError, match="pip install pandas, or take to_table"):
        result.to_frame()


def test_it_is_saved(result: Result, tmp_path: Path) -> None:
    page = result.save(tmp_path / "a/b")
    names = sorted(path.name for path in page.parent.iterdir())
    assert names == [
        *("000-p00-forged.png", "000-p00-map-after.png", "000-p00-map-before.png"),
        *("002-p01-forged.png", "002-p01-map-after.png", "002-p01-map-before.png"),
        *("index.html", "results.parquet"),
    ]
    assert (page.parent / "002-p01-forged.png").read_bytes() == result.files[1]
    assert pq.read_table(page.parent / "results.parquet").equals(result.to_table())
    (tmp_path / "file").write_text("")
    with pytest.raises(UnderfireError, match="Cannot write into"):
        result.save(tmp_path / "file")


def test_it_is_shown_outside_of_notebooks(
    result: Result, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    result.show()
    said = capsys.readouterr().out.splitlines()
    assert said[0] == repr(result)
    assert opened == [Path(said[1]).as_uri()]


def test_several_interpreters_are_attacked_one_by_one() -> None:
    both = underfire.attack(toy(), ["cam", "inputxgrad"], photo(4), steps=2)
    assert list(both) == ["cam", "inputxgrad"]
    alone = underfire.attack(toy(), "inputxgrad", photo(4), steps=2)
    assert torch.equal(both["inputxgrad"].images, alone.images)
    with pytest.raises(UnderfireError, match="no interpreter"):
        underfire.attack(toy(), [], photo(4))


def test_the_search_has_the_precision_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    victim = toy()
    seen: list[str] = []
    logits = victim.logits

    def watched(x: torch.Tensor) -> torch.Tensor:
        seen.append(precision())
        return logits(x)

    monkeypatch.setattr(victim, "logits", watched)
    result = underfire.attack(victim, "cam", pictures(2), steps=6, precision="bf16-fp32-last,grad:bf16")
    assert set(seen) == {"fp32", "bf16-last", "fp32-last"}
    assert result.records[0].map_l1 is not None
    seen.clear()
    underfire.attack(victim, "cam", pictures(2), steps=6)
    assert set(seen) == {"fp32"}


def test_a_bar_where_somebody_looks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    seen: list[tuple[int, str]] = []
    update = Progress.update

    def noted(self: Any, task: Any, **fields: Any) -> None:
        seen.append((fields["completed"], fields["note"]))
        update(self, task, **fields)

    monkeypatch.setattr(Progress, "update", noted)
    underfire.attack(toy(), "cam", [photo(1), photo(2)], steps=4)
    assert seen == []  # nobody sits before a test
    underfire.attack(toy(), "cam", [photo(1), photo(2)], steps=4, rescue=False, progress=True)
    assert [step for step, _ in seen] == list(range(len(seen)))
    assert all(note.endswith("of 2 at their class") for _, note in seen)


def test_threads_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    with threads.at_most(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before
    monkeypatch.setattr(underfire, "OPENMP_SPINS", True)
    monkeypatch.setattr(threads, "free_cores", lambda otherwise: 1)
    torch.set_num_threads(2)
    try:
        with threads.at_most(None):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        monkeypatch.setattr(underfire, "OPENMP_SPINS", False)
        with threads.at_most(None):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/stat")
def test_free_cores_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([[(0, 0), (0, 0), (50, 100)], [(100, 100), (10, 100), (140, 200)]])
    monkeypatch.setattr(threads, "_times", lambda: next(told))
    assert threads.free_cores(9) == 2  # 1.0 + 0.1 + 0.9
    monkeypatch.setattr(threads, "_times", lambda: None)
    assert threads.free_cores(9) == 9
