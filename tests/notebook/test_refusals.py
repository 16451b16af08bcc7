"""What would make a number that is nobody's merit, or a traceback, is refused in words."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

import underfire
from support import e2e, toys
from underfire.core import ImageErrors, UnderfireError
from underfire.plan.make import make_plan
from underfire.plan.settings import Settings
from underfire.trial import forge


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"eps": 8.5}, "eps=8.5"),
        ({"eps": True}, "eps=True"),
        ({"eps": None}, "eps=None"),
        ({"threads": 0}, "threads=0"),
        ({"progress": "yes"}, "progress='yes'"),
        ({"target": "own"}, "each photo has its class already"),
        ({"precision": "auto"}, "measured where an audit is planned"),
        ({"precision": None}, "precision=None is measured"),
        ({"precision": 8}, "precision"),
        ({"precision": "fp16"}, "no precision 'fp16'"),
        ({"precision": "bf16,gard:fp32"}, "gard"),
        ({"attack": "adv2-stadv", "max_shift": "smallest:0.15"}, "whole number of tenths"),
    ],
)
def test_an_argument_that_makes_no_sense_is_told(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UnderfireError, match=said):
        underfire.attack(toys.toy(), "cam", toys.pictures(1), **{"steps": 2, **wrong})


def test_two_interpreters_of_one_name_are_not_one_result() -> None:
    toy = toys.toy()
    with pytest.raises(UnderfireError, match="Two interpreters are called 'cam'"):
        underfire.attack(toy, ["cam", underfire.interpreter("cam", toy)], toys.pictures(1), steps=2)


def test_a_name_with_its_content_is_one_picture() -> None:
    content = e2e.photo(1, 40, 30)
    file = io.BytesIO()
    content.save(file, "PNG")
    result = underfire.attack(toys.toy(), "cam", ("a.png", file.getvalue()), steps=2)
    assert [record.image for record in result.records] == ["a.png"]
    with pytest.raises(TypeError, match="one image"):
        result[:1]  # type: ignore[index]


@pytest.mark.parametrize("wrong", [{"target": "own"}, {"precision": "bf16,gard:fp32"}])
def test_a_plan_refuses_them_too(tmp_path: Path, wrong: dict[str, Any]) -> None:
    given = {"images": str(e2e.photos(tmp_path / "in", 2)), "interpreter": ("cam",), **wrong}
    with pytest.raises(UnderfireError, match=r"own|gard"):
        make_plan(Settings.parse(given))
    make_plan(Settings.parse({**given, "attack": ("noise",), "precision": "fp32"}))


def test_an_error_in_a_probe_is_that_of_its_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    honest, asked = forge._attacked, []

    def failing(system: Any, job: Any, cell: Any, able: Any, resume: Any = None) -> Any:
        asked.append(able.rows)
        if len(asked) > 1 and 2 in able.rows:
            raise ImageErrors({able.rows.index(2): "broken in a probe"})
        return honest(system, job, cell, able, resume)

    monkeypatch.setattr(forge, "_attacked", failing)
    found = underfire.attack(toys.toy(), "cam", toys.pictures(4), attack="pgd", eps="smallest:16", target="nearest")
    assert any(2 in rows and len(rows) < 4 for rows in asked[1:])  # else this shows nothing
    assert [record.error is not None for record in found.records] == [False, False, True, False]
