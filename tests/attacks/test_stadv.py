"""The flow field: against slow loops, PyTorch's sampler, finite differences and its own hard bound."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from support.e2e import TOY, photos, records, underfire
from support.toys import goal_for, pictures, victim
from underfire.attacks.search import Flow, Schedule
from underfire.attacks.search.flow import REFERENCE, length, roughness, warp
from underfire.attacks.stadv import adv2_stadv, stadv
from underfire.core import LEVELS
from underfire.images import maps, pixels


def random_flow(n: int, size: int, reach: float = 2.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return reach * (2 * torch.rand(n, 2, size, size, generator=generator, dtype=torch.float64) - 1)


def test_a_constant_flow_is_torch_s_affine_grid() -> None:
    x = pictures(1, size=8)
    flow = torch.tensor([1.25, -0.5], dtype=torch.float64).view(1, 2, 1, 1).expand(1, 2, 8, 8)
    theta = torch.tensor([[[1, 0, 2 * 1.25 / 8], [0, 1, -2 * 0.5 / 8]]], dtype=torch.float64)
    grid = F.affine_grid(theta, [1, 3, 8, 8], align_corners=False)
    wanted = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    torch.testing.assert_close(warp(x, flow), wanted)


def test_the_length_of_a_flow_is_torch_s_norm() -> None:
    flow = random_flow(3, 17)
    torch.testing.assert_close(length(flow), flow.norm(dim=1, keepdim=True), rtol=3e-7, atol=0)


def test_warp_and_roughness_have_the_gradients_of_finite_differences() -> None:
    x, flow = pictures(1, size=5), random_flow(1, 5, reach=0.9).requires_grad_()
    assert torch.autograd.gradcheck(lambda f: warp(x, f), flow)
    assert torch.autograd.gradcheck(roughness, flow)


@pytest.mark.parametrize("size", [32, 33, 128, 224, 260])
def test_no_flow_is_the_identity_to_the_byte(size: int) -> None:
    x = pictures(1, size, size=size).float()
    levels = pixels.to_levels(x)[0]
    walk = Flow(2.0).walk(x)
    assert pixels.encode_png(pixels.to_levels(walk.images())[0]) == pixels.encode_png(levels)
    assert {k: v.tolist() for k, v in walk.measures().items()} == {"flow_mean_px": [0.0], "flow_max_px": [0.0]}


@given(max_shift=st.floats(0, 5), sizes=st.lists(st.floats(0.01, 9), min_size=1, max_size=4), seed=st.integers(0, 99))
def test_the_walk_stays_in_its_bound_in_range_and_on_the_grid(max_shift: float, sizes: list[float], seed: int) -> None:
    x = pictures(2, seed, size=56)
    walk = Flow(max_shift, Schedule(max(sizes)), smooth=seed / 50).walk(x)
    for step in range(len(sizes) + 1):
        shown = walk.images()
        walk.step((shown * pictures(2, seed + step, size=56).sub(0.5)).sum((1, 2, 3)), 0.0)
    levels = walk.images().detach() * LEVELS
    assert float((levels - levels.round()).abs().max()) < 1e-9
    assert 0 <= float(levels.min()) <= float(levels.max()) <= LEVELS
    measured = walk.measures()
    assert float(measured["flow_max_px"].max()) <= max_shift * (1 + 1e-12)
    torch.testing.assert_close(levels / LEVELS, (warp(x, walk.flow.detach()) * LEVELS).round() / LEVELS)
    size = walk.flow.detach().square().sum(1).sqrt() * REFERENCE / 56
    torch.testing.assert_close(measured["flow_mean_px"], size.mean((1, 2)))
    torch.testing.assert_close(measured["flow_max_px"], size.amax((1, 2)))


def test_steps_are_adam_on_the_loss_and_the_penalty_through_the_rounding() -> None:
    size, eta, smooth = 14, 0.3, 0.7
    x, slope = pictures(1, size=size), pictures(1, 5, size=size) - 0.5
    walk = Flow(99.0, Schedule(eta), smooth).walk(x)
    flow = random_flow(1, size, 0.4).requires_grad_()
    walk.flow = flow.detach().clone()
    adam = torch.optim.Adam([flow], lr=eta * size / REFERENCE, betas=(0.75, 0.95), eps=0)
    for _ in range(3):
        walk.step((walk.images() * slope).sum((1, 2, 3)), 0.0)  # linear: rounding does not change its gradient
        adam.zero_grad()
        ((warp(x, flow) * slope).sum() + smooth * roughness(flow).sum()).backward()  # type: ignore[no-untyped-call]
        adam.step()
    torch.testing.assert_close(walk.flow.detach(), flow.detach(), rtol=0, atol=1e-9)


def test_the_walk_goes_on_with_the_rows_kept() -> None:
    x, slope, keep = pictures(3), pictures(3, 1) - 0.5, torch.tensor([True, False, True])
    whole, part = (Flow(2.0, Schedule(3.0)).walk(x) for _ in range(2))
    for walk in (whole, part):
        walk.step((walk.images() * slope).sum((1, 2, 3)), 0.0)
    part.select(keep)
    whole.step((whole.images() * slope.flip(0)).sum((1, 2, 3)), 0.0)
    part.step((part.images() * slope.flip(0)[keep]).sum((1, 2, 3)), 0.0)
    torch.testing.assert_close(part.images(), whole.images()[keep])
    torch.testing.assert_close(part.measures()["flow_max_px"], whole.measures()["flow_max_px"][keep])


def test_bending_moves_the_prediction_and_its_adv2_also_keeps_the_map() -> None:
    system, cam = victim()
    x = pictures(6)
    goal = goal_for(cam, x)
    distance, won = {}, {}
    for maker in (stadv, adv2_stadv):
        made = maker.make("fast", "cam", 8, max_shift=30.0, steps=60, stop_confidence=None, step=4.0, smooth=0.0)
        found = made.run(system, x, goal, range(6))
        x_hat = pixels.to_tensor(pixels.to_levels(found.images)).double()
        won[made.name] = int((system.classifier.logits(x_hat).argmax(1) == goal.labels).sum())
        distance[made.name] = float(maps.l1(cam.explain(x_hat, goal.labels), goal.maps["cam"]).mean())
        assert float(found.extras["flow_max_px"].max()) <= 30.0 + 1e-9
    assert won["stadv"] >= 4
    assert distance["adv2-stadv"] < 0.8 * distance["stadv"]


def test_records_say_how_far_and_have_no_budget_of_levels(tmp_path: Path) -> None:
    words = ("--attack", "pgd", "--attack", "stadv", "--attack", "adv2-stadv", "--set", "stadv.steps=3")
    command = ("--images", photos(tmp_path / "in", 2), "--classifier", "toy", "--threads", "1", *words)
    more = ("--set", "adv2-stadv.steps=3", "--set", "pgd.steps=3", "--max-shift", "3", "--out", tmp_path / "out")
    assert underfire("run", *command, *more).code == 0
    for row in records(tmp_path / "out"):
        if row["attack"] == "pgd":
            assert row["eps"] == 8
            assert row["flow_mean_px"] is row["flow_max_px"] is None
        else:
            assert row["eps"] is None
            assert row["linf_levels"] > 0
            assert 0 < row["flow_mean_px"] < row["flow_max_px"] <= 3 + 1e-6
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "StAdv" in page
    assert "The largest shift found: " in page
    assert "max_shift: 3.0" in (tmp_path / "out" / "plan.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("word", ["-1", "wide"])
def test_a_bound_that_is_none_is_refused(tmp_path: Path, word: str) -> None:
    said = underfire("run", "--images", photos(tmp_path / "in", 1), *TOY, "--attack", "stadv", "--max-shift", word)
    assert said.code == 2
    assert f"--max-shift {word}" in said.err
