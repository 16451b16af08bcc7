"""The smallest budget that forges: against trying every one, on pictures that were read back."""

from __future__ import annotations

import io
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
from PIL import Image

import underfire
from support import e2e, toys
from underfire import Result
from underfire.core import Record, UnderfireError
from underfire.metrics.verdict import MapVerdict, OldScale, verdict

QUICK: dict[str, Any] = {"steps": 20, "target": "least-likely"}
LIMIT = 0.18
"""map_l1 up to which a map is untouched, in these tests."""


def photos(n: int) -> list[Image.Image]:
    return [e2e.photo(seed, 40 - seed, 30 + seed) for seed in range(n)]


def attacked(given: Any, **how: Any) -> Result:
    return underfire.attack(toys.toy(), "cam", given, **{**QUICK, **how})


@pytest.fixture
def ruled(monkeypatch: pytest.MonkeyPatch) -> None:
    """A yardstick for the toy's maps."""
    monkeypatch.setattr("underfire.notebook.attacking.packaged_here", lambda *_: {"cam": OldScale(LIMIT)})


def forged(record: Record) -> bool:
    found: MapVerdict = verdict(asdict(record), {"cam": OldScale(LIMIT)})
    return bool(found.forged)


@pytest.mark.usefixtures("ruled")
def test_it_is_the_smallest_of_all_that_were_tried_or_a_verified_one_below() -> None:
    """Each budget by itself, from the clean pictures, says how far bisection from warm starts is from the truth."""
    x, most = toys.pictures(6, 4), 8
    how: dict[str, Any] = {"steps": 16, "target": "nearest"}
    each = {eps: attacked(x, eps=eps, **how).records for eps in range(1, most + 1)}
    tried = [min((eps for eps, rows in each.items() if forged(rows[n])), default=None) for n in range(6)]
    assert len({one for one in tried if one is not None}) > 1  # else the test shows nothing
    assert None in tried
    for record, alone, at_most in zip(
        attacked(x, eps=f"smallest:{most}", **how).records, tried, each[most], strict=True
    ):
        assert (record.smallest_by, record.eps) == ("forged", most)
        assert (record.smallest_eps is None) == (alone is None)
        if record.smallest_eps is None or alone is None:
            kept = ("success", "map_l1", "linf_levels", "confidence", "rescue")
            assert [getattr(record, name) for name in kept] == [getattr(at_most, name) for name in kept]
        else:
            assert forged(record)
            assert (record.linf_levels or 99) <= record.smallest_eps <= alone + 1


@pytest.mark.parametrize("attack", ["adv2", "adv2-stadv"])
@pytest.mark.usefixtures("ruled")
def test_it_costs_less_than_three_searches_at_the_largest_budget(attack: str) -> None:
    how = {"attack": attack, "rescue": False}
    name, largest = ("max_shift", 2.0) if attack == "adv2-stadv" else ("eps", 8)
    x = toys.pictures(3)
    at_most = attacked(x, **how, **{name: largest}).records
    for record, one in zip(attacked(x, **how, **{name: "smallest"}).records, at_most, strict=True):
        assert (record.passes or 0) <= 3 * (one.passes or 0)


@pytest.mark.parametrize("attack", ["stadv", "adv2-stadv"])
def test_bends_are_searched_in_tenths_of_a_pixel(attack: str) -> None:
    x = toys.pictures(4)
    found = attacked(x, attack=attack, max_shift="smallest:3", steps=60, target="nearest").records
    assert any(one.smallest_shift for one in found)
    for record in found:
        assert (record.smallest_eps, record.smallest_by) == (None, "success")
        if record.smallest_shift is not None:
            assert record.success
            assert record.smallest_shift * 10 == pytest.approx(round(record.smallest_shift * 10))
            assert (record.flow_max_px or 9) <= record.smallest_shift + 1e-4


def test_without_a_yardstick_or_an_interpreter_success_counts_and_the_record_says_so() -> None:
    for attack in ("pgd", "adv2"):
        found = attacked(toys.pictures(4), attack=attack, eps="smallest:16", target="nearest").records
        assert {one.smallest_by for one in found} == {"success"}
        assert [one.success for one in found] == [one.smallest_eps is not None for one in found]
    usual = attacked(toys.pictures(2), attack="pgd").records
    assert {(one.smallest_eps, one.smallest_shift, one.smallest_by) for one in usual} == {(None, None, None)}


def test_the_file_that_is_kept_is_that_of_the_smallest_budget() -> None:
    given = photos(3)
    result = attacked(given, attack="pgd", eps="smallest:16", target="nearest")
    for image, content, record in zip(given, result.files, result.records, strict=True):
        after = np.asarray(Image.open(io.BytesIO(content)), np.int16)
        assert np.abs(after - np.asarray(image, np.int16)).max() == record.linf_levels
        assert record.linf_levels == record.smallest_eps


def test_an_attack_with_another_budget_keeps_the_largest() -> None:
    (record,) = underfire.attack(toys.toy(), "cam", photos(1), attack="noise", eps="smallest:3").records
    assert (record.eps, record.smallest_by) == (3, None)


@pytest.mark.parametrize("eps", ["smallest:0", "smallest:300", "smallest:x", "small", "smallest:2.5"])
def test_a_budget_that_makes_no_sense_is_told_in_the_users_words(eps: str) -> None:
    with pytest.raises(UnderfireError, match=f"--eps {eps}"):
        attacked(photos(1), eps=eps)


def test_a_largest_budget_of_one_is_one_search() -> None:
    one, other = (attacked(toys.pictures(3), attack="pgd", eps=eps).records for eps in ("smallest:1", 1))
    for record, usual in zip(one, other, strict=True):
        assert record.steps == usual.steps
        assert record.confidence == usual.confidence
