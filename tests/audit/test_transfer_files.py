"""Forged files are judged again: by the same victim with the same numbers, and through another victim's front door."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.e2e import extended, photos, underfire
from underfire.audit import transfer
from underfire.core import Quiet
from underfire.core.place import place
from underfire.images import pixels
from underfire.images.saving import file_photo
from underfire.plan.file import read
from underfire.plan.make import make_plan
from underfire.registry import VICTIMS, build_door
from underfire.store import Store, open_results

MEASURED = ("success", "confidence", "predicted_class", "map_l1", "map_iou", "map_rank")


@pytest.fixture(scope="module")
def forged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("again")
    steps = ("--set", "adv2.steps=8", "--set", "pgd.steps=8", "--interpreter", "cam", "--save-as", "jpeg:95")
    toy = ("--classifier", "toy", "--threads", "1", "--batch-size", "1")
    ran = underfire("run", "--images", photos(folder / "in", 3), *toy, *steps, "--out", folder / "out")
    assert ran.code == 0, ran.err
    return folder / "out"


def judged_again(out: Path, **change: Any) -> list[dict[str, Any]]:
    settings = read(place(str(out / "plan.yaml"))).model_copy(update={"resolved": {}, **change})
    with extended():
        transfer.run(out, make_plan(settings), ["cam"], lambda record: True, Quiet())
    rows = Store(out).rows(transfer.STAGE)
    return [row for row in rows if row["judge_classifier"] is not None]


def test_the_same_victim_gives_the_same_numbers(forged: Path) -> None:
    first = {(row["image"], row["attack"]): row for row in open_results(forged).rows()}
    again = {(row["image"], row["attack"]): row for row in judged_again(forged)}
    assert again.keys() == first.keys()
    for key, row in again.items():
        assert {row["at"], first[key]["at"]} == {"file"}
        assert row["file_sha256"] == first[key]["file_sha256"]
        for name in MEASURED:
            assert row[name] == pytest.approx(first[key][name], abs=1e-5), (key, name)


def test_another_victim_is_given_the_file_through_its_own_door(forged: Path) -> None:
    first = {(row["image"], row["attack"]): row for row in open_results(forged).rows()}
    before = Store(forged).rows(transfer.STAGE)
    rows = [row for row in judged_again(forged, door="pillow:squash") if row not in before]
    assert len(rows) == len(first)
    settings = read(place(str(forged / "plan.yaml")))
    with extended():
        classifier = VICTIMS.classifier("toy", settings.classifier_options, "cpu")
        door = build_door("pillow:squash", classifier)
    for row in rows:
        content = (forged / str(row["adversarial"])).read_bytes()
        x = door.enter(file_photo(content, "p", "png").pixels)
        p = classifier.logits(pixels.to_tensor([x])).double().softmax(1)[0]
        assert float(p[row["target_class"]]) == pytest.approx(row["confidence"], abs=1e-5)
    assert any(abs(row["confidence"] - first[row["image"], row["attack"]]["confidence"]) > 1e-3 for row in rows)
