"""What a plan shows of the classifier's front door: two of them to the same weights must not look alike."""

from __future__ import annotations

from pathlib import Path

import torch
import yaml

from support.e2e import photos, underfire
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
