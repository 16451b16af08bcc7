"""A whole training: what it writes, what it refuses, the public function, and the command."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from support.colours import Noted, colours, few, fitted, squares
from support.e2e import underfire
from underfire.core import MismatchError, NotFoundError, UnderfireError
from underfire.interpreters.rts.card import read_card
from underfire.train import evaluate, run, sheet
from underfire.train.photos import Photos
from underfire.train.run import train_rts
from underfire.train.settings import AdversarialSettings, TrainSettings


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return squares(tmp_path / "photos", 32)


def test_a_finished_training_is_not_done_again(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "rts.safetensors"
    assert fitted(photos, few(epochs=1), out).fresh
    assert not fitted(photos, few(epochs=1), out).fresh
    with pytest.raises(MismatchError, match=r"rts\.safetensors.*'colours'"):
        fitted(photos, few(epochs=2), out)


def test_a_bad_photo_is_told_in_the_end(photos: Path, tmp_path: Path) -> None:
    (photos / "bad.png").write_bytes(b"no picture")
    assert list(fitted(photos, few(epochs=1), tmp_path / "rts.safetensors").skipped) == ["bad.png"]


def test_a_picture_of_validation_maps_lies_beside_the_file(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        fitted(photos, few(), tmp_path / "rts.safetensors", Noted(stop_after=2))
    (tmp_path / "rts.png").unlink()  # of the first epoch
    done = fitted(photos, few(), tmp_path / "rts.safetensors")
    with Image.open(done.picture) as picture:
        columns = (picture.width - sheet.GAP) // (sheet.TILE + sheet.GAP)
    labelled = Photos(str(photos), None, colours()).labelled(0.15, 0)
    assert columns == min(evaluate.SHEET, sum(p.validation for p in labelled))


def test_the_picture_is_no_photo_where_it_lies_among_them(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos)
    with pytest.raises(KeyboardInterrupt):
        train_rts(colours(), ".", epochs=2, batch_size=8, test=0.0, listener=Noted(stop_after=1))
    assert (photos / "rts-colours.png").exists()
    assert train_rts(colours(), ".", epochs=2, batch_size=8, test=0.0).fresh
    assert not train_rts(colours(), ".", epochs=2, batch_size=8, test=0.0).fresh


def test_a_picture_of_the_users_own_is_not_written_over(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_bytes(b"mine")
    with pytest.raises(UnderfireError, match=r"mine\.png' is there already"):
        fitted(photos, few(), tmp_path / "mine.safetensors")
    assert (tmp_path / "mine.png").read_bytes() == b"mine"


def test_files_are_known_by_any_number_of_threads(photos: Path) -> None:
    found, settings = Photos(str(photos), None, colours()), few()
    own, *older = run._fingerprints(found, settings)
    content = [found.classifier.digest, [p.sha256 for p in found.photos], asdict(settings)]
    for threads in (1, 2, 64):
        torch.set_num_threads(threads)
        before = hashlib.sha256(json.dumps([*content, threads], sort_keys=True).encode()).hexdigest()
        assert before in older, "of earlier versions"
        assert run._fingerprints(found, settings)[0] == own
    torch.set_num_threads(1)


def test_the_card_says_all(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "rts.safetensors"
    done = fitted(photos, few(epochs=1, test=0.15), out)
    card = read_card(out)
    assert card == done.card or json.dumps(card.settings, default=list) == json.dumps(done.card.settings, default=list)
    assert {t.dtype for t in load_file(out).values()} == {torch.float16}
    assert {"saliency_metric", "saliency_metric_centre_blob", "drop_top", "drop_random", "drop_ratio"} <= set(
        card.figures
    )
    assert len(card.validation) == card.figures["validation_photos"] + card.figures["test_photos"]
    lead = card.figures["saliency_metric_centre_blob"] - card.figures["saliency_metric"]
    assert card.figures["lead"] == pytest.approx(lead, abs=1e-5), "photo by photo, the same mean"
    assert card.figures["lead_low"] <= lead <= card.figures["lead_high"]


def test_the_names_of_settings_are_data() -> None:
    common = {"epochs", "batch_size", "rate", "validation", "test", "average", "patience", "seed", "limit", "lam"}
    common |= {"precision"}
    assert set(vars(TrainSettings())) == common
    own = {"teacher", "share", "eps", "attack_steps", "learn_every", "forged", "benign"}
    assert set(vars(AdversarialSettings())) == common | own
    assert set(vars(TrainSettings().lam)) == {"tv", "area", "destroy", "power", "absent"}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("rate", (math.nan, -1.0, 0.0)),
        ("validation", (math.nan, -1.0, 0.0, 1.0)),
        ("test", (math.nan, -0.1)),
        ("average", (math.nan, 1.0, 2.0)),
    ],
)
def test_numbers_that_make_no_sense_are_told(name: str, values: tuple[float, ...]) -> None:
    for value in values:
        with pytest.raises(UnderfireError, match=f"{name} = {value}: training needs a number"):
            few(**{name: value})


# -- the public function ----------------------------------------------------------------------------------------------


def test_it_names_its_file_prints_nothing_and_tells_its_listener(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    listener = Noted()
    done = train_rts(colours(), str(photos), epochs=1, patience=5, limit=24, seed=3, listener=listener)
    assert done.path == Path("rts-colours.safetensors") and done.path.exists() and done.fresh
    assert {name: done.card.settings[name] for name in ("epochs", "patience", "limit", "seed", "batch_size")} == {
        "epochs": 1,
        "patience": 5,
        "limit": 24,
        "seed": 3,
        "batch_size": 16,
    }
    assert len(listener.seen) == 1 and set(listener.terms[0]) == {"smoothness", "area", "keep", "destroy", "absent"}
    assert capfd.readouterr() == ("", "")


def test_what_it_refuses(photos: Path, tmp_path: Path) -> None:
    classifier, source, out = colours(), str(photos), tmp_path / "a.safetensors"
    with pytest.raises(UnderfireError, match="its folder is missing or read-only"):
        train_rts(classifier, source, tmp_path / "no" / "a.safetensors")
    with pytest.raises(UnderfireError, match=r"--from p.safetensors: .* add --adversarial"):
        train_rts(classifier, source, out, plain="p.safetensors")
    with pytest.raises(UnderfireError, match="--precision bf16: --adversarial trains in float32 alone"):
        train_rts(classifier, source, out, adversarial="doubt", precision="bf16")
    with pytest.raises(NotFoundError, match="'colours'"):
        train_rts(classifier, source, out, adversarial="doubt")
    with pytest.raises(UnderfireError, match="epochs = 0: training needs 1 or more"):
        train_rts(classifier, source, out, epochs=0)
    with pytest.raises(UnderfireError, match="precision = 'fp16'"):
        train_rts(classifier, source, out, precision="fp16")


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    ran = underfire("train", "rts")
    assert ran.code == 2 and "Nothing to train on: give --images DIR" in ran.err
    ran = underfire("train", "rts", "--images", tmp_path / "none", "--out", tmp_path / "a.safetensors")
    assert ran.code == 2 and "There is no folder or file" in ran.err
    ran = underfire("train", "rts", "--images", "demo", "--out", tmp_path / "no" / "a.safetensors")
    assert ran.code == 2 and "its folder is missing or read-only" in ran.err
