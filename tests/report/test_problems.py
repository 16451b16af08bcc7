"""What failed stands in its own section, by the stage that it failed in, and nowhere else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from support.rows import row
from underfire.core import Scale
from underfire.report import findings
from underfire.report.page import render
from underfire.store import Store


@pytest.fixture
def out(tmp_path: Path) -> Path:
    rows = [row(i, attack, against, "cam") for i in range(2) for attack, against in (("adv2", "cam"), ("pgd", None))]
    with Store(tmp_path).open() as store:
        store.put("records", "000000-0123456789abcdef", rows, {}, {})
        store.put(
            "scale",
            "000000-cam-0123456789abcdef",
            [Scale("a/1&.png", "0" * 64, "cam", error="Its map is flat.")],
            {},
            {},
        )
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({"interpreter": ["cam"]}), encoding="utf-8")
    return tmp_path


def _section(page: str, name: str) -> str:
    """A section without its tags."""
    section = page.partition(f'<section id="{name}"')[2].partition("</section>")[0]
    return " ".join(re.sub(r"<[^>]*>", " ", section).split())


def test_what_could_not_be_judged_again_makes_no_panel_and_counts_nowhere(out: Path) -> None:
    before = findings.load(out)
    page = render(before, 0)
    with Store(out).open() as store:
        again = [row(0, "adv2", "cam", "grad", error="'a/0&.png': no memory.")]
        again += [row(1, "pgd", None, "cam", judge_classifier="toy2", error="'a/1&.png': no memory.")]
        store.put_failed("transfer", "000000-grad-0123456789abcdef", again, {})
    after = findings.load(out)
    assert [panel.title for panel in after.panels] == ["CAM"]
    assert [line.summary for line in after.panels[0].lines] == [line.summary for line in before.panels[0].lines]
    for name in ("headline", "method", "results", "distances", "cost"):
        assert _section(render(after, 0), name) == _section(page, name)


def test_a_failure_names_the_stage_that_it_happened_in(out: Path) -> None:
    with Store(out).open() as store:
        store.put_failed("records", "000001-0123456789abcdef", [row(2, "adv2", "cam", "cam", error="No memory.")], {})
        store.put_failed(
            "transfer", "000000-grad-0123456789abcdef", [row(0, "adv2", "cam", "grad", error="No time.")], {}
        )
        rejudged = [row(0, "pgd", None, "cam", judge_classifier="toy2", error="No net.")]
        store.put("transfer", "000000-cam-0123456789abcdef", rejudged, {}, {})
    errors = _section(render(findings.load(out), 0), "errors")
    assert "No memory. ADV² under CAM a/2" in errors
    assert "Its map is flat. untouched scale, CAM a/1" in errors
    assert "No time. judged again: ADV² against CAM under GRAD" in errors
    assert "No net. judged again: PGD under CAM on toy2" in errors
    assert "3 of 3 photos" in errors


def test_without_failures_there_is_no_section_of_them(tmp_path: Path) -> None:
    with Store(tmp_path).open() as store:
        store.put("records", "000000-0123456789abcdef", [row(0, "pgd", None, "cam")], {}, {})
    (tmp_path / "plan.yaml").write_text("{}\n", encoding="utf-8")
    page = render(findings.load(tmp_path), 0)
    assert 'id="results"' in page
    assert "Photos without a result" not in page
