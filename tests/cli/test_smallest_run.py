"""`--eps smallest` from the command to the table, the page, the gate and the comparison."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.e2e import TOY, photos, underfire
from underfire.metrics.smallest import budgets
from underfire.store import open_results


def test_the_smallest_budget_is_in_the_table_the_records_and_the_page(tmp_path: Path) -> None:
    photos(tmp_path / "in", 3)
    shared = ("run", "--images", tmp_path / "in", *TOY, "--attack", "pgd", "--attack", "adv2", "--target", "nearest")
    ran = underfire(*shared, "--eps", "smallest:16", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert "min." in ran.out
    assert "* by success alone" in " ".join(ran.out.split())
    rows = open_results(tmp_path / "out").rows()
    assert {(row["eps"], row["smallest_by"]) for row in rows} == {(16, "success")}
    assert any(row["smallest_eps"] for row in rows)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "How little it takes" in page
    assert "the smallest that forges each photo, up to" in page
    assert "eps: smallest:16" in (tmp_path / "out" / "plan.yaml").read_text()
    again = underfire("run", tmp_path / "out" / "plan.yaml", "--out", tmp_path / "out")
    assert again.code == 0, again.err
    assert open_results(tmp_path / "out").rows() == rows
    fixed = underfire(*shared, "--eps", "16", "--out", tmp_path / "fixed")
    assert fixed.code == 0
    assert "How little it takes" not in (tmp_path / "fixed" / "report.html").read_text()
    assert underfire("compare", tmp_path / "fixed", tmp_path / "out", "-o", tmp_path / "c.html").code == 0


def test_a_plan_says_that_the_smallest_is_searched_and_a_flag_beside_a_plan_file_wins(tmp_path: Path) -> None:
    photos(tmp_path / "in", 1)
    (tmp_path / "plan.yaml").write_text(f"images: {tmp_path / 'in'}\neps: smallest:4\nclassifier: toy\nthreads: 1\n")
    assert "the smallest ε up to 4/255" in underfire("plan", tmp_path / "plan.yaml").out
    assert "ε = 3/255" in underfire("plan", tmp_path / "plan.yaml", "--eps", "3").out


@pytest.mark.parametrize(
    ("flag", "value"), [("--eps", "smallest:0"), ("--eps", "smalest"), ("--max-shift", "smallest:0")]
)
def test_a_budget_that_makes_no_sense_is_one_sentence(tmp_path: Path, flag: str, value: str) -> None:
    photos(tmp_path / "in", 1)
    ran = underfire("plan", "--images", tmp_path / "in", *TOY, flag, value)
    assert ran.code == 2
    assert f"{flag} {value}" in ran.err.replace("\n", " ")


def test_quartiles_and_halves_by_hand() -> None:
    def row(smallest: int | None, success: bool = True) -> dict[str, object]:
        return {"smallest_by": "forged", "smallest_eps": smallest, "flow_max_px": None, "success": success}

    found = budgets([row(2), row(1), row(5), row(None), row(None, success=False), row(2), row(3), row(8)], None)
    assert found is not None
    assert list(found.quartiles) == [2, 3, 8]
    assert [(at, e.value) for at, e in found.curve] == [(1, 1 / 8), (2, 3 / 8), (3, 4 / 8), (5, 5 / 8), (8, 6 / 8)]
    assert (found.lost_class, found.lost_map) == (1, 1)
    assert budgets([{"smallest_by": None}], None) is None
