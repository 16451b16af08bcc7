"""Photos that a clean search never meets: without a map, from a door of floats, with tags that cannot be written."""

from __future__ import annotations

import io
import struct
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from underfire.attacks.search.file import FileWalk
from underfire.attacks.search.flow import Flow
from underfire.attacks.search.walks import Restarting
from underfire.attacks.stadv import adv2_stadv
from underfire.core import Limits, Photo, Preprocess
from underfire.doors.entrance import Entrance
from underfire.doors.pillow import pillow
from underfire.images.saving import FilePhoto, Saver, file_photo, saver_of
from underfire.trial.load import load
from underfire.trial.natural import _whole, distance, wrong_maps

ORIENTATION, X_RESOLUTION = 0x0112, 0x011A
NOISE = np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8)


def _saved(**more: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, "JPEG", **more)
    return buffer.getvalue()


def _tag(number: int) -> bytes:
    """An EXIF block with one tag, whose value is a text."""
    entry = struct.pack("<HHI4s", number, 2, 4, b"abc\0")
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)


def test_maps_of_no_points_are_no_maps() -> None:
    none, some = np.zeros((0, 0)), np.random.default_rng(0).random((7, 7))
    assert wrong_maps(np.zeros((2, 0, 0))) == [{}, {}]
    assert distance(none, none) is None
    assert distance(some, none) is None
    assert distance(some, some) is not None


def test_floats_of_a_door_are_rounded_before_they_are_copied() -> None:
    assert _whole(np.array([1.6, -3.0, 260.0], np.float32)).tolist() == [2, 0, 255]
    assert _whole(NOISE) is NOISE


def test_a_file_that_cannot_be_saved_again_is_an_error_of_its_own() -> None:
    files = {"good.jpg": _saved(), "odd.jpg": _saved(exif=_tag(ORIENTATION))}
    photos = [Photo(name, name) for name in files]
    policy = Preprocess(32, 32)
    found = load(photos, lambda photo: files[photo.path], pillow("", policy), policy, save_as="png")
    assert found.rows == (0,)
    assert list(found.errors) == [1]
    assert "'odd.jpg' cannot be forged as a file" in found.errors[1]


def test_tags_that_cannot_be_written_are_left_out_of_a_webp() -> None:
    photo = file_photo(_saved(exif=_tag(X_RESOLUTION)), "a.jpg", "webp")
    with Image.open(io.BytesIO(photo.saver.save(photo.pixels, "adv2-cam"))) as saved:
        assert "adv2-cam" in str(saved.getexif().get(0x0131))


def test_a_larger_limit_of_pixels_holds_for_the_saver_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert saver_of(_saved(), "same", Limits(pixels=10_000)).format == "JPEG"


def test_threads_leave_the_filters_of_warnings_as_they_were() -> None:
    saver, before = Saver("JPEG", {"quality": 90}, True, "jpeg 90"), list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: saver.through(NOISE), range(40)))
    assert list(warnings.filters) == before


def test_walks_in_files_begin_anew_with_the_map_as_walks_at_the_input_do() -> None:
    files = Entrance(pillow("", Preprocess(32, 32)), [FilePhoto(NOISE, Saver("PNG"))], torch.zeros(1))
    walk = FileWalk(Flow(2.0, restarts=True, amsgrad=True), files)
    assert isinstance(walk, Restarting)
    for _ in range(3):
        walk.step(walk.images().sum((1, 2, 3)), 0.0)
    assert walk.walks[0].steps == 3
    walk.begin_map()
    assert walk.walks[0].steps == 0


def test_a_rescue_starts_at_the_clean_image() -> None:
    rescue = adv2_stadv.make("paper", "cam", 8, rescue=True).rescue
    assert rescue is not None
    rescue.space.walk(torch.rand(2, 3, 16, 16))
