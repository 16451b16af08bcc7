"""The frozen convolution as a linear map, against PyTorch's own derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from underfire.classifiers.base import wrap
from underfire.core.precision import searching
from underfire.interpreters.smooth import Slope, smoothed
from underfire.passes import Depthwise, conv2d

LAST = torch.channels_last
# channels in and out, kernel, stride, padding, dilation, groups
GEOMETRIES: dict[str, tuple[Any, ...]] = {
    "depthwise": (6, 6, 3, 1, 1, 1, 6),
    "depthwise, stride 2": (6, 6, 3, 2, 1, 1, 6),
    "depthwise, oblong, stride 3": (6, 6, (5, 3), (3, 2), (2, 0), 1, 6),
    "depthwise, dilated": (6, 6, 3, 1, 2, 2, 6),
    "depthwise, padded beyond its kernel": (6, 6, 3, 1, 3, 1, 6),
    "depthwise, two for each": (6, 12, 3, 1, 1, 1, 6),
    "pointwise": (6, 4, 1, 1, 0, 1, 1),
    "pointwise, stride 2": (6, 4, 1, 2, 0, 1, 1),
    "groups": (6, 4, 3, 2, 1, 1, 2),
    "dense": (6, 4, 3, 2, 1, 1, 1),
}


def derivatives(f: Callable[[Tensor], Tensor], z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    z = z.detach().requires_grad_()
    y = f(z)
    first = torch.autograd.grad(y.pow(3).sum(), z, create_graph=True)[0]
    return y.detach(), first.detach(), torch.autograd.grad(first.square().sum(), z)[0]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("what", GEOMETRIES)
def test_its_derivatives_are_pytorchs_in_both_layouts(what: str, last: bool) -> None:
    inside, outside, *geometry = GEOMETRIES[what]
    torch.manual_seed(0)
    conv = nn.Conv2d(inside, outside, *geometry).double().requires_grad_(False)
    z = torch.randn(2, inside, 9, 8, dtype=torch.float64)
    form = LAST if last else torch.contiguous_format

    def ours(z: Tensor) -> Tensor:
        y: Tensor = conv2d(F.conv2d, z.contiguous(memory_format=form), conv.weight, conv.bias, *geometry[1:])
        return y

    for a, b in zip(derivatives(ours, z), derivatives(conv, z), strict=True):
        torch.testing.assert_close(a, b)


def test_the_gradient_lies_as_the_input_does() -> None:
    weight = torch.randn(6, 1, 3, 3)
    z = torch.randn(2, 6, 9, 8).contiguous(memory_format=LAST).requires_grad_()
    y = conv2d(F.conv2d, z, weight, None, 2, 1, 1, 6)
    g = torch.autograd.grad(y.sum(), z)[0]
    assert g.is_contiguous(memory_format=LAST) and not g.is_contiguous()


def test_depthwise_layers_of_a_search_in_bfloat16_have_the_gradient_of_float32_up_to_its_rounding() -> None:
    torch.manual_seed(0)
    depthwise = nn.Conv2d(16, 16, 3, stride=2, padding=1, groups=16)
    net = nn.Sequential(nn.Conv2d(3, 16, 1), depthwise, nn.Conv2d(16, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = wrap(net, input_size=32)
    x = torch.rand(2, 3, 32, 32, requires_grad=True)
    found = {}
    for word in ("fp32", "bf16-last"):
        with searching(word):
            found[word] = torch.autograd.grad(classifier.logits(x)[:, 1].sum(), x)[0]
    error = (found["bf16-last"] - found["fp32"]).abs().sum() / found["fp32"].abs().sum()
    assert 0 < float(error) < 0.02


class Filtered(nn.Module):
    """A depthwise convolution with a filter that is no parameter, as in anti-aliased networks."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filter", torch.full((16, 1, 3, 3), 1 / 9))

    def forward(self, x: Tensor) -> Tensor:
        """Blur and shrink."""
        return F.conv2d(x, self.get_buffer("filter"), None, (2,), (1,), 1, 16)


@pytest.mark.parametrize("kind", ["buffer", "parametrised"])
def test_weights_that_a_search_does_not_cast_beforehand(kind: str) -> None:
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.spectral_norm(nn.Conv2d(16, 16, 3, padding=1, groups=16))
    shrinks = Filtered() if kind == "buffer" else layer
    net = nn.Sequential(nn.Conv2d(3, 16, 1), nn.ReLU(), shrinks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    classifier = wrap(net, input_size=32)
    x = torch.rand(2, 3, 32, 32, requires_grad=True)
    with searching("bf16-last"), smoothed(Slope()):
        first = torch.autograd.grad(classifier.logits(x)[:, 1].sum(), x, create_graph=True)[0]
        assert bool(torch.autograd.grad(first.square().sum(), x)[0].isfinite().all())


def test_the_mode_sees_depthwise_layers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    ours = conv2d

    def noted(func: Any, *args: Any, **own: Any) -> Any:
        seen.append(args[6])
        return ours(func, *args, **own)

    monkeypatch.setattr("underfire.passes.convolution.conv2d", noted)
    z = torch.randn(1, 4, 6, 6, requires_grad=True)
    with Depthwise():
        F.conv2d(z, torch.randn(4, 4, 3, 3), None, 1, 1, 1, 1)
        F.conv2d(z, torch.randn(4, 1, 3, 3), None, 1, 1, 1, 4)
        with torch.no_grad():
            F.conv2d(z, torch.randn(4, 1, 3, 3), None, 1, 1, 1, 4)
    assert seen == [4]


def test_weights_that_are_trained_keep_pytorchs_own_convolution() -> None:
    z, weight = torch.randn(1, 4, 6, 6), torch.randn(4, 1, 3, 3, requires_grad=True)
    with Depthwise():
        y = F.conv2d(z, weight, None, 1, 1, 1, 4)
    assert torch.autograd.grad(y.sum(), weight)[0].abs().sum() > 0
