"""What a plan shows of the classifier's front door: two of them to the same weights must not look alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from support.e2e import photos, underfire
from underfire.audit.folder import default_out
from underfire.plan.make import make_plan
from underfire.plan.settings import Settings


def test_plan_yaml_holds_the_input_policy_and_the_entry_of_the_file(tmp_path: Path) -> None:
    import timm

    state = timm.create_model("resnet18", pretrained=False).state_dict()
    torch.save({"state_dict": {}, "state_dict_ema": state}, tmp_path / "net.pth")
    given = {
        "images": str(photos(tmp_path / "in", 2)),
        "classifier": "timm:resnet18",
        "weights": str(tmp_path / "net.pth"),
        "input_size": 64,
        "batch_size": 1,
    }
    plan = make_plan(Settings.parse(given))
    resolved = yaml.safe_load(plan.dump())["resolved"]
    assert set(resolved["input"]) == {"input_size", "resize", "mean", "std", "interpolation"}
    assert (resolved["input"]["input_size"], resolved["weights_entry"]) == (64, "state_dict_ema")
    other = make_plan(Settings.parse({**given, "interpolation": "nearest"}))
    assert yaml.safe_load(other.dump())["resolved"]["input"]["interpolation"] == "nearest"
    assert other.digest != plan.digest
    same = make_plan(Settings.parse({**given, "interpolation": resolved["input"]["interpolation"]}))
    assert same.digest == plan.digest


def test_the_command_says_it_too(tmp_path: Path) -> None:
    images = photos(tmp_path / "in", 2)
    said = underfire("plan", "--images", images, "--classifier", "toy", "--resize", "40")
    words = " ".join((said.out + said.err).split())
    assert said.code == 0
    assert "shorter side to 40 px (bicubic), centre of 32 px, mean" in words


@pytest.mark.parametrize("interpreter", ["cam", "grad"])
def test_an_input_size_that_the_network_does_not_take_is_told(tmp_path: Path, interpreter: str) -> None:
    import timm

    state = timm.create_model("inception_v3", pretrained=False, num_classes=5).state_dict()
    torch.save(state, tmp_path / "net.pth")
    network = ("--classifier", "timm:inception_v3", "--weights", tmp_path / "net.pth", "--input-size", "64")
    said = underfire("plan", "--images", photos(tmp_path / "in", 1), *network, "--interpreter", interpreter)
    assert said.code == 2
    assert "fails on a 64×64 px input" in said.err
    assert "--input-size" in said.err


def test_more_threads_than_any_machine_has_are_a_mistake(tmp_path: Path) -> None:
    said = underfire("plan", "--images", photos(tmp_path / "in", 1), "--threads", "100000")
    assert said.code == 2
    assert "--threads 100000" in said.err


def test_a_setting_that_came_later_renames_no_folder_until_it_is_given() -> None:
    assert str(default_out(Settings.parse({"images": "demo"}))) == "underfire-out/demo-f3ad8671"
    other = default_out(Settings.parse({"images": "demo", "interpolation": "nearest"}))
    assert str(other) != "underfire-out/demo-f3ad8671"
