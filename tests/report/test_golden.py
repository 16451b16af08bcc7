"""The whole page, byte for byte: what changes in it is seen in the diff of the pages in golden/.

UNDERFIRE_RENEW=1 python -m pytest tests/report/test_golden.py renews them.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.rows import row
from underfire.core import Record, Scale
from underfire.report import findings
from underfire.report.page import render
from underfire.store import Store

GOLDEN = Path(__file__).parent / "golden"
RENEW = "UNDERFIRE_RENEW"
PHOTOS = 8
BENT: dict[str, Any] = {"eps": None, "linf_levels": 40, "flow_mean_px": 0.4, "flow_max_px": 1.7}
LINES_SHOWN, WIDTH = 12, 160


def _plain() -> tuple[dict[str, Any], list[Record], list[Scale]]:
    """Four attacks under two interpreters: misses, errors, and a photo of which nothing came."""
    rows = [
        row(i, attack, judge if joint else None, judge, map_l1=l1 * (i + 1), success=i % 4 != misses, **more)
        for judge, far in (("cam", 0.02), ("grad", 0.008))
        for attack, joint, l1, misses, more in (
            ("pgd", False, far, 4, {}),
            ("stadv", False, far / 2, 1, BENT),
            ("adv2", True, far / 10, 4, {}),
            ("adv2-stadv", True, far / 8, 3, BENT),
        )
        for i in range(PHOTOS)
    ]
    for attack, joint in (("pgd", False), ("adv2", True)):
        for judge in ("cam", "grad"):
            against = judge if joint else None
            rows.append(row(8, attack, against, judge, error="'a/8&.png' is no image: replace it."))
    rows.append(row(9, "adv2", "grad", "grad", error="'a/9&.png': its map is not finite."))
    scales = [Scale(f"a/{i}&.png", f"{i:064d}", judge, 0.001 * i) for judge in ("cam", "grad") for i in range(PHOTOS)]
    plan = {
        "images": "photos",
        "classifier": "toynet",
        "interpreter": ["cam", "grad"],
        "attack": ["pgd", "adv2", "stadv", "adv2-stadv"],
        "eps": 8,
        "target": "random",
        "options": {"adv2": {"steps": 120}},
        "resolved": {"photos": 10, "units": 4},
    }
    return plan, rows, scales


def _defended() -> tuple[dict[str, Any], list[Record], list[Scale]]:
    """An alarm on two networks, a wanted map, an attack that knows the alarm; two photos of nine are still to come."""
    rows = []
    for i in range(7):
        seen = {"clean_alarm_score": 0.1 * i, "clean_alarm": i == 6, "alarm_threshold": 0.55, "alarm_passes": 12.3}
        mapped = {"target_map": "class:random", "target_map_of": "sea & lion", "linf_levels": 8}
        same: dict[str, Any] = {
            "defense": "ensemble",
            "wanted_map": "images/000000-0123456789abcdef/w.npy",
            **seen,
            **mapped,
        }
        for attack, against, score in (("pgd", None, 0.9), ("adv2", "cam", 0.6), ("adv2", "ensemble", 0.3)):
            judge = against or "cam"
            alarm = {"alarm_score": score + 0.02 * i, "alarm": score + 0.02 * i > 0.55}
            rows.append(row(i, attack, against, judge, map_l1=0.004 * (i + 1), success=i > 0, **alarm, **same))
    rows += [replace(one, classifier="timm:resnet50.a1", judge_classifier="timm:resnet50.a1") for one in rows[:9]]
    scales = [Scale(f"a/{i}&.png", f"{i:064d}", j, 0.002 * i) for j in ("cam", "ensemble") for i in range(7)]
    plan = {
        "images": "photos",
        "classifier": "toynet",
        "interpreter": ["cam", "ensemble"],
        "attack": ["pgd", "adv2"],
        "target": "least-likely",
        "target_map": "class:random",
        "resolved": {"photos": 9},
    }
    return plan, rows, scales


@pytest.fixture(params=[_plain, _defended], ids=["plain", "defended"])
def page(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """A page's name, and the page as it is made now; its pictures are gone."""
    plan, rows, scales = request.param()
    with Store(tmp_path).open() as store:
        store.put("records", "000000-0123456789abcdef", rows, {}, {})
        store.put("scale", "000000-cam-0123456789abcdef", scales, {}, {})
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False), encoding="utf-8")
    return f"{request.param.__name__.strip('_')}.html", render(findings.load(tmp_path), samples=4)


def test_page_is_the_golden_one(page: tuple[str, str]) -> None:
    name, made = page
    if os.environ.get(RENEW):
        (GOLDEN / name).write_bytes(made.encode())
    golden = (GOLDEN / name).read_bytes().decode()
    if made != golden:  # pytest's own comparison of two pages of one line each helps nobody
        pytest.fail(
            f"{name} has changed; where that is meant, renew it with {RENEW}=1.\n" + _difference(golden, made),
            pytrace=False,
        )


def _difference(golden: str, made: str) -> str:
    """The first lines that differ, a tag on each and cut to the width of a screen."""
    before, after = (re.sub(r">\s*<", ">\n<", text).splitlines() for text in (golden, made))
    lines = list(difflib.unified_diff(before, after, "golden", "made now", n=0, lineterm=""))
    cut = [line if len(line) <= WIDTH else line[: WIDTH - 1] + "…" for line in lines[:LINES_SHOWN]]
    return "\n".join([*cut, *([f"… and {len(lines) - LINES_SHOWN} lines more"] if len(lines) > LINES_SHOWN else [])])


def test_golden_pages_are_small_and_tell_nothing_of_a_machine(page: tuple[str, str], tmp_path: Path) -> None:
    text = page[1]
    assert len(text.encode()) < 100_000
    assert "data:image" not in text
    assert str(tmp_path) not in text
    assert not re.search(r"20\d\d-\d\d-\d\d|\d+\.\d+\.\d+|/(?:home|root|tmp|work)/", text)


def test_a_difference_is_told_in_a_few_short_lines() -> None:
    golden = "<p>one</p><p>" + "two " * 100 + "</p>" + "<b>x</b>" * 50
    told = _difference(golden, golden.replace("one", "1").replace("x", "y")).splitlines()
    assert told[3:5] == ["-<p>one</p>", "+<p>1</p>"]
    assert len(told) <= LINES_SHOWN + 1
    assert max(map(len, told)) <= WIDTH
