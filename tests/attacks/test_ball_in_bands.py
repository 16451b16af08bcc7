"""The ball in bands of rows walks as the ball does, with its momentum at the input; held against a bare loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from underfire.attacks.search import Schedule
from underfire.attacks.search.ball import Ball, BallWalk
from underfire.attacks.search.file import FileWalk
from underfire.attacks.search.finite import NotFinite
from underfire.core import Preprocess
from underfire.doors import bands
from underfire.doors.entrance import Entrance
from underfire.doors.platforms import Draw, habits
from underfire.images.saving import FilePhoto, Saver
from underfire.registry import maker

SIZE = 16
SHAPES = ((30, 41), (52, 28), (16, 17))
BALL = Ball(5, Schedule(2.0, 0.1, "geometric"), momentum=0.75)


@pytest.fixture(autouse=True)
def _short_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "BAND", 300)


def entrance(through: str = "", resize: int = 18) -> Entrance:
    rng = np.random.default_rng(0)
    photos = [FilePhoto(rng.integers(0, 256, (*shape, 3), np.uint8), Saver("PNG")) for shape in SHAPES]
    door = maker("doors", "pillow")("", Preprocess(SIZE, resize, interpolation="bicubic"))
    return Entrance(door, photos, torch.zeros(1), [Draw(habits(through), n) for n in range(3)] if through else ())


def loss_of(x: Tensor, weights: Tensor) -> Tensor:
    """Give losses whose slope turns round within a few levels, so that the momentum counts."""
    return ((200 * x).cos() * weights).sum((1, 2, 3))


def walked(walk: FileWalk, steps: int = 6) -> list[Tensor]:
    weights = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    for step in range(steps):
        walk.step(loss_of(walk.images(), weights), step / steps)
    return [one.where(0) for one in walk.walks]


def by_hand(steps: int = 6) -> list[Tensor]:
    """Walk with whole gradients, by scipy's matrices and in double precision."""
    files = entrance()
    weights = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    found = []
    for lane, weight in zip(files.lanes, weights, strict=True):
        clean = (lane.clean[0] * 255).round().double()
        p, v = clean.clone(), torch.zeros(3, SIZE, SIZE, dtype=torch.float64)
        for step in range(steps):
            x = lane.door.enter(lane.whole(p.round().byte()[None])).transpose(2, 0, 1) / np.float32(255)
            g = -200 * (200 * torch.from_numpy(x).double()).sin() * weight.double()
            v = 0.75 * v + g / g.abs().sum()
            back = torch.from_numpy(lane.way.back(v.permute(1, 2, 0).float().numpy())).permute(2, 0, 1)
            p = p - BALL.step.at(step / steps) * back.sign()
            p = torch.minimum(torch.maximum(p, (clean - 5).clamp_min(0)), (clean + 5).clamp_max(255))
        found.append(p[None])
    return found


def test_it_walks_as_a_bare_loop_does() -> None:
    for ours, theirs in zip(walked(FileWalk(BALL, entrance())), by_hand(), strict=True):
        apart = (ours - theirs).abs()
        assert float((apart > 1e-3).float().mean()) < 1e-3  # a gradient of nearly nothing may have either sign
        assert (ours.round() - theirs.round()).abs().max() <= 5


@pytest.mark.parametrize("resize", [SIZE, 18])
def test_at_a_door_that_only_crops_it_is_the_walk_at_the_input(resize: int) -> None:
    """Photos of the input's own size: the file is the input, to the bit; behind another door it is not."""
    rng = np.random.default_rng(0)
    photos = [FilePhoto(rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8), Saver("PNG")) for _ in range(3)]
    door = maker("doors", "pillow")("", Preprocess(SIZE, resize, interpolation="bicubic"))
    files = entrance()
    files = Entrance(door, photos, torch.zeros(1))
    x = files.shown(files.clean)
    at_input, weights = BALL.walk(x), torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    for step in range(6):
        at_input.step(loss_of(at_input.images(), weights), step / 6)
    found = torch.cat([part[..., :SIZE, :SIZE] for part in walked(FileWalk(BALL, files))])
    same = found.shape == at_input.position.shape and torch.equal(found, at_input.position)
    assert same == (resize == SIZE)


def test_what_was_kept_is_not_overwritten_by_the_next_step() -> None:
    walk, weights = FileWalk(BALL, entrance()), torch.ones(3, 3, SIZE, SIZE)
    x = walk.images()
    walk.keep(torch.tensor([True, False, True]))
    first = [part.clone() for part in walk.kept()]
    for _ in range(2):
        walk.step(loss_of(x, weights), 0.5)
        x = walk.images()
    assert all(torch.equal(*pair) for pair in zip(walk.kept(), first, strict=True))
    walk.keep(torch.tensor([False, True, False]))
    assert [torch.equal(*pair) for pair in zip(walk.kept(), first, strict=True)] == [True, False, True]


def test_files_that_are_done_leave_the_others_as_they_are() -> None:
    weights = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    all_of_them, some = FileWalk(BALL, entrance()), FileWalk(BALL, entrance())
    keep = torch.tensor([True, False, True])
    for step in range(4):
        all_of_them.step(loss_of(all_of_them.images(), weights), step / 4)
        some.step(loss_of(some.images(), weights if step < 2 else weights[keep]), step / 4)
        if step == 1:
            some.select(keep)
    pairs = zip([all_of_them.walks[n] for n in (0, 2)], some.walks, strict=True)
    assert all(torch.equal(a.where(0), b.where(0)) for a, b in pairs)


def test_a_gradient_that_is_not_finite_names_its_file() -> None:
    walk = FileWalk(BALL, entrance())
    weights = torch.ones(3, 3, SIZE, SIZE)
    weights[1] = torch.inf
    with pytest.raises(NotFinite) as told:
        walk.step(loss_of(walk.images(), weights), 0.0)
    assert list(told.value.by_row) == [1]


def test_what_a_platform_changes_at_each_step_has_its_momentum_in_the_file() -> None:
    walk = FileWalk(BALL, entrance("resize:0.5-1"))
    assert all(isinstance(one, BallWalk) for one in walk.walks)
    assert all(bool(p.isfinite().all()) for p in walked(walk))
    assert not any(isinstance(one, BallWalk) for one in FileWalk(BALL, entrance()).walks)


def test_a_step_can_be_cut_short_and_gone_back_to() -> None:
    files = entrance()
    walk, weights = FileWalk(BALL, files), torch.randn(3, 3, SIZE, SIZE)
    x = walk.images()
    walk.aim(loss_of(x, weights), 0.0)
    tried = walk.tried(torch.full((3,), 0.5))
    start = [walk.where(n) for n in range(3)]
    walk.go(torch.full((3,), 0.5))
    assert torch.equal(walk.images(), tried)
    assert not torch.equal(tried, x)
    walk.go_to(start)
    assert torch.equal(walk.images(), x)
    walk.go_to([one + 100 for one in start])  # the nearest place in the ball
    assert all(float((one.where(0) - p).abs().max()) <= 5 for one, p in zip(walk.walks, start, strict=True))
