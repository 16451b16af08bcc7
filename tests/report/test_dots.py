"""Dots stand on their axis where their numbers are, with the numbers beside them."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from underfire.metrics.estimate import NOTHING, Estimate
from underfire.report.dots import LEFT, LOG_L1, RIGHT, W, dots

ROOM = W - LEFT - RIGHT


def _at(svg: str) -> list[float]:
    return [float(x) for x in re.findall(r'<circle [^>]*cx="([\d.]+)"', svg)]


def test_dots_stand_at_their_numbers_and_what_is_missing_has_none() -> None:
    groups = [("a<b", [Estimate(0.5, 0.4, 0.6, 9), Estimate(0.25, None, None, 1)]), ("c", [NOTHING])]
    svg = str(dots(groups, "L1 & more", "k", "said"))
    ET.fromstring(svg)
    assert _at(svg) == pytest.approx([LEFT + 0.5 * ROOM, LEFT + 0.25 * ROOM], abs=0.1)
    assert svg.count("whisker") == 1
    assert "a&lt;b" in svg
    assert ">0.50 → 0.25<" in svg
    assert ">–<" in svg


def test_an_interval_that_leaves_the_axis_is_cut_and_marked() -> None:
    svg = str(dots([("a", [Estimate(0.1, -0.9, 1.1, 2)])], "t", "k", "said"))
    (ends,) = re.findall(r'class="whisker w0" d="M([\d.]+) [\d.]+H([\d.]+)', svg)
    assert list(map(float, ends)) == [LEFT, W - RIGHT]
    assert svg.count('<path class="d0"') == 2


def test_a_tiny_distance_can_be_seen_beside_a_large_one() -> None:
    svg = str(dots([("cam", [Estimate(0.1, None, None, 9), Estimate(0.001, None, None, 9)])], "t", "k", "", LOG_L1))
    assert _at(svg) == pytest.approx([LEFT + 0.75 * ROOM, LEFT + 0.25 * ROOM], abs=0.1)
