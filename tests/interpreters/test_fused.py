"""Compiled slopes against those that are taken a step at a time, and a search's twin with them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.exc import FailOnRecompileLimitHit

from underfire.core.precision import searching
from underfire.interpreters.smooth import Kinks, Slope, bend, fused, smoothed

KINKS = Kinks(0.1, (0.0, 6.0), (0.9, -1.0))


@pytest.fixture(scope="module", autouse=True)
def _with_a_compiler() -> None:
    if not fused._works():
        pytest.skip("there is no C++ compiler")


@pytest.mark.parametrize("kind", ["monotone", "published"])
def test_slopes_at_once_are_those_a_step_at_a_time(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slope = Slope(kind, 3e-3)
    if kind == "published":  # as written: to compile it too takes its time and shows nothing more
        for of in ("_sloped", "_curved"):
            written = getattr(fused, of)(KINKS, kind).written
            monkeypatch.setattr(fused, of, lambda *_, written=written: fused.Fused(written, written))
    z, g, other = torch.randn(3, 4, 5, 7, 6, generator=torch.Generator().manual_seed(0)).unbind()
    z = (4 * z).contiguous(memory_format=torch.channels_last)
    z, g, other = bend._laid_out(z, g, other)
    h = bend.slopes_at(z, KINKS, slope)
    found = (fused.sloped(z, g, KINKS, slope), *fused.curved(z, g, other, KINKS, slope))
    for a, b in zip(found, (g * h, *bend.curved(z, g, h, other, KINKS, slope)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
        assert a.stride() == z.stride()


def test_what_is_stored_in_bfloat16_is_computed_in_float32() -> None:
    z, g = torch.randn(2, 3, 1000, generator=torch.Generator().manual_seed(0)).bfloat16().unbind()
    found = fused.sloped(z, g, KINKS, Slope())
    assert found.dtype == torch.bfloat16
    wanted = g.float() * bend.slopes_at(z.float(), KINKS, Slope())
    assert torch.equal(found, wanted.bfloat16())


def test_a_function_that_cannot_be_compiled_is_taken_as_written() -> None:
    def refuses(*_: Tensor) -> Tensor:
        raise FailOnRecompileLimitHit("recompile_limit reached")

    z, g = torch.randn(2, 24).unbind()
    one = fused._sloped(KINKS, "monotone")
    torch.testing.assert_close(fused.Fused(refuses, one.written)(Slope(), z, g), one(Slope(), z, g))


def test_a_kink_of_a_single_number() -> None:
    x = (torch.rand(2, 3, 4, 4) + 1).requires_grad_()
    with searching("fp32-last"), smoothed(Slope()):
        y = x / x.mean().clamp(min=0.5)
        assert bool(torch.autograd.grad(y.square().sum(), x)[0].isfinite().all())


def twice(net: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    with smoothed(Slope()):
        first = torch.autograd.grad(net(x).pow(2).sum(), x, create_graph=True)[0]
    return first.detach(), torch.autograd.grad(first.square().sum(), x)[0]


def test_a_search_with_the_channels_last_has_the_same_twin() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU6(), nn.Conv2d(8, 8, 3, groups=8), nn.ReLU(), nn.Conv2d(8, 2, 1))
    net, x = net.requires_grad_(False), torch.randn(2, 3, 12, 12)
    wanted = twice(net, x)
    with searching("fp32-last"):
        found = twice(net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last))
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_float32_as_the_judge_computes_is_never_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused, "sloped", lambda *_: pytest.fail("it is compiled"))
    twice(nn.ReLU(), torch.randn(2, 3, 4, 4))
