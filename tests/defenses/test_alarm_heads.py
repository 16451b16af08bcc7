"""The alarm beside a classifier whose outputs are labels, or one number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from support import toys
from underfire.classifiers.base import TorchClassifier, wrap
from underfire.core import MismatchError
from underfire.defenses.alarm import Alarm
from underfire.defenses.calibrate import calibrate
from underfire.defenses.squeezers import smoothed_copy
from underfire.images import pixels


def classifier(k: int, head: str | None) -> TorchClassifier:
    net = toys.seeded(toys.ToyNet(k), 1).float()
    assert isinstance(net, toys.ToyNet)
    net.head.weight.data *= 10
    return wrap(net, input_size=toys.SIZE, resize=toys.SIZE, mean=0.5, std=toys.STD, head=head, name="mine")


@pytest.mark.parametrize(("k", "head"), [(4, "multilabel"), (1, None)])
def test_an_alarm_says_the_strongest_label_and_its_own_probability(tmp_path: Path, k: int, head: str | None) -> None:
    mine, folder = classifier(k, head), _folder(tmp_path)
    known, skipped = calibrate(mine, str(folder), ("cam", "grad"), false_alarms=0.2, kind="squeeze")
    assert not skipped
    known.write(tmp_path / "alarm.json")
    alarm = Alarm(mine, str(tmp_path / "alarm.json"))
    verdict = alarm.check(folder / "05.png")
    z = mine.module((pixels.to_tensor([np.asarray(verdict.levels)]) - 0.5) / toys.STD)[0]
    p = z.sigmoid() if k > 1 else torch.stack([(-z[0]).sigmoid(), z[0].sigmoid()])
    assert (verdict.label, verdict.row()["head"]) == (int(p.argmax()), head or "binary")
    assert verdict.confidence == pytest.approx(float(p.max()), abs=1e-5)
    if head:  # the same weights as classes are another classifier
        with pytest.raises(MismatchError, match=r"alarm\.json"):
            Alarm(classifier(k, None), str(tmp_path / "alarm.json"))


def test_how_sure_a_copy_is_of_a_label_is_its_own_sigmoid(tmp_path: Path) -> None:
    mine, x = classifier(4, "multilabel"), toys.pictures(3).float()
    known, _ = calibrate(mine, str(_folder(tmp_path)), ("cam", "grad"), false_alarms=0.2, kind="squeeze")
    known.write(tmp_path / "alarm.json")
    _, seen, _ = Alarm(mine, str(tmp_path / "alarm.json")).look(x)
    y = mine.logits(x).argmax(1)
    again = mine.logits(smoothed_copy(x)).gather(1, y[:, None])[:, 0]
    torch.testing.assert_close(seen.log_p(smoothed_copy(x)), F.logsigmoid(again.detach().double()))


def _folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for i, levels in enumerate(pixels.to_levels(toys.pictures(10, 3))):
        Image.fromarray(levels).resize((24, 24), Image.Resampling.NEAREST).save(folder / f"{i:02d}.png")
    return folder
