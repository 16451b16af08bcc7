"""A yardstick of maps that nothing moves, and rates over pictures that have no map."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from support.study import row
from underfire.metrics.summary import summarise
from underfire.metrics.yardstick import IMPOSTORS, PhotoDistances, Yardstick

STILL = (0.0, 0.0, 0.0)


def test_a_map_that_ignores_the_picture_is_untouched_and_tells_nothing() -> None:
    photos = (PhotoDistances(f"{i}", (STILL,) * 5, dict.fromkeys(IMPOSTORS, STILL)) for i in range(24))
    found = Yardstick(tuple(photos))
    assert found.untouched(STILL)
    assert {one.value for one in found.power.values()} == {0.0}
    assert found.false_rejects.value == 0.0
    assert not found.tells and found.class_blind
    assert not found.untouched((0.01, 0.0, 0.0))


def test_a_picture_without_a_map_is_in_the_rates_of_the_alarm_too() -> None:
    def judged(photo: int, forged: bool | None, **more: Any) -> dict[str, Any]:
        seen = row(photo, "adv2", "cam", "cam", **more)
        return dataclasses.asdict(seen) | {"forged": forged, "untouched_l1": 0.05, "iou_curve": [0.5] * 9}

    seen = [judged(i, True, alarm=i % 2 == 0) for i in range(10)]
    lost = [judged(10 + i, None, alarm=True, error="No map.", linf_levels=8.0) for i in range(10)]
    (found,) = summarise([*seen, *lost])
    assert found.forged.value == 0.5
    assert found.alarm.value == pytest.approx(15 / 20)
    assert found.unnoticed.value == pytest.approx(5 / 20)
