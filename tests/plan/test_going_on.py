"""An audit that goes on: with the same units whatever the device, and a true word where it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from support.e2e import extended, photos
from underfire.audit.folder import refuse_other_plan
from underfire.core import MismatchError
from underfire.plan.make import make_plan
from underfire.plan.settings import Settings
from underfire.plan.units import Plan


def planned(folder: Path, device: str, earlier: Settings | None = None) -> Plan:
    """A plan for workers elsewhere, with so long a search that a CPU's unit holds one photo and a GPU's several."""
    given: dict[str, Any] = {"images": str(folder), "classifier": "toy", "attack": ("pgd",), "threads": 1}
    given |= {"executor": "ray", "batch_size": 2, "options": {"pgd": {"steps": 10_000}}}
    return make_plan(Settings.parse({**given, "device": device}), earlier=earlier)


def stored(plan: Plan) -> Settings:
    return Settings.parse(yaml.safe_load(plan.dump()))


def test_an_audit_goes_on_in_the_units_that_it_was_begun_with(tmp_path: Path) -> None:
    folder = photos(tmp_path / "in", 2)
    with extended():
        begun = planned(folder, "cpu")
        fresh, on_gpu = planned(folder, "cuda"), planned(folder, "cuda", stored(begun))
    names = [unit.name for unit in begun.all_units()]
    assert [unit.name for unit in on_gpu.all_units()] == names
    assert len(names) > len(list(fresh.all_units()))


def test_a_folder_that_does_not_say_how_it_was_cut_is_never_done_in_other_units(tmp_path: Path) -> None:
    with extended():
        plan = planned(photos(tmp_path / "in", 2), "cpu")
    before = stored(plan)
    refuse_other_plan(tmp_path, before, plan)
    del before.resolved["unit_passes"]
    before.resolved["units"] = 1
    with pytest.raises(MismatchError, match="another kind of device than cpu, with 1 unit and not 2"):
        refuse_other_plan(tmp_path, before, plan)


def test_another_ruler_of_the_smallest_budget_is_what_is_said_to_be_another(tmp_path: Path) -> None:
    given: dict[str, Any] = {"images": str(photos(tmp_path / "in", 1)), "classifier": "toy", "threads": 1}
    with extended():
        plan = make_plan(Settings.parse({**given, "attack": "adv2", "eps": "smallest:2", "options": {}}))
    before = stored(plan)
    before.resolved.update(plan_digest="another", yardsticks={"cam": "0" * 64})
    with pytest.raises(MismatchError, match=r"\(yardstick of cam: one there, none now\)"):
        refuse_other_plan(tmp_path, before, plan)
