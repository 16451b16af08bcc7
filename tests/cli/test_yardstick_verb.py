"""The verb `underfire yardstick`, as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path

from support.e2e import photos, underfire


def test_a_yardstick_is_made_on_the_command_line_and_used(tmp_path: Path) -> None:
    folder, file = photos(tmp_path / "in", 20), tmp_path / "toy.cam.json"
    own = ("--images", folder, "--classifier", "toy", "--interpreter", "cam")
    done = underfire("yardstick", *own, "--out", file, "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert said["n"] == 20
    assert set(said["power"]) == {"pgd", "other_photo", "mean_map", "class_swap"}
    assert said["threshold"] > 0
    ran = underfire("run", *own, "--yardstick", file, "--limit", "2", "--attack", "pgd", "--out", tmp_path / "out")
    assert ran.code == 0, ran.err
    assert "not calibrated" not in ran.out
