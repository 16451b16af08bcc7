"""Survival: forged files after what platforms do to them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.e2e import extended, photo, photos, underfire
from underfire.audit.survive import survive, victim_of
from underfire.core import MismatchError
from underfire.doors.treatments import TREATMENTS
from underfire.images.saving import file_photo
from underfire.store import open_results

STEPS = ("--classifier", "toy", "--threads", "1", "--set", "adv2.steps=8", "--set", "pgd.steps=8")


@pytest.fixture(scope="module")
def forged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("survive")
    ran = underfire("run", "--images", photos(folder / "in", 2), *STEPS, "--out", folder / "out")
    assert ran.code == 0, ran.err
    return folder / "out"


def test_files_are_judged_again_after_each_treatment(forged: Path) -> None:
    with extended():
        found = survive(forged)
    rows = {(row["image"], row["attack"]): row for row in open_results(forged).rows()}
    assert len({one.treatment for one in found}) >= 12 + 3
    assert len(found) == len(rows) * len({one.treatment for one in found})
    for one in found:
        row = rows[one.image, one.attack]
        if one.treatment in ("as it is", "metadata stripped, turned upright"):
            assert one.target == row["success"]
            assert one.confidence == pytest.approx(row["confidence"], abs=1e-5)
            assert one.map_l1 == pytest.approx(row["map_l1"], abs=1e-4)
            assert (one.forged, one.clean) == (row["forged"], True)


def test_the_command_writes_a_table(forged: Path) -> None:
    ran = underfire("survive", forged)
    assert ran.code == 0, ran.err
    for word in ("JPEG 75", "half size and back", "gamma 1.05", "through the door 'timm'", "adv2 on cam"):
        assert word.split()[0] in ran.out
    with (forged / "survival.csv").open(newline="") as file:
        assert {row["treatment"] for row in csv.DictReader(file)} >= {one.name for one in TREATMENTS}


def test_a_table_that_cannot_be_written_is_told_first(forged: Path, tmp_path: Path) -> None:
    ran = underfire("survive", forged, "--table", tmp_path / "no" / "x.csv")
    assert ran.code == 2
    assert "give another --table" in " ".join(ran.err.split())


def test_an_audit_made_on_another_device_is_judged_on_one_that_is_here(forged: Path, tmp_path: Path) -> None:
    plan = (forged / "plan.yaml").read_text().replace("device: auto", "device: mps:7")
    (tmp_path / "plan.yaml").write_text(plan)
    with extended():
        assert victim_of(tmp_path).classifier.name == "toy"


def test_another_file_is_no_forged_file(forged: Path, tmp_path: Path) -> None:
    row = open_results(forged).rows()[0]
    there = forged / row["adversarial"]
    before = there.read_bytes()
    try:
        there.write_bytes((forged / row["clean"]).read_bytes())
        with extended(), pytest.raises(MismatchError, match="is not the file that was forged"):
            survive(forged)
    finally:
        there.write_bytes(before)


def test_inputs_are_no_files(tmp_path: Path) -> None:
    out = tmp_path / "out"
    folder = photos(tmp_path / "in", 1)
    underfire("run", "--images", folder, *STEPS, "--at", "input", "--out", out)
    ran = underfire("survive", out)
    assert (ran.code, "holds no forged files" in ran.err) == (2, True)


@pytest.mark.parametrize("treatment", TREATMENTS, ids=lambda t: t.name)
def test_a_treatment_gives_a_photo(treatment: object) -> None:
    pixels = np.asarray(photo(1, 60, 45))
    after = treatment.of(pixels)  # type: ignore[attr-defined]
    assert after.dtype == np.uint8
    assert abs(float(after.mean()) - float(pixels.mean())) < 12


def test_the_report_shows_the_whole_photo(forged: Path) -> None:
    from underfire.report.page import write_report

    page = write_report(forged).read_text(encoding="utf-8")
    assert "The photos as people see them" in page
    assert page.count('class="flip"') == 2
    assert next(row for row in open_results(forged).rows() if row["against"])["adversarial"] in page
    assert "<script" not in page


@pytest.mark.parametrize("lossless", [True, False])
def test_a_webp_stays_one(lossless: bool, tmp_path: Path) -> None:
    photo(2).save(tmp_path / "p.webp", lossless=lossless)
    kept = file_photo((tmp_path / "p.webp").read_bytes(), "p", "same")
    assert (kept.saver.format, kept.saver.lossy) == ("WEBP", not lossless)
    assert np.array_equal(kept.saver.through(kept.pixels), kept.pixels) == lossless


def test_a_jpeg_keeps_its_own_tables(tmp_path: Path) -> None:
    photo(2, 64, 48).save(tmp_path / "p.jpg", quality=37, subsampling=0, progressive=True)
    kept = file_photo((tmp_path / "p.jpg").read_bytes(), "p", "same")
    (tmp_path / "again.jpg").write_bytes(kept.saver.save(kept.pixels, "adv2"))
    with Image.open(tmp_path / "p.jpg") as before, Image.open(tmp_path / "again.jpg") as after:
        assert before.quantization == after.quantization  # type: ignore[attr-defined]
        assert after.info.get("progressive")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_kept(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo(2, 64, 48).save(tmp_path / "p.png", exif=exif)
    kept = file_photo((tmp_path / "p.png").read_bytes(), "p", "png")
    again = file_photo(kept.saver.save(kept.pixels, "adv2"), "p", "png")
    assert np.array_equal(kept.pixels, again.pixels)
    assert again.saver.orientation == orientation
