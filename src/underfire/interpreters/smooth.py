"""The smoothed twin: exact forward, smooth slopes, for the time of a `with` block (paper, section 3.2).

A saliency map is itself a gradient, so moving it takes second derivatives, and ReLU has none. Inside the block every
kinked activation keeps its exact forward while its backward slope becomes a smooth function of its input z:

    published   h(z) = 1 + z/√(z²+τ)  for z < 0,   z/√(z²+τ)  for z ≥ 0      (jumps from 1 to 0 at the kink)
    monotone    h(z) = ½ (1 + z/√(z²+τ))                                     (the same tails, no jump)

Any piecewise-linear activation is a sum of ReLUs, so each of its kinks gets the slope of one; a max over a window gets
the soft maximum's. The block is a torch function mode: it belongs to the thread that entered it, sees module and
functional activations alike, needs no second copy of the weights, and leaves nothing behind, also after an exception.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from underfire.core import UnderfireError

SLOPES = ("monotone", "published")
CHUNK = 1 << 16
"""Elements worked on at a time: the handful of element-wise passes of a slope then stay in the core's own cache."""


@dataclass(frozen=True)
class Kinks:
    """A piecewise-linear function by its derivative: ``base + Σ gain_i · step(z − at_i)``.

    Args:
        base: slope left of all kinks.
        at: where the kinks are.
        gain: by how much the slope changes there.
    """

    base: float
    at: tuple[float, ...]
    gain: tuple[float, ...]


@dataclass(frozen=True)
class Slope:
    """The smooth stand-in for the step function.

    Args:
        kind: 'monotone' or 'published'.
        tau: τ, in units of z²; the smaller, the sharper.
    """

    kind: str = "monotone"
    tau: float = 1e-2

    def __post_init__(self) -> None:
        if self.kind not in SLOPES:
            raise UnderfireError(f"There is no slope '{self.kind}'. Known: {', '.join(SLOPES)}.")
        if not self.tau > 0:
            raise UnderfireError(f"τ = {self.tau}: it must be above 0.")

    def h(self, z: Tensor) -> Tensor:
        """The smooth step at z, element-wise."""
        tilt = z * torch.rsqrt(z * z + self.tau)
        return (1 + tilt) / 2 if self.kind == "monotone" else tilt + (z < 0)

    def dh(self, z: Tensor) -> Tensor:
        """Its derivative; the published form's jump at 0 is left out, as it is in the published attack."""
        return (0.5 if self.kind == "monotone" else 1.0) * self.tau * torch.rsqrt(z * z + self.tau) ** 3


class Smoothed(TorchFunctionMode):
    """Inside the block, kinked functions have smooth slopes."""

    def __init__(self, slope: Slope, pool: bool = True) -> None:
        super().__init__()
        self.slope, self.pool = slope, pool

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        smooth = _SMOOTH.get(func)
        if smooth is not None and (self.pool or func not in _POOLS):
            return smooth(self.slope, func, *args, **kwargs)
        return func(*args, **kwargs)


@contextmanager
def smoothed(slope: Slope, pool: bool = True) -> Iterator[None]:
    """Smooth slopes, and attention in the form that can be differentiated twice."""
    with sdpa_kernel(SDPBackend.MATH), Smoothed(slope, pool):
        yield


# -- one smooth stand-in for each kinked function ---------------------------------------------------------------------


def _relu(slope: Slope, func: Any, z: Tensor, inplace: bool = False) -> Tensor:
    return _kinked(z, torch.relu(z), Kinks(0.0, (0.0,), (1.0,)), slope)


def _relu6(slope: Slope, func: Any, z: Tensor, inplace: bool = False) -> Tensor:
    return _hardtanh(slope, func, z, 0.0, 6.0)


