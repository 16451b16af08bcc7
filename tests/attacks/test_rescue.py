"""The rescue: ADV² reaches every class that the attack on the prediction reaches, whatever the map asks for."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import underfire
from support import e2e, toys
from support.toys import goal_for, pictures, victim
from underfire.attacks.adv2 import adv2
from underfire.attacks.control import adv2_control
from underfire.attacks.pgd import pgd
from underfire.attacks.search import Rescue
from underfire.attacks.stadv import adv2_stadv, stadv
from underfire.core import Found, UnderfireError

GREEDY: dict[str, Any] = {"steps": 10, "lam": 1e6, "yields": False}
"""A map that never gives way: the joint search loses most classes."""
PAIRS = [(pgd, adv2, 8), (stadv, adv2_stadv, 8)]


def ran(made: Any, n: int = 6) -> tuple[Found, list[bool], list[float]]:
    """What an attack finds of some pictures, which of them reach their class, and their passes."""
    system, cam = victim()
    x = pictures(n, 4)
    goal = goal_for(cam, x)
    with system.classifier.meter.counting(n) as spent:
        found = made.run(system, x, goal, range(n))
    reached = system.classifier.logits(found.images).argmax(1) == goal.labels
    return found, reached.tolist(), spent.passes.tolist()


@pytest.mark.parametrize(("alone", "both", "eps"), PAIRS)
def test_a_class_that_the_joint_search_loses_is_reached_as_by_the_attack_on_the_prediction(
    alone: Any, both: Any, eps: int
) -> None:
    single, reached_alone, single_passes = ran(alone.make("fast", None, eps))
    joint, reached_joint, joint_passes = ran(both.make("fast", "cam", eps, rescue=False, **GREEDY))
    found, reached, passes = ran(both.make("fast", "cam", eps, **GREEDY))
    assert sum(reached_joint) < sum(reached_alone)  # else this test shows nothing
    assert all(one >= other for one, other in zip(reached, reached_alone, strict=True))
    assert found.extras["rescue"].tolist() == [not one for one in reached_joint]
    assert "rescue" not in joint.extras
    for n, held in enumerate(reached_joint):
        like = joint if held else single
        assert torch.equal(found.images[n], like.images[n])
        assert int(found.steps[n]) == int(joint.steps[n]) + (0 if held else int(single.steps[n]))
        assert passes[n] == pytest.approx(joint_passes[n] + (0 if held else single_passes[n]))


@pytest.mark.parametrize(("attack", "alone"), [("adv2", "pgd"), ("adv2-stadv", "stadv")])
def test_files_of_several_sizes_are_rescued_and_the_record_says_so(attack: str, alone: str) -> None:
    classifier = toys.toy()
    given = [e2e.photo(n, 40 - 3 * n, 30 + n) for n in range(4)]
    shared: dict[str, Any] = {"eps": 6, "target": "least-likely"}
    greedy = underfire.attack(classifier, "cam", given, attack=attack, rescue=False, **GREEDY, **shared)
    single = underfire.attack(classifier, "cam", given, attack=alone, **shared)
    found = underfire.attack(classifier, "cam", given, attack=attack, **GREEDY, **shared)
    assert [one.rescue for one in greedy.records] == [one.rescue for one in single.records] == [None] * 4
    assert sum(bool(one.success) for one in greedy.records) < sum(bool(one.success) for one in single.records)
    for got, joint, pgds, n in zip(found.records, greedy.records, single.records, range(4), strict=True):
        assert got.rescue is not joint.success
        assert bool(got.success) >= bool(pgds.success)
        assert torch.equal(found.images[n], (greedy if joint.success else single).images[n])
        assert got.at == "file"


def test_the_published_protocol_has_no_rescue_and_a_user_can_choose() -> None:
    assert adv2.make("paper", "cam", 8).rescue is None
    assert adv2_stadv.make("paper", "cam", 8).rescue is None
    assert adv2.make("thorough", "cam", 8, rescue=False).rescue is None
    for preset in ("fast", "thorough"):
        whole: Any = pgd.make(preset, None, 8)
        assert adv2.make(preset, "cam", 8).rescue == Rescue(whole.space, whole.settings)
        assert adv2_control.make(preset, "cam", 8).rescue is not None
        assert adv2.make(preset, "cam", 8).bound(3.0) == pytest.approx(
            adv2.make(preset, "cam", 8, rescue=False).bound(3.0) + whole.bound(3.0)
        )
    with pytest.raises(UnderfireError, match=r"adv2.rescue=maybe: give true or false"):
        adv2.make("fast", "cam", 8, rescue="maybe")  # type: ignore[arg-type]
