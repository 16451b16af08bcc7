"""Doors with a border that is not black, and a library that changes its method with the photo's shape."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from underfire.core import Preprocess
from underfire.doors.function import FunctionDoor

POLICY = Preprocess(96, 96)


def _letterbox(image: Image.Image) -> Image.Image:
    image = image.convert("RGB")
    scale = 96 / max(image.size)
    small = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BILINEAR)
    out = Image.new("RGB", (96, 96), (114, 114, 114))
    out.paste(small, ((96 - small.width) // 2, (96 - small.height) // 2))
    return out


def test_a_border_of_another_colour_than_black_is_no_second_look_at_the_photo() -> None:
    way = FunctionDoor("letterbox", POLICY, _letterbox).way(100, 150)
    picture = np.random.default_rng(1).integers(0, 256, (100, 150, 3)).astype(np.uint8)
    shown = np.asarray(_letterbox(Image.fromarray(picture)), np.float64)
    inside = slice(16, 80)
    assert np.abs(way.forward(picture) - shown)[inside].mean() < 1


@pytest.mark.parametrize("size", [(40, 400), (400, 40), (200, 300), (16, 200)])
def test_opencvs_areas_are_averaged_only_where_no_axis_grows(size: tuple[int, int]) -> None:
    pytest.importorskip("cv2")
    from underfire.doors.opencv import OpenCvDoor

    door = OpenCvDoor("area,squash", POLICY)
    picture = np.random.default_rng(0).integers(60, 200, (*size, 3)).astype(np.uint8)
    told = np.clip(door.way(*size).forward(picture), 0, 255)
    assert np.abs(door.enter(picture).astype(np.float64) - told).max() < 1.5
