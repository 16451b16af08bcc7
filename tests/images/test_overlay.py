"""Colours over a photo: the table is inferno's, and the pictures are what they always were."""

from __future__ import annotations

import hashlib

import numpy as np

from underfire.images import overlay
from underfire.images.inferno import TABLE, inferno


def test_the_table_is_the_published_one() -> None:
    assert TABLE.shape == (256, 3)
    digest = hashlib.sha256(TABLE.astype("<f8").tobytes()).hexdigest()
    assert digest == "0af14089c97cbdae1b72a91fe65db9275469bd03b6ce0c6ddb6fda0a76e62577"  # of matplotlib 3.11.2's


def test_values_pick_the_colour_of_their_256th_and_nan_is_black() -> None:
    below = np.nextafter(np.float32(0.5), np.float32(0))
    picked = inferno(np.array([-1, 0, below, 0.5, 1, 7, np.nan], np.float32))
    np.testing.assert_array_equal(picked, [*(255 * TABLE[[0, 0, 127, 128, 255, 255]]), [0, 0, 0]])


def test_a_map_over_a_photo_has_the_pixels_that_matplotlib_gave_it() -> None:
    photo = np.arange(16 * 16 * 3).reshape(16, 16, 3).astype(np.uint8)
    m = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)  # of the photo's size: nothing is resized
    digest = hashlib.sha256(overlay.over(photo, m).tobytes()).hexdigest()
    assert digest == "f0fec34658da45f7cb4bacab64e2f7cfedbadc6bfc1b736f40a676d4a7e10645"
    assert overlay.legend() == ["#2d2d2f", "#4e336a", "#7b3f74", "#a75164", "#c77145", "#d0a33e", "#d1d298"]
