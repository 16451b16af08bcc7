"""The library's front: every verb of the command line is a function that is typed, prints nothing and has a page."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest

import underfire
from support.e2e import extended, photos
from underfire.core import Outcome, Quiet

VERBS = ("attack", "calibrate", "check", "make_plan", "open_results", "run", "run_study", "train_rts", "write_report")


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_says_what_it_takes_gives_and_raises(name: str) -> None:
    verb = getattr(underfire, name)
    signature = inspect.signature(verb)
    assert signature.return_annotation is not inspect.Signature.empty
    assert all(p.annotation is not inspect.Parameter.empty for p in signature.parameters.values())
    page = inspect.getdoc(verb) or ""
    for argument, parameter in signature.parameters.items():
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            assert f"{argument}:" in page, argument


def test_every_public_name_is_there_and_documented() -> None:
    for name in underfire.__all__:
        assert inspect.getdoc(getattr(underfire, name)), name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = underfire.nonsense


class Hearing(Quiet):
    """Notes what it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def begin(self, stage: str, total: int, done: int) -> None:
        self.heard.append((stage, total, done))

    def advance(self, outcome: Outcome) -> None:
        self.heard.append((outcome.unit.stage, outcome.rows, outcome.good, outcome.reached))

    def done(self, n: int) -> None:
        self.heard.append((n,))


def test_an_audit_prints_nothing_and_tells_its_listener(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder, hearing = photos(tmp_path / "in", 3), Hearing()
    with extended():
        few = {"pgd": {"steps": 3}, "adv2": {"steps": 3}}
        settings = underfire.Settings.parse({"images": str(folder), "classifier": "toy", "threads": 1, "options": few})
        plan = underfire.make_plan(settings)
        audit = underfire.run(settings, tmp_path / "out", hearing)
        underfire.write_report(tmp_path / "out", 0)
    assert plan.rows == audit.results.table.num_rows == 6
    assert [h[:2] for h in hearing.heard] == [("scale", 3), ("records", 6), ("scale", 3), ("records", 6)]
    assert capfd.readouterr() == ("", "")


def test_checks_go_on_after_a_picture_that_cannot_be_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    benign, hearing = photos(tmp_path / "benign", 30), Hearing()
    (tmp_path / "text.png").write_text("hello")
    with extended():
        classifier = underfire.classifier("toy")
        known, skipped = underfire.calibrate(classifier, str(benign), ("cam", "energy"), listener=hearing)
        known.write(tmp_path / "alarm.json")
        alarm = underfire.alarm(tmp_path / "alarm.json", classifier)
        asked = [benign / "p00.png", tmp_path / "text.png", benign, tmp_path / "missing.png"]
        found = list(underfire.check(asked, alarm, hearing))
    assert not skipped
    assert found[0].verdict is not None and found[0].error is None
    assert [one.verdict for one in found[1:]] == [None] * 3
    assert all(str(path) in (one.error or "") for path, one in zip(asked[1:], found[1:], strict=True))
    assert hearing.heard[0] == ("calibrate", 30, 0)
    assert hearing.heard[-5:] == [("check", 4, 0), (1,), (2,), (3,), (4,)]
    assert capfd.readouterr() == ("", "")
