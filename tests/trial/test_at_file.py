"""Files are forged: in their own pixels, within the budget, saved to take the photo's place, and judged as files."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

import underfire
from support import e2e, toys
from underfire.audit.again import Again
from underfire.core import UnderfireError
from underfire.images.pixels import forged_note
from underfire.registry import door_of
from underfire.store import open_results

QUICK: dict[str, Any] = {"steps": 4}


def photo(seed: int, width: int = 40, height: int = 30) -> Image.Image:
    return e2e.photo(seed, width, height)


def as_bytes(image: Image.Image, **how: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, how.pop("format", "PNG"), **how)
    return buffer.getvalue()


def decoded(content: bytes) -> np.ndarray[Any, Any]:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"), np.int16)


@pytest.mark.parametrize("attack", ["pgd", "adv2", "stadv", "adv2-stadv"])
def test_files_of_several_sizes_are_forged_within_the_box(attack: str) -> None:
    classifier = toys.toy()
    given = [photo(0), photo(1, 25, 61), photo(2, 14, 17) if attack == "none" else photo(2, 16, 17)]
    result = underfire.attack(classifier, "cam", given, attack=attack, eps=3, **QUICK)
    assert len(result.files) == 3
    for image, content, record in zip(given, result.files, result.records, strict=True):
        assert (record.at, record.door, record.saved_as, record.error) == ("file", "pillow", "png", None)
        before, after = np.asarray(image, np.int16), decoded(content)
        change = np.abs(after - before)
        assert after.shape == before.shape == (record.file_height, record.file_width, 3)
        assert change.max() == record.linf_levels == record.decoded_linf
        assert float(change.mean()) == pytest.approx(record.decoded_mean)
        left, top, right, bottom = (int(side or 0) for side in record.seen or [])
        change[top:bottom, left:right] = 0
        assert change.max() == 0
        if attack in ("pgd", "adv2"):
            assert 0 < (record.linf_levels or 0) <= 3
        else:
            assert (record.flow_max_px or 9) <= 2.0 + 1e-5
        assert record.file_sha256 == hashlib.sha256(content).hexdigest()
        assert forged_note(content)


@pytest.mark.parametrize("attack", ["stadv", "adv2-stadv"])
def test_a_bend_that_starts_at_random_starts_in_any_file(attack: str) -> None:
    given = [photo(1, 39, 31), photo(0, 40, 40)]  # only the second is made smaller alike across and down
    result = underfire.attack(toys.toy(), "cam", given, attack=attack, preset="paper", steps=2)
    assert [record.error for record in result.records] == [None, None]
    assert all((record.flow_max_px or 0) > 0 for record in result.records)


def test_what_is_judged_is_the_file() -> None:
    classifier = toys.toy()
    result = underfire.attack(classifier, "cam", [photo(3), photo(4, 33, 50)], **QUICK)
    for content, x, record in zip(result.files, result.images, result.records, strict=True):
        levels = door_of(classifier).open(content, "file")
        assert np.array_equal(levels.transpose(2, 0, 1), (x * 255).round().numpy())
        p = classifier.logits(x[None]).double().softmax(1)[0]
        assert float(p[int(record.target_class or 0)]) == pytest.approx(record.confidence, abs=1e-6)


@pytest.mark.parametrize("save_as", ["jpeg", "jpeg:75", "webp:80"])
def test_a_lossy_encoder_is_searched_through(save_as: str) -> None:
    classifier = toys.toy()
    result = underfire.attack(classifier, "cam", [photo(5), photo(6)], eps=8, save_as=save_as, **QUICK)
    for record, content in zip(result.records, result.files, strict=True):
        assert record.saved_as == save_as.replace(":", " ").replace("jpeg", "jpeg", 1) or save_as == "jpeg"
        assert (record.linf_levels or 99) <= 8
        assert record.decoded_linf is not None
        assert content[:4] in (b"\xff\xd8\xff\xe0", b"RIFF")
        assert forged_note(content) == "adv2 against cam"


def test_a_tensor_stays_an_input() -> None:
    x = toys.pictures(2).float()
    (one, _) = underfire.attack(toys.toy(), "cam", x, **QUICK).records
    assert (one.at, one.seen, one.file_sha256) == ("input", None, None)
    with pytest.raises(UnderfireError, match="a tensor is no file"):
        underfire.attack(toys.toy(), "cam", x, at="file", **QUICK)
    (one,) = underfire.attack(toys.toy(), "cam", photo(0), at="input", **QUICK).records
    assert one.at == "input"


def test_a_forgery_takes_its_photo_s_place(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "my holiday"
    profile = b"a colour profile"
    path = tmp_path / "photo.jpg"
    photo(7).save(path, exif=exif, icc_profile=profile, quality=95)
    for save_as, ending in (("png", "PNG"), ("jpeg:90", "JPEG"), ("same", "JPEG"), ("webp", "WEBP")):
        result = underfire.attack(toys.toy(), "cam", path, save_as=save_as, **QUICK)
        with Image.open(io.BytesIO(result.files[0])) as image:
            assert (image.format, image.size) == (ending, (40, 30))
            assert image.getexif()[0x0112] == 6
            assert image.getexif()[0x010E] == "my holiday"
            assert image.info["icc_profile"] == profile
        assert (result.records[0].file_width, result.records[0].file_height) == (30, 40)  # upright
        assert forged_note(result.files[0])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda im: as_bytes(im.convert("L")), "grey is saved as RGB"),
        (lambda im: as_bytes(im.quantize(16)), "a palette is saved as RGB"),
        (lambda im: as_bytes(im.convert("RGBA")), "transparency is saved as white"),
        (lambda im: as_bytes(im.convert("CMYK"), format="JPEG"), "CMYK is saved as RGB"),
        (lambda im: as_bytes(Image.fromarray(np.asarray(im.convert("L"), np.uint16) * 257)), "more than 8 bits"),
        (lambda im: as_bytes(im, format="GIF", save_all=True, append_images=[im.rotate(90)]), "several frames"),
        (lambda im: as_bytes(im, format="TIFF"), "TIFF is saved as PNG"),
    ],
)
def test_what_cannot_be_kept_is_said(make: Any, said: str, tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(make(photo(8)))
    result = underfire.attack(toys.toy(), "cam", tmp_path / "photo", save_as="same", **QUICK)
    (record,) = result.records
    assert record.error is None
    assert said in str(record.saved_instead)
    assert decoded(result.files[0]).shape == (30, 40, 3)


def test_a_small_photo_is_enlarged_and_its_budget_is_the_file_s() -> None:
    (record,) = underfire.attack(toys.whole(), "cam", photo(9, 20, 18), eps=2, steps=2).records
    assert (record.file_width, record.linf_levels) == (20, 2)


def test_a_door_that_looks_at_metadata_is_told(tmp_path: Path) -> None:
    from underfire.doors.function import FunctionDoor

    classifier = toys.toy()
    size = classifier.preprocess.input_size

    def careless(image: Image.Image) -> Image.Image:
        return image.convert("RGB").resize((size, size), 3)  # never turned upright

    classifier.door = FunctionDoor("careless", classifier.preprocess, careless)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(7).save(tmp_path / "turned.jpg", exif=exif)
    photo(7).save(tmp_path / "upright.jpg")
    result = underfire.attack(classifier, "cam", [tmp_path / "turned.jpg", tmp_path / "upright.jpg"], **QUICK)
    assert "does not turn it upright" in str(result.records[0].error)
    assert (result.records[1].error, result.records[1].door) == (None, "careless")


def test_searches_expect_platforms() -> None:
    classifier = toys.toy()
    given = [photo(0), photo(1, 25, 61)]
    words = "jpeg:75-95,resize:0.5-1,crop:0.9-1,blur:0.3-0.6,gamma:0.9-1.1,shift:1-2,webp:80,long:30"
    first, second = (underfire.attack(classifier, "cam", given, through=words, steps=12).records for _ in range(2))
    assert [r.confidence for r in first] == [r.confidence for r in second]
    assert {r.through for r in first} == {words}
    for word, said in (("jpg:75", "Did you mean 'jpeg'"), ("jpeg:0-5", "from 1 to 100"), ("resize:x", "resize:0.9")):
        with pytest.raises(UnderfireError, match=said):
            underfire.attack(classifier, "cam", given, through=word)


@pytest.mark.parametrize(
    ("word", "said"), [("gif", "There is no format 'gif'"), ("png:9", "a quality"), ("jpeg:0", "a quality")]
)
def test_formats_that_do_not_exist_are_told(word: str, said: str) -> None:
    with pytest.raises(UnderfireError, match=said):
        underfire.attack(toys.toy(), "cam", photo(0), save_as=word)


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_forges_files_and_check_finds_them(tmp_path: Path) -> None:
    folder, out = e2e.photos(tmp_path / "in", 5), tmp_path / "out"
    toy = ("--classifier", "toy", "--threads", "1")
    calibrated = e2e.underfire(
        "defend",
        "calibrate",
        "--images",
        folder,
        *toy,
        "--interpreter",
        "cam",
        "--interpreter",
        "grad",
        "--out",
        tmp_path / "alarm.json",
        "--false-alarms",
        "0.3",
    )
    assert calibrated.code == 0, calibrated.err
    steps = ("--set", "adv2.steps=3", "--set", "pgd.steps=3")
    more = ("--save-as", "jpeg:90", "--defense", tmp_path / "alarm.json", "--interpreter", "cam", "--batch-size", "1")
    ran = e2e.underfire("run", "--images", folder, *toy, *steps, *more, "--out", out)
    assert ran.code == 0, ran.err
    rows = open_results(out).rows()
    assert {row["at"] for row in rows} == {"file"}
    assert "at: file" in (out / "plan.yaml").read_text()
    files = {row["adversarial"]: row for row in rows}
    for name, row in files.items():
        content = (out / name).read_bytes()
        assert row["file_sha256"] == hashlib.sha256(content).hexdigest()
        said = e2e.underfire("check", out / name, *toy, "--defense", tmp_path / "alarm.json", "--json")
        seen = json.loads(said.out)
        assert seen["prediction"] == row["predicted_class_name"]
        assert seen["confidence"] == row["predicted_confidence"]
        assert seen["score"] == row["alarm_score"]
        assert seen["alarm"] == row["alarm"]


def test_a_plan_that_does_not_say_is_of_the_input(tmp_path: Path) -> None:
    folder = e2e.photos(tmp_path / "in", 1)
    steps = "options: {pgd: {steps: 2}}"
    (tmp_path / "plan.yaml").write_text(f"images: {folder}\nclassifier: toy\nattack: pgd\nthreads: 1\n{steps}\n")
    assert e2e.underfire("run", tmp_path / "plan.yaml", "--out", tmp_path / "out").code == 0
    assert {row["at"] for row in open_results(tmp_path / "out").rows()} == {"input"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--at", "input", "--save-as", "jpeg"), "is about files"),
        (("--at", "input", "--through", "jpeg:75"), "is about files"),
        (("--at", "photo"), "--at photo"),
        (("--attack", "fgsm"), "knows inputs only"),
        (("--door", "pilow"), "Did you mean 'pillow'"),
    ],
)
def test_what_does_not_fit_together_is_told(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    ran = e2e.underfire("run", "--images", e2e.photos(tmp_path / "in", 1), "--classifier", "toy", *words)
    assert ran.code == 2
    assert said in ran.err


def test_a_budget_that_the_encoder_undoes_is_said(tmp_path: Path) -> None:
    said = e2e.underfire(
        "plan", "--images", e2e.photos(tmp_path / "in", 1), "--classifier", "toy", "--eps", "1", "--save-as", "jpeg"
    )
    assert "the encoder will undo most of it" in " ".join(said.out.split())


# --- doors and inputs of one's own -----------------------------------------------------------------------------------


def squashed(image: Image.Image) -> Image.Image:
    return image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR)


@pytest.mark.parametrize("door", ["timm:squash", squashed])
def test_a_wrapped_network_has_a_door_of_its_own(door: Any) -> None:
    module = toys.toy().module
    built = underfire.wrap(module, input_size=32, door=door)
    result = underfire.attack(built, "cam", [photo(0), photo(1, 25, 61)], **QUICK)
    named = door if isinstance(door, str) else f"{__name__}:squashed"
    assert [(r.door, r.error) for r in result.records] == [(named, None)] * 2
    if callable(door):
        shown = [np.asarray(squashed(Image.open(io.BytesIO(content)))) for content in result.files]
        assert np.array_equal((result.images * 255).round().numpy().transpose(0, 2, 3, 1), np.stack(shown))
    with pytest.raises(UnderfireError, match="give the name of a door"):
        underfire.wrap(module, input_size=32, door=3)  # type: ignore[arg-type]


def small(channels: int) -> nn.Module:
    """A network of any input, with outputs that differ."""
    head = nn.Linear(6, 4)
    layers = (nn.Conv2d(channels, 6, 3, 2, 1), nn.Softplus(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)
    module: nn.Module = toys.seeded(nn.Sequential(*layers))
    head.weight.data *= 3
    return module


@pytest.mark.parametrize("attack", ["adv2", "stadv"])
@pytest.mark.parametrize(("channels", "size"), [(1, (32, 32)), (3, (24, 40)), (1, (40, 24))])
def test_files_for_grey_and_oblong_inputs(attack: str, channels: int, size: tuple[int, int]) -> None:
    built = underfire.wrap(small(channels), input_size=size, mean=0.5, std=0.25, channels=channels)
    given = [photo(0), photo(1, 25, 61)]
    result = underfire.attack(built, "cam", given, attack=attack, eps=3, **QUICK)
    for image, content, x, record in zip(given, result.files, result.images, result.records, strict=True):
        assert (record.at, record.error) == ("file", None)
        levels = door_of(built).open(content, "file")
        assert np.array_equal(levels.transpose(2, 0, 1), (x * 255).round().numpy())
        change = np.abs(decoded(content) - np.asarray(image, np.int16))
        assert change.max() == record.linf_levels
        assert 0 < change.max() <= (3 if attack == "adv2" else 255)
        left, top, right, bottom = (int(side or 0) for side in record.seen or [])
        change[top:bottom, left:right] = 0
        assert change.max() == 0


def test_check_holds_a_forged_file_against_its_record(tmp_path: Path) -> None:
    folder, out = e2e.photos(tmp_path / "in", 2), tmp_path / "out"
    steps = ("--set", "pgd.steps=3", "--attack", "pgd", "--save-as", "jpeg:90")
    assert (
        e2e.underfire("run", "--images", folder, "--classifier", "toy", "--threads", "1", *steps, "--out", out).code
        == 0
    )
    (row, other) = open_results(out).rows()
    said = e2e.underfire("check", out / row["adversarial"], "--json")
    seen = json.loads(said.out)
    assert (said.code, seen["same"]) == (0, True)
    assert seen["confidence"] == pytest.approx(row["confidence"], abs=1e-6)
    assert seen["map_l1"] == pytest.approx(row["map_l1"], abs=1e-3)
    assert seen["prediction"] == row["predicted_class_name"]
    clean = e2e.underfire("check", out / row["clean"])
    assert (clean.code, "none of the forged files" in clean.err) == (2, True)
    (tmp_path / "copy.jpg").write_bytes((out / row["adversarial"]).read_bytes())
    apart = e2e.underfire("check", tmp_path / "copy.jpg", out / other["adversarial"])
    assert (apart.code, "lies in no audit's folder" in apart.err) == (2, True)
    assert "same" in apart.out  # the other image is still checked
    (out / row["wanted_map"]).unlink()
    gone = e2e.underfire("check", out / row["adversarial"], out / other["adversarial"])
    assert (gone.code, "run the audit again" in gone.err, "Traceback" in gone.err) == (2, True, False)
    assert "same" in gone.out
    flags = e2e.underfire("check", out / row["adversarial"], "--save", tmp_path / "maps", "--classifier", "toy")
    assert (flags.code, "--save, --classifier" in flags.err) == (2, True)


def test_a_record_that_the_file_does_not_give_is_told() -> None:
    told = {"image": "a", "attack": "pgd", "interpreter": "cam", "prediction": "b"}
    one = Again(**told, confidence=0.99, recorded_confidence=0.99, map_l1=None, recorded_map_l1=0.1)
    assert one.same
    assert not replace(one, confidence=0.9).same
    assert not replace(one, map_l1=0.2).same
