"""A plan file and the flags beside it: which of them counts."""

from __future__ import annotations

from typing import Any

import pytest

from underfire.plan.file import merged

THERE: dict[str, Any] = {
    "images": "photos",
    "defense": "/a.json",
    "adaptive": True,
    "interpreter": ("cam", "grad", "ensemble"),
    "options": {"adv2": {"steps": 3}, "ensemble": {"defense": "/a.json", "members": ["cam", "grad"]}},
}
"""An adaptive audit's plan.yaml, with what it filled in."""


@pytest.mark.parametrize("given", [{"defense": "b.json"}, {"interpreter": ["cam"]}])
def test_another_alarm_or_judge_beside_a_plan_is_the_one_that_is_attacked(given: dict[str, Any]) -> None:
    assert merged(THERE, given)["options"] == {"adv2": {"steps": 3}}


def test_what_was_chosen_for_the_attack_on_the_alarm_stays() -> None:
    own = {"defense": "/other.json", "members": ["cam"], "resolution": 7}
    there = THERE | {"options": {"ensemble": own}}
    assert merged(there, {"defense": "b.json"})["options"] == {"ensemble": own}
    said = {"ensemble": {"members": ["grad"]}}
    assert merged(THERE, {"defense": "b.json", "options": said})["options"]["ensemble"] == said["ensemble"]
    assert merged(THERE, {"eps": 4})["options"] == THERE["options"]
