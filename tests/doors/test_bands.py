"""Gradients come back in bands as they do at once, and what is shown of a file is what the door makes of all of it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from underfire.core import Preprocess
from underfire.doors import bands
from underfire.doors.bands import AtOnce, InBands
from underfire.doors.entrance import Entrance
from underfire.doors.geometry import Geometry
from underfire.images.saving import FilePhoto, Saver
from underfire.registry import maker

SIZE, RESIZE = 24, 28
SHAPES = {
    "square": lambda how: Preprocess(SIZE, RESIZE, interpolation=how),
    "odd": lambda how: Preprocess(23, 29, interpolation=how),
    "wide": lambda how: Preprocess(SIZE, RESIZE, interpolation=how, width=41),
    "grey": lambda how: Preprocess(SIZE, RESIZE, (0.5,), (0.25,), how),
}


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def door_named(word: str, policy: Preprocess) -> Any:
    kind, _, variant = word.partition(":")
    return maker("doors", kind)(variant, policy)


@pytest.mark.parametrize("word", ["pillow", "pillow:pad", "timm:squash", "torch", "opencv"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [(50, 90), (301, 40), (19, 21)])
@pytest.mark.parametrize("most", [200, bands.BAND])
def test_bands_are_the_way_back(
    word: str, shape: str, size: tuple[int, int], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bands, "BAND", most)
    monkeypatch.setattr(bands, "COLUMNS", 7 if most == 200 else 64)
    door = door_named(word, SHAPES[shape]("bicubic"))
    way: Geometry = door.way(*size)
    g = np.random.default_rng(1).standard_normal((door.policy.channels, *door.policy.size)).astype(np.float32)
    told = way.back(g.transpose(1, 2, 0)).transpose(2, 0, 1)  # by scipy
    back = InBands(way.bands, g, torch.zeros(1))
    assert np.allclose(back.whole()[0], told, atol=1e-5)
    seen = np.full(told.shape, math.nan, np.float32)
    for rows, some in back.bands():
        assert some.numel() <= max(most, 3 * told.shape[2])
        seen[:, rows] = some
    assert np.allclose(seen, told, atol=1e-5)


def test_the_entrance_shows_what_the_door_makes_of_the_whole_file() -> None:
    door = door_named("pillow", SHAPES["square"]("bicubic"))
    for saver in (Saver("PNG"), Saver("JPEG", {"quality": 90}, True, "jpeg 90")):
        photos = [FilePhoto(noise(50, 90), saver), FilePhoto(noise(61, 33, 1), saver)]
        entrance = Entrance(door, photos, torch.zeros(1))
        for seed in (2, 3):  # the memory of a photo is used again
            parts = [torch.randint(0, 256, part.shape, dtype=torch.uint8) for part in entrance.clean]
            shown = entrance.shown(parts)
            for lane, photo, part, x in zip(entrance.lanes, photos, parts, shown, strict=True):
                box, file = lane.box, photo.pixels.copy()
                file[box.top : box.bottom, box.left : box.right] = part[0].permute(1, 2, 0)
                assert np.array_equal(lane.whole(part), file)
                wanted = door.enter(saver.through(file)).transpose(2, 0, 1)
                assert np.array_equal((x * 255).round().numpy(), wanted), seed


def test_a_gradient_that_is_there_comes_at_once() -> None:
    g = torch.randn(1, 3, 5, 4)
    ((rows, some),) = AtOnce(g).bands()
    assert (rows, some.shape) == (slice(0, 5), (3, 5, 4))
    assert torch.equal(some, g[0])
