"""Charts: line plots fill their room."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from underfire.report.charts import overlap


def test_a_line_plot_fills_its_room() -> None:
    svg = str(overlap([[0.5] * 9], [i / 10 for i in range(1, 10)], "k", "said"))
    ET.fromstring(svg)
    grid = {tuple(map(float, ends)) for ends in re.findall(r'class="grid" d="M([\d.]+) [\d.]+H([\d.]+)', svg)}
    assert grid == {(52, 448)}
