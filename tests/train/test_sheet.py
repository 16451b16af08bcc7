"""The picture of photos and their maps."""

from __future__ import annotations

import numpy as np

from underfire.train import sheet


def test_what_the_sheet_keeps_of_a_photo() -> None:
    photo = np.full((4, 4, 3), 200, np.uint8)
    m = np.zeros((4, 4), np.float32)
    m[:2] = 0.5
    assert sheet.kept(photo, m)[0, 0, 0] == 100 and sheet.kept(photo, m)[3].max() == 0
    sheets = [sheet.sheet([sheet.Explained(photo, m, name)]) for name in ("ox", "ox" * 60, "ox" * 70)]
    assert sheets[0] != sheets[1] == sheets[2], "a long name is cut to the column"
