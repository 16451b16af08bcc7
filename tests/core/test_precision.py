"""The words of a precision, and what is in force."""

from __future__ import annotations

import pytest

from underfire.core import UnderfireError
from underfire.core.precision import judging, mistake_in, phases, precision, precision_against, searching, settling
from underfire.plan.settings import Settings


def test_a_search_has_its_precision_and_the_judge_in_it_float32() -> None:
    assert precision() == "fp32"
    with searching("bf16-last"):
        assert precision() == "bf16-last"
        with pytest.raises(ZeroDivisionError), judging():
            assert precision() == "fp32"
            raise ZeroDivisionError
        assert precision() == "bf16-last"
    assert precision() == "fp32"


def test_a_search_may_end_in_float32() -> None:
    found = []
    for progress in (0.0, 0.6, 0.7, 1.0):
        with settling("bf16-fp32-last", progress):
            found.append(precision())
    assert found == ["bf16-last", "bf16-last", "fp32-last", "fp32-last"]
    assert [word for word, _ in phases("bf16-fp32-last")] == ["bf16-last", "fp32-last"]
    assert sum(share for _, share in phases("bf16-fp32-last")) == 1 and phases("fp32") == (("fp32", 1.0),)
    with searching("bf16-fp32-last"):  # nobody says how far the search is
        assert precision() == "fp32-last"
    with settling("bf16", 0.9):
        assert precision() == "bf16"


def test_an_interpreter_may_have_its_own() -> None:
    words = "bf16-last,grad:fp32,mask:bf16"
    found = [precision_against(words, against) for against in (None, "cam", "grad", "mask")]
    assert found == ["bf16-last", "bf16-last", "fp32", "bf16"]


@pytest.mark.parametrize("words", ["fp16", "", "bf16-last,grad", "bf16,grad:fp8", "fp32,"])
def test_what_is_no_precision_is_told(words: str) -> None:
    assert "There is no precision" in mistake_in(words)


def test_settings_take_precisions_and_name_what_there_is() -> None:
    assert Settings.parse({"images": "demo", "precision": "auto"}).precision is None
    assert Settings.parse({"images": "demo", "precision": "bf16-last,grad:fp32"}).precision == "bf16-last,grad:fp32"
    with pytest.raises(UnderfireError, match=r"--precision fp16: there is no precision 'fp16'. Known: auto, fp32"):
        Settings.parse({"images": "demo", "precision": "fp16"})
