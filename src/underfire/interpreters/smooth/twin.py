"""The smoothed twin: exact forward, smooth slopes, for the time of a `with` block (paper, section 3.2).

A saliency map is itself a gradient, so moving it takes second derivatives, and ReLU has none. Inside the block every
kinked activation keeps its exact forward, and its backward slope becomes a smooth function of its input (`slopes`).

Any piecewise-linear activation is a sum of ReLUs, so each of its kinks gets the slope of a ReLU; a maximum over a
window gets the slope of the soft maximum. The block is a torch function mode: it belongs to the thread that entered
it, sees activations of modules and of functions alike, needs no second copy of the weights, and leaves nothing behind,
also after an exception.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from underfire.interpreters.smooth.convolution import frozen_conv2d
from underfire.interpreters.smooth.slopes import Kinks, Slope, kinked


class Smoothed(TorchFunctionMode):
    """The mode in which kinked functions have smooth slopes.

    Args:
        slope: the stand-in for the step function.
        pool: whether max-pooling is smoothed too.
    """

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
    """Give kinked functions smooth slopes, and attention the form that can be differentiated twice.

    Args:
        slope: the stand-in for the step function.
        pool: whether max-pooling is smoothed too.
    """
    with sdpa_kernel(SDPBackend.MATH), Smoothed(slope, pool):
        yield


# -- one smooth stand-in for each kinked function ---------------------------------------------------------------------


def _relu(slope: Slope, func: Any, z: Tensor, inplace: bool = False) -> Tensor:
    return kinked(z, torch.relu(z), Kinks(0.0, (0.0,), (1.0,)), slope)


def _relu6(slope: Slope, func: Any, z: Tensor, inplace: bool = False) -> Tensor:
    return _hardtanh(slope, func, z, 0.0, 6.0)


def _hardtanh(
    slope: Slope, func: Any, z: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    return kinked(z, z.clamp(min_val, max_val), Kinks(0.0, (min_val, max_val), (1.0, -1.0)), slope)


def _leaky_relu(slope: Slope, func: Any, z: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    return kinked(z, F.leaky_relu(z, negative_slope), Kinks(negative_slope, (0.0,), (1 - negative_slope,)), slope)


def _hardsigmoid(slope: Slope, func: Any, z: Tensor, inplace: bool = False) -> Tensor:
    return kinked(z, F.hardsigmoid(z), Kinks(0.0, (-3.0, 3.0), (1 / 6, -1 / 6)), slope)


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
    return kinked(z, z.clamp(min, max), Kinks(0.0 if min is not None else 1.0, at, gain), slope)


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
    """Take the exact maximum; a softmax of temperature √τ shares its gradient among the pixels of a window."""
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
    if weight.requires_grad or (bias is not None and bias.requires_grad) or isinstance(padding, str):
        return func(z, weight, bias, stride, padding, dilation, groups)  # type: ignore[no-any-return]
    return frozen_conv2d(z, weight, bias, (stride, padding, dilation, groups))


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
