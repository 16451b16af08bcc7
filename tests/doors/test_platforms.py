"""The way back through what platforms do is the transpose where that is linear, and straight through elsewhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from underfire.core import Preprocess, UnderfireError
from underfire.doors.entrance import Entrance
from underfire.doors.platforms import Blurred, Cut, Draw, Encoded, Gamma, Resized, Step, habits
from underfire.images.saving import FilePhoto, Saver
from underfire.registry import maker

SIZE = 16
LINEAR = {
    "smaller": Resized(0.6),
    "larger": Resized(1.5),
    "longer": Resized(longer=30),
    "cut": Cut(0.8),
    "shift": Cut(shift=3),
}


def soft(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    small = np.random.default_rng(seed).integers(60, 190, (height, width, 3))
    return small.astype(np.uint8)


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_step_goes_back_by_its_transpose(name: str) -> None:
    step, p = LINEAR[name], soft(40, 52)
    out = step.forward(p)
    g = np.random.default_rng(1).standard_normal(out.shape).astype(np.float32)
    assert step.size == out.shape[:2]
    # ⟨T p, g⟩ = ⟨p, Tᵀ g⟩ but for the rounding of T p, which is at most half a level twice
    apart = float((out * g).sum() - (p * step.back(g)).sum())
    assert abs(apart) < 0.5 * float(np.abs(g).sum()) * 0.05


@pytest.mark.parametrize("step", [Encoded("JPEG", 90), Encoded("WEBP", 90), Blurred(0.7), Gamma(1.2)], ids=type)
def test_other_steps_go_back_in_the_right_direction(step: Step) -> None:
    """A photo that goes against the gradient has a smaller value behind the step."""
    p = np.repeat(np.repeat(soft(10, 10), 8, 0), 8, 1)
    g = np.repeat(np.repeat(np.random.default_rng(1).standard_normal((10, 10, 3)), 8, 0), 8, 1).astype(np.float32)
    before = float((step.forward(p).astype(float) * g).sum())
    down = step.back(g)
    after = np.clip(p - 8 * np.sign(down), 0, 255).astype(np.uint8)
    assert float((step.forward(after).astype(float) * g).sum()) < before


def entrance(through: str = "", lossy: bool = False) -> Entrance:
    saver = Saver("JPEG", {"quality": 90}, True, "jpeg 90") if lossy else Saver("PNG")
    photos = [FilePhoto(soft(30, 41), saver), FilePhoto(soft(52, 28, 2), saver)]
    door = maker("doors", "pillow")("", Preprocess(SIZE, 18, interpolation="bilinear"))
    draws = [Draw(habits(through), seed) for seed in (1, 2)] if through else ()
    return Entrance(door, photos, torch.zeros(1), draws)


@pytest.mark.parametrize("through", ["", "resize:0.7", "crop:0.9", "long:35"])
@pytest.mark.parametrize("lossy", [False, True])
def test_a_step_against_the_gradient_lowers_what_is_shown(through: str, lossy: bool) -> None:
    """What the search relies on, on the whole way: save, platform, door, and back."""
    way = entrance(through, lossy)
    way.lanes[0].draw = way.lanes[1].draw = None
    if through:
        for lane in way.lanes:
            lane.draw = Draw(habits(through), 0)
            lane.draw.next = lambda: [habits(through)[0].step(np.random.default_rng(0))]  # type: ignore[method-assign]
    parts = list(way.clean)
    x = way.shown(parts)
    g = torch.nn.functional.interpolate(torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)), SIZE)
    back = [slope.whole() for slope in way.back(g)]
    moved = [(part - 6 / 255 * slope.sign()).clamp(0, 1) for part, slope in zip(parts, back, strict=True)]
    assert all(slope.shape == part.shape for part, slope in zip(parts, back, strict=True))
    assert float(((way.shown(moved) - x) * g).sum()) < -0.5 * 6 / 255 * float(g.abs().sum())


def test_the_way_back_is_exact_where_nothing_is_rounded() -> None:
    way = entrance()
    rng, g = np.random.default_rng(0), torch.randn(2, 3, SIZE, SIZE)
    for lane, slope, one in zip(way.lanes, way.back(g), g, strict=True):
        p = rng.standard_normal((*lane.photo.pixels.shape,))
        inside = np.zeros_like(p)
        box = lane.box
        inside[box.top : box.bottom, box.left : box.right] = p[box.top : box.bottom, box.left : box.right]
        way_of: Any = lane.way
        told = float((way_of.forward(inside) * one.permute(1, 2, 0).numpy()).sum())
        part = torch.from_numpy(inside[box.top : box.bottom, box.left : box.right]).permute(2, 0, 1)[None]
        assert told == pytest.approx(float((part * slope.whole()).sum()), abs=1e-3)


def test_files_leave_the_batch_by_themselves() -> None:
    way = entrance()
    shown = way.shown(way.clean)
    way.select(torch.tensor([False, True]))
    assert torch.equal(way.shown(way.clean)[0], shown[1])
    assert len(way.views) == 1


@pytest.mark.parametrize("word", ["jpeg", "jpeg:0", "jpeg:90-80", "crop:2", "blur:-1", "shift:x"])
def test_habits_that_make_no_sense_are_told(word: str) -> None:
    with pytest.raises(UnderfireError, match="needs a number"):
        habits(word)
