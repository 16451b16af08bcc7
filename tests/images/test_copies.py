"""Natural copies: small, of the same size, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from underfire.images.copies import COPIES, FEW, natural_copies
from underfire.images.pixels import jpeg

PHOTO = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


def test_copies_are_pictures_of_the_same_size_and_depend_on_the_seed_alone() -> None:
    one, again, other = (natural_copies(PHOTO, seed) for seed in (1, 1, 2))
    for name, copy in one.items():
        assert copy.shape == PHOTO.shape
        assert copy.dtype == np.uint8
        np.testing.assert_array_equal(copy, again[name])
    assert not np.array_equal(one["noise"], other["noise"])
    assert list(natural_copies(PHOTO, 1, few=True)) == list(COPIES)[:FEW]


def test_noise_is_a_level_at_most() -> None:
    moved = natural_copies(PHOTO, 3)["noise"].astype(int) - PHOTO
    assert set(np.unique(moved)) == {-1, 0, 1}


def test_shifts_repeat_the_edge() -> None:
    one = natural_copies(PHOTO, 0)
    np.testing.assert_array_equal(one["shift-right"][:, 1:], PHOTO[:, :-1])
    np.testing.assert_array_equal(one["shift-right"][:, 0], PHOTO[:, 0])
    np.testing.assert_array_equal(one["shift-down"][1:], PHOTO[:-1])


@pytest.mark.parametrize(("name", "power"), [("brighter", 0.98), ("darker", 1.02)])
def test_gamma(name: str, power: float) -> None:
    np.testing.assert_array_equal(natural_copies(PHOTO, 0)[name], np.rint(255 * (PHOTO / 255.0) ** power))


def test_jpeg_is_that_of_the_pixels() -> None:
    np.testing.assert_array_equal(natural_copies(PHOTO, 0)["jpeg-85"], jpeg(PHOTO, 85))
