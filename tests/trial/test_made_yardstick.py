"""Making a yardstick: what is measured is what the interpreter says of the copies, one by one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import underfire
from support.e2e import extended, photos
from underfire.core import TooFewError, UnderfireError
from underfire.core.hashing import seed_of
from underfire.images import pixels
from underfire.images.copies import COPIES
from underfire.metrics.yardstick_file import read
from underfire.plan.make import make_plan
from underfire.trial.given import load_given
from underfire.trial.natural import measure, wrong_maps
from underfire.trial.system import System
from underfire.trial.yardstick import make_yardstick


def test_copies_are_measured_as_the_interpreter_sees_them(tmp_path: Path) -> None:
    with extended():
        net = underfire.classifier("toy")
        cam = underfire.interpreter("cam", net)
        loaded = load_given(
            [str(one) for one in sorted(photos(tmp_path / "in", 3).iterdir())], System(net, {"cam": cam})
        )
        found = measure(System(net, {"cam": cam}), cam, loaded, 5)
        for n, photo in enumerate(loaded.photos):
            x = pixels.to_tensor(loaded.levels[n : n + 1])
            source = net.logits(x).argmax(1)
            own = cam.explain(x, source)[0].double().numpy()
            np.testing.assert_allclose(found.benign[n], own, atol=1e-5)
            for (name, copy), d in zip(COPIES.items(), found.copies[n], strict=True):
                moved = pixels.to_tensor(copy(loaded.levels[n], seed_of(5, photo, "natural copies"))[None])
                if int(net.logits(moved).argmax()) != int(source):
                    assert d is None, name
                    continue
                m = cam.explain(moved, source)[0].double().numpy()
                assert d is not None
                assert d[0] == pytest.approx(np.abs(m - own).mean(), abs=1e-5)


def test_wrong_maps_are_the_next_photos_and_the_mean_of_the_others() -> None:
    maps = torch.rand(4, 5, 5, generator=torch.manual_seed(0), dtype=torch.float64).numpy()
    maps[2] = np.nan
    found = wrong_maps(maps)
    assert found[2] == {}
    assert found[0]["other_photo"][0] == pytest.approx(np.abs(maps[1] - maps[0]).mean(), rel=1e-5)
    assert found[3]["other_photo"][0] == pytest.approx(np.abs(maps[0] - maps[3]).mean(), rel=1e-5)
    assert found[1]["mean_map"][0] == pytest.approx(np.abs((maps[0] + maps[3]) / 2 - maps[1]).mean(), rel=1e-5)
    assert wrong_maps(maps[:1]) == [{}]


def test_a_yardstick_is_made_and_used(tmp_path: Path) -> None:
    folder = photos(tmp_path / "in", 20)
    with extended():
        net = underfire.classifier("toy")
        made, skipped = make_yardstick(net, "cam", str(folder), share=0.1)
        made.write(tmp_path / "y.json")
        assert read(tmp_path / "y.json") == made
        assert made.yardstick.n == 20 - len(skipped)
        assert set(made.yardstick.power) == {"pgd", "other_photo", "mean_map", "class_swap"}
        given = {"images": str(folder), "classifier": "toy", "limit": 2, "options": {"adv2": {"steps": 3}}}
        plain = make_plan(underfire.Settings.parse(given))
        settings = underfire.Settings.parse({**given, "yardstick": [str(tmp_path / "y.json")]})
        assert make_plan(settings).digest == plain.digest  # verdicts are computed on reading
        rows = underfire.run(settings, tmp_path / "out").results.rows()
        assert {row["yardstick"] for row in rows} == {made.digest[:12]}
        assert not any((tmp_path / "out" / "scale").iterdir())
        with pytest.raises(UnderfireError, match="another yardstick"):
            other = make_yardstick(net, "cam", str(folder), share=0.11)[0]
            other.write(tmp_path / "z.json")
            again = underfire.Settings.parse({**given, "yardstick": [str(tmp_path / "z.json")]})
            underfire.run(again, tmp_path / "out")
        elsewhere = {**given, "options": {}, "attack": "pgd", "interpreter": "grad"}
        with pytest.raises(UnderfireError, match="cam"):
            make_plan(underfire.Settings.parse({**elsewhere, "yardstick": [str(tmp_path / "y.json")]}))


def test_too_few_photos_are_told(tmp_path: Path) -> None:
    with extended(), pytest.raises(TooFewError, match="19"):
        make_yardstick(underfire.classifier("toy"), "cam", str(photos(tmp_path / "in", 2)))
