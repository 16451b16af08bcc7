"""The smoothed twin: slopes, second derivatives, and that nothing is left behind."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from underfire.core import UnderfireError
from underfire.interpreters.smooth import Kinks, Slope, bend, smoothed

KINDS = ("monotone", "published")
Activation = Callable[[Tensor], Tensor]


def step_monotone(z: float, tau: float) -> float:
    return 0.5 * (1 + z / math.sqrt(z * z + tau))


def step_published(z: float, tau: float) -> float:
    root = math.sqrt(z * z + tau)
    return 1 + z / root if z < 0 else z / root


STEP = {"monotone": step_monotone, "published": step_published}
# name -> the function, and its slope as a sum of steps, written down once more
ACTIVATIONS: dict[str, tuple[Activation, float, list[tuple[float, float]]]] = {
    "relu module": (nn.ReLU(), 0.0, [(0.0, 1.0)]),
    "relu in place": (lambda z: nn.ReLU(inplace=True)(z * 1), 0.0, [(0.0, 1.0)]),
    "relu function": (F.relu, 0.0, [(0.0, 1.0)]),
    "relu method": (lambda z: z.relu(), 0.0, [(0.0, 1.0)]),
    "torch.relu": (torch.relu, 0.0, [(0.0, 1.0)]),
    "relu6 module": (nn.ReLU6(), 0.0, [(0.0, 1.0), (6.0, -1.0)]),
    "relu6 function": (F.relu6, 0.0, [(0.0, 1.0), (6.0, -1.0)]),
    "hardtanh": (nn.Hardtanh(-2.0, 3.0), 0.0, [(-2.0, 1.0), (3.0, -1.0)]),
    "leaky": (nn.LeakyReLU(0.2), 0.2, [(0.0, 0.8)]),
    "hard-sigmoid": (nn.Hardsigmoid(), 0.0, [(-3.0, 1 / 6), (3.0, -1 / 6)]),
    "clamp": (lambda z: z.clamp(min=0.5), 0.0, [(0.5, 1.0)]),
    "clamp_min": (lambda z: z.clamp_min(0.5), 0.0, [(0.5, 1.0)]),
    "clamp_max": (lambda z: torch.clamp_max(z, 6), 1.0, [(6.0, -1.0)]),
    "clip": (lambda z: torch.clip(z, 0.0), 0.0, [(0.0, 1.0)]),
    "clamp with a tensor": (lambda z: z.clamp(torch.zeros_like(z)), 0.0, [(0.0, 1.0)]),
    "clamp in place": (lambda z: (z * 1).clamp_(min=0.5), 0.0, [(0.5, 1.0)]),
    "rrelu": (nn.RReLU(0.1, 0.3).eval(), 0.2, [(0.0, 0.8)]),
    "threshold": (nn.Threshold(0.0, 0.0), 0.0, [(0.0, 1.0)]),
    "soft shrink": (nn.Softshrink(0.5), 1.0, [(-0.5, -1.0), (0.5, 1.0)]),
    "abs": (abs, -1.0, [(0.0, 2.0)]),
    "maximum": (lambda z: torch.maximum(z, torch.zeros(1)), 0.0, [(0.0, 1.0)]),
    "minimum": (lambda z: torch.min(z, torch.full((1,), 6.0)), 1.0, [(6.0, -1.0)]),
    "where": (lambda z: torch.where(z > 0, z, 0.0), 0.0, [(0.0, 1.0)]),
    "where, leaky": (lambda z: z.where(z >= 0, 0.2 * z), 0.2, [(0.0, 0.8)]),
    "product": (lambda z: z * (z > 0), 0.0, [(0.0, 1.0)]),
    "product with numbers": (lambda z: (z > 0).to(z.dtype) * z, 0.0, [(0.0, 1.0)]),
    "product with what is not": (lambda z: z.mul(~(z <= 0)), 0.0, [(0.0, 1.0)]),
    "masked": (lambda z: z.masked_fill(z < 0, 0.0), 0.0, [(0.0, 1.0)]),
    "aten": (torch.ops.aten.relu, 0.0, [(0.0, 1.0)]),
    "aten overload": (lambda z: torch.ops.aten.clamp_min.default(z, 0), 0.0, [(0.0, 1.0)]),
    "clamp both": (lambda z: torch.clamp(z, 0.0, 6.0), 0.0, [(0.0, 1.0), (6.0, -1.0)]),
}


def slope_at(f: Activation, z: Tensor, slope: Slope) -> Tensor:
    z = z.clone().requires_grad_()
    with smoothed(slope):
        y = f(z)
    return torch.autograd.grad(y.sum(), z)[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_slopes_follow_their_formula_at_near_and_far_from_each_kink(name: str, kind: str) -> None:
    f, base, kinks = ACTIVATIONS[name]
    tau = 1e-2
    around = [at + d for at, _ in kinks for d in (-50.0, -1.0, -0.1, -1e-3, 0.0, 1e-3, 0.1, 1.0, 50.0)]
    z = torch.tensor(around, dtype=torch.float64)
    expected = [base + sum(gain * STEP[kind](v - at, tau) for at, gain in kinks) for v in around]
    torch.testing.assert_close(slope_at(f, z, Slope(kind, tau)), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_forward_stays_exact(name: str) -> None:
    f = ACTIVATIONS[name][0]
    z = torch.linspace(-8, 8, 101)
    with smoothed(Slope()):
        inside = f(z.clone())
    assert torch.equal(inside, f(z.clone()))


def _relu_unused(z: Tensor) -> Tensor:
    F.relu(z, inplace=True)
    return z


def _assigned(z: Tensor) -> Tensor:
    z[z < 0] = 0
    return z


def _part(z: Tensor) -> Tensor:
    z[:50].relu_()
    return z


def _product(z: Tensor) -> Tensor:
    z *= z > 0
    return z


WRITTEN: dict[str, Activation] = {
    "return unused": _relu_unused,
    "method": lambda z: z.relu_(),
    "clamp": lambda z: torch.clamp_(z, 0, 6),
    "clamp_min": lambda z: z.clamp_min_(0.0),
    "hard swish": lambda z: F.hardswish(z, inplace=True),
    "leaky": lambda z: F.leaky_relu(z, 0.1, True),
    "selu": lambda z: F.selu(z, inplace=True),
    "assigned": _assigned,
    "a view": _part,
    "product": _product,
    "threshold": lambda z: F.threshold(z, 0.0, 0.0, True),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_the_network_writes_in_place_is_written(name: str) -> None:
    f, start = WRITTEN[name], torch.linspace(-8, 8, 101, dtype=torch.float64).requires_grad_()
    plain, inside = start * 1, start * 1
    f(plain)
    with smoothed(Slope(tau=1e-12)):
        returned = f(inside)
        slope = torch.autograd.grad((inside**2).sum(), start, create_graph=True)[0]
    torch.testing.assert_close(inside, plain)
    assert returned.data_ptr() == inside.data_ptr()
    at_ease = (start.detach().abs() > 0.1) & ((start.detach().abs() - 3).abs() > 0.1)
    expected = torch.autograd.grad((plain**2).sum(), start)[0]
    torch.testing.assert_close(slope.detach()[at_ease], expected[at_ease], rtol=1e-4, atol=1e-6)
    with smoothed(Slope(tau=0.1)):
        inside = start * 1
        f(inside)
        slope = torch.autograd.grad((inside * torch.arange(101.0)).sum(), start, create_graph=True)[0]
    assert bool(torch.autograd.grad(slope.sum(), start)[0].any())


def test_a_block_before_its_activation_keeps_what_was_written() -> None:
    start = torch.linspace(-2, 2, 9, dtype=torch.float64).requires_grad_()

    def block(z: Tensor) -> Tensor:  # the skip sees the rectified input, as in a pre-activation block with inplace=True
        return F.relu(z, inplace=True) * 3 + z

    with smoothed(Slope()):
        y = block(start * 1)
    torch.testing.assert_close(y, block(start * 1))


def test_hard_swish_is_a_product_with_a_hard_sigmoid() -> None:
    z = torch.linspace(-5, 5, 41, dtype=torch.float64)
    gate = torch.tensor([sum(s / 6 * step_monotone(v + at, 1e-2) for at, s in ((3, 1), (-3, -1))) for v in z.tolist()])
    torch.testing.assert_close(slope_at(F.hardswish, z, Slope()), F.hardsigmoid(z) + z * gate)


def test_prelu_keeps_one_slope_a_channel() -> None:
    weight = torch.tensor([0.1, 0.5], dtype=torch.float64)
    z = torch.tensor([[-1.0, -1.0], [1.0, 1.0]], dtype=torch.float64)
    expected = [[w + (1 - w) * step_monotone(v, 1e-2) for w in (0.1, 0.5)] for v in (-1.0, 1.0)]
    torch.testing.assert_close(
        slope_at(lambda z: F.prelu(z, weight), z, Slope()), torch.tensor(expected, dtype=torch.float64)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_written_out_slopes_equal_the_readable_ones_over_many_chunks(kind: str) -> None:
    kinks, slope = Kinks(0.1, (0.0, 6.0), (0.9, -1.0)), Slope(kind, 3e-3)
    z = torch.randn(3, bend.CHUNK // 2 + 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4
    h, dh = (sum(g * of(z - at) for at, g in zip(kinks.at, kinks.gain, strict=True)) for of in (slope.h, slope.dh))
    bent = bend.slopes_at(z, kinks, slope)
    torch.testing.assert_close(bent, kinks.base + h)
    g, other = torch.rand_like(z), torch.rand_like(z)
    to_z, to_g = bend.curved(z, g, bent, other, kinks, slope)
    torch.testing.assert_close(to_z, dh * g * other)
    torch.testing.assert_close(to_g, bent * other)


def test_slopes_keep_the_layout_and_do_not_depend_on_it() -> None:
    kinks, slope = Kinks(0.0, (0.0, 6.0), (1.0, -1.0)), Slope()
    z, g, other = torch.randn(3, 2, 5, 4, 3, generator=torch.Generator().manual_seed(0)).unbind()
    last = z.contiguous(memory_format=torch.channels_last)
    h, h_last = (bend.slopes_at(t, kinks, slope) for t in (z, last))
    assert h_last.stride() == last.stride() and torch.equal(h, h_last)
    for one, same in zip(
        bend.curved(z, g, h, other, kinks, slope), bend.curved(last, g, h, other, kinks, slope), strict=True
    ):
        assert same.stride() == last.stride() and torch.equal(one, same)
    gaps = torch.randn(2, 5, 4, 6)[..., ::2]
    assert torch.equal(bend.slopes_at(gaps, kinks, slope), bend.slopes_at(gaps.clone(), kinks, slope))


# -- second derivatives ------------------------------------------------------------------------------------------------


class Layers(nn.Module):
    """x -> W3 φ(W2 φ(W1 x)): two hidden layers, where the smoothed slopes also reach the inner one."""

    def __init__(self, phi: Activation) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(3)
        self.w = [torch.randn(a, b, generator=g, dtype=torch.float64) for a, b in ((5, 4), (6, 5), (1, 6))]
        self.phi = phi

    def forward(self, x: Tensor) -> Tensor:
        return self.w[2] @ self.phi(self.w[1] @ self.phi(self.w[0] @ x))


X = torch.tensor([0.3, -0.2, 0.5, 0.1], dtype=torch.float64)


def test_with_the_smooth_forward_double_backward_is_the_derivative_by_finite_differences() -> None:
    tau = 0.3

    def phi(z: Tensor) -> Tensor:  # ½(z + √(z²+τ)), whose derivative is the monotone slope: one function throughout
        kinks = Kinks(0.0, (0.0,), (1.0,))
        return bend.bent(z, lambda z: (z + (z * z + tau).sqrt()) / 2, kinks, Slope("monotone", tau))

    net = Layers(phi)
    assert torch.autograd.gradcheck(net, X.clone().requires_grad_())
    assert torch.autograd.gradgradcheck(net, X.clone().requires_grad_())


@pytest.mark.parametrize("kind", KINDS)
def test_with_the_exact_forward_both_derivatives_equal_a_slow_chain_rule(kind: str) -> None:
    slope, net = Slope(kind, 0.3), Layers(F.relu)
    x, direction = X.clone().requires_grad_(), torch.tensor([0.2, 1.0, -0.7, 0.4], dtype=torch.float64)
    with smoothed(slope):
        saliency = torch.autograd.grad(net(x).sum(), x, create_graph=True)[0]
    second = torch.autograd.grad((saliency * direction).sum(), x)[0]

    w1, w2, w3 = net.w
    z1 = w1 @ X
    z2 = w2 @ z1.clamp_min(0)  # the forward is exact ...
    h1, h2, dh1, dh2 = slope.h(z1), slope.h(z2), slope.dh(z1), slope.dh(z2)
    inner = w2.T @ (h2 * w3[0])
    torch.testing.assert_close(saliency, w1.T @ (h1 * inner))
    columns = []
    for v in torch.eye(4, dtype=torch.float64):  # ... and every tangent passes the smoothed slopes
        dz1 = w1 @ v
        dz2 = w2 @ (h1 * dz1)
        columns.append(w1.T @ (dh1 * dz1 * inner + h1 * (w2.T @ (dh2 * dz2 * w3[0]))))
    torch.testing.assert_close(second, torch.stack(columns) @ direction)


def test_max_pooling_is_exact_forward_and_shares_its_gradient_by_a_softmax() -> None:
    z = torch.tensor([[[[1.0, 1.1], [0.0, -5.0]]]], dtype=torch.float64, requires_grad=True)
    with smoothed(Slope(tau=0.25)):
        y = F.max_pool2d(z, 2)
    assert y.item() == 1.1
    got = torch.autograd.grad(y.sum(), z)[0].flatten()
    values, t = z.detach().flatten(), 0.5
    weights = ((values - 1.1) / t).softmax(0)
    torch.testing.assert_close(got, weights * (1 + (values - (weights * values).sum()) / t))


def exported(z: Tensor) -> Tensor:
    return F.max_pool2d(F.pad(z, (0, 1, 0, 1), value=-torch.inf), 3, 2)


POOLS: dict[str, Callable[[Tensor], Tensor]] = {
    "padded by an exporter": exported,
    "padded": lambda z: F.max_pool2d(z, 3, 2, 1),
    "ceil mode": lambda z: F.max_pool2d(z, 3, 2, ceil_mode=True),
    "ceil mode, padded": nn.MaxPool2d((2, 3), 3, (1, 0), ceil_mode=True),
    "dilated": lambda z: torch.max_pool2d(z, 2, 1, 0, 2),
    "indices": lambda z: F.max_pool2d(z, 2, return_indices=True)[0],
    "aten": lambda z: torch.ops.aten.max_pool2d(z, [2, 2]),
    "one picture": lambda z: F.max_pool2d(z[0], 2),
    "adaptive": lambda z: F.adaptive_max_pool2d(z, (3, 4)),
    "adaptive, one": nn.AdaptiveMaxPool2d(1),
    "amax": lambda z: z.amax((2, 3), keepdim=True),
    "max": lambda z: z.max(1)[0],
    "max of all": lambda z: z.max(),
    "amin": lambda z: z.amin((1, 2)),
    "rows": lambda z: F.max_pool1d(z.flatten(2), 5, 3, 1),
    "maxout": lambda z: torch.max(z[:, :1], z[:, 1:]),
}


@pytest.mark.parametrize("name", POOLS)
def test_maxima_are_exact_and_their_slopes_become_the_real_ones(name: str) -> None:
    f = POOLS[name]
    x = torch.randn(2, 2, 7, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64).requires_grad_()

    def slope(y: Tensor) -> Tensor:
        w = torch.arange(1.0, y.numel() + 1, dtype=torch.float64).view(y.shape)
        return torch.autograd.grad((y * w).sum(), x, create_graph=True)[0]

    plain = f(x)
    with smoothed(Slope(tau=1e-12)):
        sharp = f(x)
        torch.testing.assert_close(slope(sharp), slope(plain), rtol=1e-6, atol=1e-5)
    with smoothed(Slope(tau=0.1)):
        y = f(x)
        first = slope(y)
    assert torch.equal(y, plain) and torch.equal(sharp, plain)
    second = torch.autograd.grad((first * x.detach()).sum(), x)[0]
    assert bool(second.isfinite().all()) and bool(second.any())


# -- nothing is left behind ------------------------------------------------------------------------------------------


def relu_slope_at_zero() -> float:
    z = torch.zeros(1, requires_grad=True)
    return float(torch.autograd.grad(F.relu(z).sum(), z)[0])


def test_outside_the_block_everything_is_as_before_also_after_an_exception() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    modules = list(net.modules())
    with pytest.raises(RuntimeError, match="on purpose"), smoothed(Slope()):
        assert relu_slope_at_zero() == 0.5
        net(torch.zeros(1, 3))
        raise RuntimeError("on purpose")
    assert relu_slope_at_zero() == 0.0
    assert list(net.modules()) == modules
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_another_thread_sees_the_exact_slope() -> None:
    seen: list[float] = []
    with smoothed(Slope()):
        worker = threading.Thread(target=lambda: seen.append(relu_slope_at_zero()))
        worker.start()
        worker.join()
        assert relu_slope_at_zero() == 0.5
    assert seen == [0.0]


def test_a_network_without_kinks_is_the_same_with_and_without_the_twin() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(64, 3), nn.GELU()).double()
    x = torch.rand(2, 3, 6, 6, dtype=torch.float64, requires_grad=True)

    def gradient() -> Tensor:
        return torch.autograd.grad(net(x)[:, 0].sum(), x)[0]

    plain = gradient()
    with smoothed(Slope()):
        torch.testing.assert_close(gradient(), plain)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_050", "densenet121", "vit_tiny_patch16_224"])
def test_timm_networks_have_second_derivatives(name: str) -> None:
    size = {} if "vit" not in name else {"img_size": 32}
    net = timm.create_model(name, num_classes=5, **size).eval().requires_grad_(False)
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    with smoothed(Slope()):
        first = torch.autograd.grad(net(x)[0, 0], x, create_graph=True)[0]
    second = torch.autograd.grad(first.square().sum(), x)[0]
    assert bool(second.isfinite().all()) and bool(second.any())


@pytest.mark.parametrize(("kind", "tau"), [("monoton", 1e-2), ("monotone", 0.0)])
def test_a_slope_that_does_not_exist_is_refused(kind: str, tau: float) -> None:
    with pytest.raises(UnderfireError, match=f"{kind}|0.0" if tau else "0.0"):
        Slope(kind, tau)