def _hardtanh(
    slope: Slope, func: Any, z: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    return _kinked(z, z.clamp(min_val, max_val), Kinks(0.0, (min_val, max_val), (1.0, -1.0)), slope)


def _leaky_relu(slope: Slope, func: Any, z: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    return _kinked(z, F.leaky_relu(z, negative_slope), Kinks(negative_slope, (0.0,), (1 - negative_slope,)), slope)


def _hardsigmoid(slope: Slope, func: Any, z: Tensor, inplace: bool = False) -> Tensor:
    return _kinked(z, F.hardsigmoid(z), Kinks(0.0, (-3.0, 3.0), (1 / 6, -1 / 6)), slope)


def _hardswish(slope: Slope, func: Any, z: Tensor, inplace: bool = False) -> Tensor:
    return z * _hardsigmoid(slope, func, z)


def _prelu(slope: Slope, func: Any, z: Tensor, weight: Tensor) -> Tensor:
    shape = [1, -1, *[1] * (z.dim() - 2)] if weight.numel() > 1 else [1] * z.dim()
    return weight.view(shape) * z + (1 - weight.view(shape)) * _relu(slope, func, z)


def _clamp(
    slope: Slope,
    func: Any,
    z: Tensor,
    min: Any = None,  # noqa: A002 (torch's own names)
    max: Any = None,  # noqa: A002
) -> Tensor:
    if isinstance(min, Tensor) or isinstance(max, Tensor) or not z.is_floating_point():
        exact: Tensor = func(z, min, max)
        return exact
    at = tuple(float(edge) for edge in (min, max) if edge is not None)
    gain = tuple(g for g, edge in ((1.0, min), (-1.0, max)) if edge is not None)
    return _kinked(z, z.clamp(min, max), Kinks(0.0 if min is not None else 1.0, at, gain), slope)


def _max_pool2d(
    slope: Slope,
    func: Any,
    z: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Exact maximum; its gradient is shared among a window's pixels by a softmax with temperature √τ."""
    if ceil_mode or return_indices:
        return func(z, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode, return_indices=return_indices)
    y = F.max_pool2d(z.detach(), kernel_size, stride, padding, dilation)
    kernel = (kernel_size, kernel_size) if isinstance(kernel_size, int) else tuple(kernel_size)
    pad = (padding, padding) if isinstance(padding, int) else tuple(padding)
    padded = F.pad(z, (pad[1], pad[1], pad[0], pad[0]), value=float(z.detach().min()) - 1e3 * math.sqrt(slope.tau))
    n, c = z.shape[:2]
    windows = F.unfold(padded, kernel, dilation, 0, stride or kernel).view(n, c, kernel[0] * kernel[1], *y.shape[2:])
    weights = ((windows - y.unsqueeze(2)) / math.sqrt(slope.tau)).softmax(2)
    soft = (weights * windows).sum(2)
    return soft + (y - soft).detach()


def _kinked(z: Tensor, exact: Tensor, kinks: Kinks, slope: Slope) -> Tensor:
    out: Tensor = _Kinked.apply(z, exact.detach(), kinks, slope)
    return out


def _conv2d(
    slope: Slope,
    func: Any,
    z: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """A convolution with frozen weights, as the linear map that it is.

    PyTorch's own double backward also works out the weights' share, a convolution for each group: on
    EfficientNet-Lite0's depthwise layers it made a second-order step nine times dearer.
    """
    if weight.requires_grad or (bias is not None and bias.requires_grad) or isinstance(padding, str):
        return func(z, weight, bias, stride, padding, dilation, groups)  # type: ignore[no-any-return]
    geometry = (_pair(stride), _pair(padding), _pair(dilation), groups)
    y: Tensor = _Conv.apply(z, weight.detach(), None if bias is None else bias.detach(), geometry)
    return y


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


class _Conv(torch.autograd.Function):
    """y = W z + b. Nothing but shapes is kept: z is needed for W's gradient only, and W and b are frozen."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor, bias: Tensor | None, geometry: Any) -> Tensor:
        ctx.weight, ctx.geometry, ctx.shape = weight, geometry, z.shape
        stride, padding, dilation, groups = geometry
        return F.conv2d(z, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        g: Tensor = _ConvTransposed.apply(grads[0], ctx.weight, ctx.geometry, ctx.shape)
        return g, None, None, None


class _ConvTransposed(torch.autograd.Function):
    """g_z = Wᵀ g, whose own gradient is W again."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, weight: Tensor, geometry: Any, shape: Any) -> Tensor:
        ctx.weight, ctx.geometry = weight, geometry
        stride, padding, dilation, groups = geometry
        like = g.new_empty(1).expand(shape)  # only its shape is looked at
        back: Tensor = torch.ops.aten.convolution_backward(
            g, like, weight, None, stride, padding, dilation, False, [0, 0], groups, [True, False, False]
        )[0]
        return back

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        y: Tensor = _Conv.apply(grads[0], ctx.weight, None, ctx.geometry)
        return y, None, None, None


class _Kinked(torch.autograd.Function):
    """Forward: the exact value. Backward: g · slope(z)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, exact: Tensor, kinks: Kinks, slope: Slope) -> Tensor:
        ctx.save_for_backward(z)
        ctx.kinks, ctx.slope, ctx.known = kinks, slope, []
        return exact.view_as(exact)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (z,) = ctx.saved_tensors
        twice = torch.is_grad_enabled()
        # A second-order step comes by twice: the slope is kept from the first time to the second, and no longer.
        bent, steep = ctx.known.pop() if ctx.known else _slopes(z.detach(), ctx.kinks, ctx.slope, twice)
        if twice:
            ctx.known.append((bent, steep))
        grad: Tensor = _KinkedBackward.apply(z, grads[0], bent, steep)
        return grad, None, None, None


class _KinkedBackward(torch.autograd.Function):
    """Forward: g · slope(z). Backward: g′ · g · slope′(z) to z, and g′ · slope(z) to g.

    Written out, since autograd would keep each of its element-wise steps for every activation of the network.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, g: Tensor, bent: Tensor, steep: Tensor | None) -> Tensor:
        ctx.save_for_backward(g, bent, steep)
        return g * bent

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        g, bent, steep = ctx.saved_tensors
        return steep * (g * grads[0]), bent * grads[0], None, None


def _slopes(z: Tensor, kinks: Kinks, slope: Slope, twice: bool) -> tuple[Tensor, Tensor | None]:
    """The slope base + Σ gain · h(z − at), and Σ gain · h′(z − at) where it is wanted too.

    The formulas of `Slope`, a chunk at a time and in place. Both share √(z²+τ), the dearest part of either.
    """
    half = 0.5 if slope.kind == "monotone" else 1.0
    z = z.contiguous()
    tau = z.new_full((1,), slope.tau)
    bent = torch.full_like(z, kinks.base + (half * sum(kinks.gain) if slope.kind == "monotone" else 0.0))
    steep = torch.zeros_like(z) if twice else None
    steeps = [None] * len(_chunks(z)) if steep is None else _chunks(steep)
    for part, zs, rise in zip(_chunks(bent), _chunks(z), steeps, strict=True):
        for at, gain in zip(kinks.at, kinks.gain, strict=True):
            u = zs - at if at else zs
            if slope.kind == "published":
                part.add_(u < 0, alpha=gain)
            r = torch.addcmul(tau, u, u).rsqrt_()
            part.addcmul_(u, r, value=half * gain)
            if rise is not None:
                rise.addcmul_(r, r * r, value=half * slope.tau * gain)
    return bent, steep


def _chunks(t: Tensor) -> tuple[Tensor, ...]:
    flat = t.view(-1)
    return torch.split(flat, CHUNK) if t.device.type == "cpu" else (flat,)


_SMOOTH: dict[Callable[..., Any], Callable[..., Any]] = {
    **dict.fromkeys((F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_), _relu),
    F.relu6: _relu6,
    **dict.fromkeys((F.hardtanh, F.hardtanh_), _hardtanh),
    **dict.fromkeys((F.leaky_relu, F.leaky_relu_), _leaky_relu),
    F.hardsigmoid: _hardsigmoid,
    F.hardswish: _hardswish,
    **dict.fromkeys((F.prelu, torch.prelu, Tensor.prelu), _prelu),
    **dict.fromkeys((torch.clamp, Tensor.clamp, Tensor.clamp_, torch.clamp_), _clamp),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), _max_pool2d),
    torch.conv2d: _conv2d,
}
_POOLS = frozenset({F.max_pool2d, torch.max_pool2d})
