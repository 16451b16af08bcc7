"""What the terminal says of results are the page's own numbers."""

from __future__ import annotations

import html
from pathlib import Path

import pytest
import yaml

from support.rows import row
from underfire.audit.status import Status
from underfire.cli import show, show_names
from underfire.cli.progress import Progress, console, say
from underfire.core import Scale
from underfire.registry import Listed
from underfire.report.page import write_report
from underfire.store import Store


def _audit(out: Path, n: int, missed: int) -> Path:
    rows = [row(i, "adv2", "cam", "cam", map_l1=0.001, success=i >= missed) for i in range(n)]
    with Store(out).open() as store:
        store.put("records", "000000-0123456789abcdef", rows, {}, {})
        store.put("scale", "000000-cam-0123456789abcdef", [Scale("a/0&.png", "0" * 64, "cam", 0.02)], {}, {})
    (out / "plan.yaml").write_text(yaml.safe_dump({"interpreter": ["cam"]}), encoding="utf-8")
    return out


@pytest.mark.parametrize(
    ("n", "missed", "rate", "interval"),
    [
        (240, 1, "99.6\u00a0%", "97.7–99.9\u00a0%"),
        (8000, 1, ">\u00a099.9\u00a0%", "99.9–100\u00a0%"),
        (2500, 2499, "<\u00a00.1\u00a0%", "0–0.2\u00a0%"),
        (60, 60, "0\u00a0%", "0–6\u00a0%"),
        (60, 0, "100\u00a0%", "94–100\u00a0%"),
    ],
)
def test_rates_in_the_terminal_are_those_of_the_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], n: int, missed: int, rate: str, interval: str
) -> None:
    out = _audit(tmp_path, n, missed)
    show.show_results(out)
    words = " ".join(capsys.readouterr().out.split())
    page = html.unescape(write_report(out, 0).read_text(encoding="utf-8"))
    assert rate in page
    assert interval in page
    assert rate.replace("\u00a0", " ") in words
    assert interval.removesuffix("\u00a0%") in words


def test_a_narrow_terminal_keeps_the_names_and_whole_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console, "_width", 50)
    show.show_results(_audit(tmp_path, 40, 1))
    said = " ".join(capsys.readouterr().out.split())
    assert "adv2 on" in said
    assert "0.0010" in said
    assert "a wider terminal shows" in said
    assert "…" not in said


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    say("on:cat:off.png")
    assert capsys.readouterr().out == "on:cat:off.png\n"


def test_progress_does_not_round_a_miss_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Progress.won(2999, 3000) == "success >\u00a099.9\u00a0%"
    assert Progress.won(0, 0) == "no result yet"


def test_status_does_not_call_the_last_unit_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(show, "status", lambda _: Status(5000, 4999, 0, 1, 1, None))
    show.show_status(_audit(tmp_path, 1, 0))
    assert "4999 of 5000 units done (>\u00a099.9\u00a0%)" in capsys.readouterr().out


def test_a_hundred_photos_under_an_alarm_fit_80_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        row(i, "adv2-stadv", "ensemble", "ensemble", success=i > 0, alarm=i > 1, passes=12345.0, seconds=123.0)
        for i in range(240)
    ]
    with Store(tmp_path).open() as store:
        store.put("records", "000000-0123456789abcdef", rows, {}, {})
        store.put("scale", "000000-cam-0123456789abcdef", [Scale("a/0&.png", "0" * 64, "ensemble", 0.02)], {}, {})
    (tmp_path / "plan.yaml").write_text("interpreter: ensemble", encoding="utf-8")
    show.show_results(tmp_path)
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert "adv2" in said
    assert "97.7–99.9" in said


def test_names_of_parts_are_shown_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        show_names, "listed", lambda kind: [Listed("some[red]", "Needs it[ray].")] if kind == "executors" else []
    )
    show_names.show_names()
    said = capsys.readouterr().out
    assert "some[red]" in said
    assert "it[ray]" in said
