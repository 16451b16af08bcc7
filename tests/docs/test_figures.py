"""The main tables of README and docs are what the committed rows say; nobody types them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import figures


@pytest.mark.parametrize("path", figures.pages(), ids=lambda path: path.name)
def test_a_page_has_the_figures_of_its_rows(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert figures.filled(text) == text, "python benchmarks/figures.py writes them anew"


def test_a_number_that_was_typed_is_seen() -> None:
    page = figures.filled("<!-- figures: short -->\n<!-- /figures -->\n")
    assert page.count("\n| ") == 5
    assert figures.filled(page) == page
    assert figures.filled(page.replace("0 % (0–7)", "1 % (0–7)")) == page


def test_the_readme_and_the_results_have_their_tables() -> None:
    assert {"README.md", "index.md", "numbers.md", "report.md"} <= {path.name for path in figures.pages()}
