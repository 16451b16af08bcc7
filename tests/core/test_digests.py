"""Digests that results in the world were computed under: another one would orphan them, so none may change."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from underfire import registry
from underfire.core import Preprocess
from underfire.core.hashing import ADDED, spell
from underfire.plan.make import make_plan
from underfire.plan.settings import Settings

if TYPE_CHECKING:
    from underfire.classifiers.base import TorchClassifier


ATTACKS = [
    ("pgd", None, "paper", False, "1520527420458af4"),
    ("pgd", None, "fast", False, "73b2f49b2742d5b8"),
    ("pgd", None, "thorough", False, "2583130e0aedfcd5"),
    ("adv2", "cam", "paper", False, "7502c7c1a9b4a341"),
    ("adv2", "grad", "paper", False, "5a01c656c1122681"),
    ("adv2", "mask", "paper", False, "4d09bc1cca6e8a4f"),
    ("adv2", "rts", "paper", False, "3be77476e0daa395"),
    ("adv2", "cam", "fast", False, "f01a93168d297853"),
    ("adv2", "grad", "fast", False, "cd21d02ba3f94600"),
    ("adv2", "mask", "fast", False, "0b37a5a2a0771ee0"),
    ("adv2", "rts", "fast", False, "b12c746f2b283998"),
    ("adv2", "cam", "thorough", False, "681799503add5412"),
    ("adv2", "grad", "thorough", False, "1c2940232b4b8653"),
    ("adv2", "mask", "thorough", False, "c158ae03e418ce1b"),
    ("adv2", "rts", "thorough", False, "9811164c516d44af"),
    ("stadv", None, "paper", False, "8ed8f6991e9fdd7b"),
    ("stadv", None, "fast", False, "2c9cbd386a3b93c7"),
    ("stadv", None, "thorough", False, "eb2a106dc3422771"),
    ("adv2-stadv", "cam", "paper", False, "f1fd366be7c53a85"),
    ("adv2-stadv", "grad", "paper", False, "1810aef20119ef6a"),
    ("adv2-stadv", "mask", "paper", False, "2e31fbaf3fa2a66e"),
    ("adv2-stadv", "rts", "paper", False, "cd7c4a1d2682457a"),
    ("adv2-stadv", "cam", "fast", False, "87c3c928301f17ee"),
    ("adv2-stadv", "grad", "fast", False, "31bd8c56021066bc"),
    ("adv2-stadv", "mask", "fast", False, "47cf506ed4e2f67d"),
    ("adv2-stadv", "rts", "fast", False, "87c3c928301f17ee"),
    ("adv2-stadv", "cam", "thorough", False, "d1d6387deee84812"),
    ("adv2-stadv", "grad", "thorough", False, "1e9512d200a8f28e"),
    ("adv2-stadv", "mask", "thorough", False, "b90c8225d7f9ad3c"),
    ("adv2-stadv", "rts", "thorough", False, "d1d6387deee84812"),
    ("adv2", "ensemble", "fast", False, "d8a5a4d2b1eee114"),
    ("adv2", "ensemble", "thorough", False, "f6ae0772cd248f47"),
    ("adv2", "mask", "fast", True, "c0496b3da48bc0c5"),
    ("adv2", "mask", "thorough", True, "479e43fe12b1662c"),
    ("adv2-stadv", "mask", "fast", True, "8bb9ba5afd8be06d"),
    ("adv2-stadv", "mask", "thorough", True, "a792b6cf4de0d8df"),
]


def short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@pytest.mark.parametrize(("attack", "against", "preset", "drawn", "known"), ATTACKS)
def test_attacks_are_spelled_as_ever(attack: str, against: str | None, preset: str, drawn: bool, known: str) -> None:
    more = {"drawn": True} if drawn else {}
    if attack.startswith("adv2") and preset != "paper":
        more["rescue"] = False  # which came later: without it, they are the searches that they were
    maker: Any = registry.maker("attacks", attack)
    assert short(spell(maker.make(preset, against, 8, **more))) == known


RESCUED = [
    ("adv2", "fast", "e3204463fcb5b049"),
    ("adv2", "thorough", "f99cd17f4688b857"),
    ("adv2-stadv", "fast", "7003760ad46c278d"),
    ("adv2-stadv", "thorough", "0a59d6786df428a3"),
]


@pytest.mark.parametrize(("attack", "preset", "known"), RESCUED)
def test_attacks_with_a_rescue_are_spelled_as_ever(attack: str, preset: str, known: str) -> None:
    maker: Any = registry.maker("attacks", attack)
    assert short(spell(maker.make(preset, "cam", 8))) == known


def test_input_policies_are_spelled_as_ever(lite0: TorchClassifier) -> None:
    text = (
        "Preprocess(input_size=224, resize=256, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), "
        "interpolation='bicubic')"
    )
    assert spell(Preprocess(224, 256)) == text
    assert lite0.digest.startswith("8afffb89fdbc165e")


def test_plans_and_units_are_named_as_ever(tmp_path: Path) -> None:
    for i in range(3):
        pixels = bytes((j * 7 + i * 31) % 256 for j in range(32 * 32 * 3))
        (tmp_path / f"p{i}.ppm").write_bytes(b"P6 32 32 255\n" + pixels)
    four, attacks = ("cam", "grad", "mask", "rts"), ("pgd", "adv2", "stadv", "adv2-stadv")
    given = {"images": str(tmp_path), "interpreter": four, "attack": attacks, "threads": 1, "batch_size": 8}
    plan = make_plan(Settings.parse(given))
    assert plan.digest == "33a5d714383211f6a34134672683404a0388365306ae6e53a13536d4d187ab35"
    assert [*(unit.name for unit in plan.units()), *(unit.name for unit in plan.scale_units())] == [
        "000000-5898d7a701a5b3d4",
        "000001-b33b758bb3dabf5c",
        "000002-970f1da6eef4206e",
    ]  # all four have packaged yardsticks, so nothing is measured for them


@dataclass(frozen=True)
class Renamed:
    spelled = "Old"
    a: int
    b: tuple[float, ...] = (1.0,)
    c: int = field(default=3, metadata=ADDED)


def test_a_class_is_called_what_it_says_and_a_field_added_later_counts_once_it_is_set() -> None:
    assert spell(Renamed(1)) == "Old(a=1, b=(1.0,))"
    assert spell(Renamed(1, c=4)) == "Old(a=1, b=(1.0,), c=4)"
