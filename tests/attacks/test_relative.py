"""λ in units of each photo's own distance: the size of an interpreter's ℓ_int does not matter."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from support import toys
from underfire.attacks.adv2 import adv2
from underfire.attacks.presets.families import AT_THE_IMAGE, BY_LAYER, BY_POINTS, BY_REMOVAL
from underfire.core import Goal, Images, Terms, Victim
from underfire.core.hashing import spell
from underfire.interpreters.cam import Cam, CamSurrogate


class Times(Cam):
    """CAM whose ℓ_int is some times as large, photo by photo."""

    times = 1.0

    def surrogate(self, x: Images, goal: Goal, **options: object) -> CamSurrogate:
        times = self.times

        class Scaled(CamSurrogate):
            def terms(self, x: Images) -> Terms:
                terms = super().terms(x)
                return terms._replace(loss=times * terms.loss)

        return Scaled(self, goal)


def found(times: float, **settings: Any) -> Images:
    classifier, x = toys.toy(), toys.pictures(4)
    cam = Times(classifier)
    cam.times = times
    attack = adv2.make("fast", "cam", 8, steps=20, warmup=3, **settings)
    return attack.run(Victim(classifier, (cam,)), x, toys.goal_for(cam, x), range(4)).images


def test_the_size_of_a_distance_changes_nothing() -> None:
    assert torch.equal(found(1.0, relative=True, lam=3), found(1024.0, relative=True, lam=3))
    assert not torch.equal(found(1.0, lam=3), found(1024.0, lam=3))


def test_it_is_no_part_of_a_digest_where_it_is_off() -> None:
    assert "relative" not in spell(adv2.make("fast", "cam", 8))
    assert "relative=True" in spell(adv2.make("fast", "gradcam", 8))


@pytest.mark.parametrize("name", [*BY_LAYER, *BY_POINTS, *AT_THE_IMAGE, *BY_REMOVAL, "somebody-elses"])
@pytest.mark.parametrize("preset", ["fast", "thorough"])
@pytest.mark.parametrize("attack", ["adv2", "adv2-stadv"])
def test_no_deployed_interpreter_has_a_number_of_its_own(name: str, preset: str, attack: str) -> None:
    from underfire import registry

    settings = registry.maker("attacks", attack).make(preset, name, *([8] if attack == "adv2" else [2.0])).settings
    assert settings.relative
    assert settings.lam.start <= 3
