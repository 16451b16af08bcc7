"""Charts: bars are as long as their numbers, and line plots fill their room."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from underfire.metrics.estimate import NOTHING, Estimate
from underfire.report.bars import LEFT, RIGHT, W, bars
from underfire.report.charts import overlap


def test_bars_are_as_long_as_their_numbers_and_what_is_missing_has_none() -> None:
    groups = [("a<b", [Estimate(0.5, 0.4, 0.6, 9), Estimate(0.25, None, None, 1)]), ("c", [NOTHING])]
    svg = str(bars(groups, "L1 & more", "k", "said", top=1.0))
    ET.fromstring(svg)
    lengths = [float(w) for w in re.findall(r'<rect [^>]*width="([\d.]+)"', svg)]
    assert lengths == pytest.approx([0.5 * (W - LEFT - RIGHT), 0.25 * (W - LEFT - RIGHT)], abs=0.1)
    assert svg.count("whisker") == 1
    assert "a&lt;b" in svg
    assert ">–<" in svg


def test_a_wide_interval_does_not_shrink_the_bars() -> None:
    svg = str(bars([("a", [Estimate(0.1, -0.9, 1.1, 2)])], "t", "k", "said"))
    assert float(re.findall(r'<rect [^>]*width="([\d.]+)"', svg)[0]) == pytest.approx(
        (W - LEFT - RIGHT) / 1.25, abs=0.1
    )
    ends = [float(v) for v in re.findall(r'class="whisker" d="M([\d.]+) [\d.]+H([\d.]+)', svg)[0]]
    assert LEFT <= ends[0] < ends[1] <= W - RIGHT


def test_a_line_plot_fills_its_room() -> None:
    svg = str(overlap([[0.5] * 9], [i / 10 for i in range(1, 10)], "k", "said"))
    ET.fromstring(svg)
    grid = {tuple(map(float, ends)) for ends in re.findall(r'class="grid" d="M([\d.]+) [\d.]+H([\d.]+)', svg)}
    assert grid == {(52, 448)}
