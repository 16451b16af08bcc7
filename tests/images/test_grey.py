"""Inputs that are grey or not square: how photos become them, and how they are saved and drawn."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from support.e2e import photo
from underfire.core import Preprocess, UnderfireError
from underfire.images import pixels
from underfire.images.formats import decode_png
from underfire.images.given import as_file, as_shown
from underfire.images.overlay import difference, over, uri

GREY = Preprocess(32, 32, (0.5,), (0.2,))


def file(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_a_photo_is_read_as_grey() -> None:
    colours = photo(0, 32, 32)
    levels = pixels.load(file(colours), "p", GREY)
    assert levels.shape == (32, 32, 1)
    np.testing.assert_array_equal(levels[..., 0], np.asarray(colours.convert("L")))
    grey = colours.convert("L")
    np.testing.assert_array_equal(pixels.load(file(grey), "p", GREY)[..., 0], np.asarray(grey))  # grey stays as it is


def test_grey_is_saved_as_grey_and_read_back_to_the_last_bit() -> None:
    levels = pixels.load(file(photo(1)), "p", GREY)
    png = pixels.encode_png(levels)
    with Image.open(io.BytesIO(png)) as saved:
        assert saved.mode == "L"
    np.testing.assert_array_equal(decode_png(png, 1), levels)
    np.testing.assert_array_equal(decode_png(png), levels.repeat(3, -1))  # for people
    x = pixels.to_tensor([levels])
    assert x.shape == (1, 1, 32, 32)
    np.testing.assert_array_equal(pixels.to_levels(x)[0], levels)
    once = pixels.jpeg(levels)
    assert once.shape == levels.shape
    assert 0 < pixels.linf_levels(once, levels) < 64


def test_grey_pictures_are_drawn() -> None:
    levels = pixels.load(file(photo(1)), "p", GREY)
    m = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    np.testing.assert_array_equal(over(levels, m), over(levels.repeat(3, -1), m))
    assert str(uri(levels)).startswith("data:image/jpeg")
    assert difference(levels, levels // 2)[0] is not None


@pytest.mark.parametrize(("width", "height"), [(200, 150), (150, 200), (400, 60), (97, 64)])
@pytest.mark.parametrize("resize", [64, 80])
def test_an_input_that_is_not_square_shows_the_centre_as_large_as_it_can_be(
    width: int, height: int, resize: int
) -> None:
    shown, size = photo(3, width, height), (64, 96)
    got = pixels.load(file(shown), "p", Preprocess(64, resize, width=96))
    scale = resize / 64 * max(96 / width, 64 / height)
    large = shown.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    left, top = round((large.width - size[1]) / 2), round((large.height - size[0]) / 2)
    wanted = np.asarray(large.crop((left, top, left + 96, top + 64)), np.int16)
    assert got.shape == (64, 96, 3)
    assert np.abs(got - wanted).mean() < 2  # the crop is resampled alone, so its edges differ a little


def test_tensors_and_arrays_of_grey() -> None:
    x = torch.rand(2, 1, 32, 32)
    assert as_shown(x, GREY, "mine").shape == (2, 32, 32, 1)
    with pytest.raises(UnderfireError, match=r"'mine' takes \(N, 1, 32, 32\)"):
        as_shown(torch.rand(2, 3, 32, 32), GREY, "mine")
    with pytest.raises(UnderfireError, match=r"'mine' takes \(N, 3, 32, 48\)"):
        as_shown(torch.rand(2, 3, 48, 32), Preprocess(32, 32, width=48), "mine")
    levels = np.zeros((40, 40, 1), np.uint8)
    np.testing.assert_array_equal(decode_png(as_file(levels, "images[0]"), 1), levels)
