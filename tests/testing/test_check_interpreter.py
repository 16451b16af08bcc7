"""An interpreter that breaks a rule is told by the rule's name."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from torch import Tensor

from support import toys
from support.broken import Change, X, behind_the_meter, told
from underfire import testing
from underfire.core import Goal, Images, Labels, Maps, Terms
from underfire.interpreters.cam import Cam, CamSurrogate


class BrokenCam(Cam):
    """CAM with maps, terms or rows that are changed."""

    def __init__(self, maps: Change | None = None, terms: Change | None = None, rows: Change | None = None) -> None:
        super().__init__(toys.toy())
        self.maps, self.changed, self.rows, self.asked = maps, terms, rows, 0

    def explain(self, x: Images, y: Labels) -> Maps:
        self.asked += 1
        m = super().explain(x, y)
        return m if self.maps is None else self.maps(self, m, x)

    def surrogate(self, x: Images, goal: Goal, **options: object) -> BrokenSurrogate:
        return BrokenSurrogate(self, goal)


class BrokenSurrogate(CamSurrogate):
    cam: BrokenCam

    def terms(self, x: Images) -> Terms:
        t = super().terms(x)
        return t if self.cam.changed is None else self.cam.changed(self, t, x)

    def select(self, keep: Tensor) -> None:
        super().select(keep if self.cam.rows is None else self.cam.rows(keep))


def saying(map_passes: float, step_passes: float) -> BrokenCam:
    """CAM that costs 1 F a map and 3 F a step, whatever it says."""
    cam = BrokenCam()
    cam.map_passes, cam.step_passes = map_passes, step_passes
    return cam


MAPS: list[tuple[str, Change]] = [
    ("shape", lambda cam, m, x: m[:, None]),
    ("shape", lambda cam, m, x: m.mean(0, keepdim=True)),
    ("type", lambda cam, m, x: (255 * m).byte()),
    ("type", lambda cam, m, x: m.clone().requires_grad_()),
    ("range", lambda cam, m, x: 2 * m),
    ("range", lambda cam, m, x: m - 0.5),
    ("range", lambda cam, m, x: m + math.nan),
    ("repeat", lambda cam, m, x: m * (1 - 1e-6 * cam.asked)),
    ("batch", lambda cam, m, x: m * x.mean()),
    ("metered", lambda cam, m, x: m + behind_the_meter(cam.classifier, x)),
]
TERMS: list[tuple[str, Change]] = [
    ("logits", lambda s, t, x: t._replace(logits=2 * t.logits)),
    ("loss", lambda s, t, x: t._replace(loss=t.loss.mean())),
    ("loss", lambda s, t, x: t._replace(loss=t.loss * math.nan)),
    ("shown", lambda s, t, x: t._replace(maps=None)),
    ("shown", lambda s, t, x: t._replace(maps=t.maps.square())),
    ("gradient", lambda s, t, x: t._replace(loss=t.loss.detach() + 0 * t.loss)),
    ("gradient", lambda s, t, x: t._replace(loss=0.99 * t.loss + 0.01 * t.loss.detach())),
    ("metered", lambda s, t, x: t._replace(loss=t.loss + behind_the_meter(s.cam.classifier, x))),
]


def broken_cams() -> Iterator[tuple[str, BrokenCam]]:
    yield from ((rule, BrokenCam(maps=change)) for rule, change in MAPS)
    yield from ((rule, BrokenCam(terms=change)) for rule, change in TERMS)
    yield "select", BrokenCam(rows=lambda keep: keep.flip(0))
    yield from (("cost", saying(*passes)) for passes in ((0.9, 3.0), (1.2, 3.0), (1.0, 2.9)))


@pytest.mark.parametrize(("rule", "cam"), list(broken_cams()))
def test_an_interpreter_that_breaks_a_rule_is_told(rule: str, cam: BrokenCam) -> None:
    assert told(lambda: testing.check_interpreter(cam, cam.classifier, X), "cam") == rule


def test_slopes_that_are_not_the_values_own_can_be_allowed() -> None:
    cam = BrokenCam(terms=lambda s, t, x: t._replace(loss=0.5 * t.loss + 0.5 * t.loss.detach()))
    testing.check_interpreter(cam, cam.classifier, X, smooth=False)
