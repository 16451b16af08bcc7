"""A convolution with frozen weights, as the linear map that it is: its double backward leaves the weights out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from underfire.passes.layout import lies_last


def conv2d(
    func: Any,
    z: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    """Convolve ``z`` (N, C, H, W) with frozen weights; arguments as in torch.

    PyTorch's own double backward also computes the weights' share, with one convolution for each group. On the
    depthwise layers of EfficientNet-Lite0 this made a second-order step nine times slower.
    """
    if weight.requires_grad or (bias is not None and bias.requires_grad) or isinstance(padding, str) or z.dim() != 4:
        return NotImplemented
    geometry = (_pair(stride), _pair(padding), _pair(dilation), groups)
    y: Tensor = _Conv.apply(z, weight.detach(), None if bias is None else bias.detach(), geometry)
    return y


class Depthwise(TorchFunctionMode):
    """The mode in which the depthwise convolutions of a network with frozen weights are `conv2d`.

    In bfloat16 PyTorch's own gradient of these makes a step of EfficientNet-Lite0 1.7 times as long (docs/speed.md).
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.conv2d and args and torch.is_grad_enabled():
            groups = args[6] if len(args) > 6 else kwargs.get("groups", 1)
            y = conv2d(func, *args, **kwargs) if groups > 1 else NotImplemented
            if y is not NotImplemented:
                return y
        return func(*args, **kwargs)


def _pair(value: Any) -> list[int]:
    pair = [value] if isinstance(value, int) else list(value)
    return pair * 2 if len(pair) == 1 else pair


class _Conv(torch.autograd.Function):
    """The convolution y = W z + b. Of z only its shape is kept: z itself is needed for the gradient of W alone."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, weight: Tensor, bias: Tensor | None, geometry: Any) -> Tensor:
        stride, padding, dilation, groups = geometry
        y = F.conv2d(z, weight, bias, stride, padding, dilation, groups)
        ctx.weight = weight.to(y.dtype)  # an autocast has cast it too, and the backward comes after it
        ctx.geometry, ctx.shape, ctx.last = geometry, z.shape, lies_last(z) and lies_last(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        g: Tensor = _ConvTransposed.apply(grads[0], ctx.weight, ctx.geometry, ctx.shape, ctx.last)
        return g, None, None, None


class _ConvTransposed(torch.autograd.Function):
    """The gradient g_z = Wᵀ g, whose own gradient is W again."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, weight: Tensor, geometry: Any, shape: Any, last: bool) -> Tensor:
        ctx.weight, ctx.geometry, ctx.last = weight, geometry, last
        if not last:
            return _back(g, weight, geometry, shape)
        g = g.contiguous(memory_format=torch.channels_last)
        forwards = _as_forwards(g, weight, geometry, shape)
        back = _back(g, weight, geometry, shape) if forwards is None else forwards
        return back.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        g = grads[0].contiguous(memory_format=torch.channels_last) if ctx.last else grads[0]
        y: Tensor = _Conv.apply(g, ctx.weight, None, ctx.geometry)
        return y, None, None, None, None


def _back(g: Tensor, weight: Tensor, geometry: Any, shape: Any) -> Tensor:
    stride, padding, dilation, groups = geometry
    like = g.new_empty(1).expand(shape)  # only its shape is read
    back: Tensor = torch.ops.aten.convolution_backward(
        g, like, weight, None, stride, padding, dilation, False, [0, 0], groups, [True, False, False]
    )[0]
    return back


def _as_forwards(g: Tensor, weight: Tensor, geometry: Any, shape: Any) -> Tensor | None:
    """Compute Wᵀ g as a convolution with the mirrored kernel; None where PyTorch's own way is as fast.

    With the channels last, the gradient of a depthwise convolution is slow in bfloat16, and that of a 1×1 convolution
    lays the channels first and back again.
    """
    stride, padding, dilation, groups = geometry
    kernel = list(weight.shape[2:])
    depthwise = groups > 1 and groups == weight.shape[0] == shape[1]
    pointwise = groups == 1 and kernel == [1, 1] and stride == [1, 1]
    fits = dilation == [1, 1] and all(p < k for k, p in zip(kernel, padding, strict=True))
    if not fits or not (depthwise or pointwise) or g.device.type != "cpu":
        return None
    if stride != [1, 1]:  # what the stride leaves out gives nothing back
        sides = [n + 2 * p - k + 1 for n, p, k in zip(shape[2:], padding, kernel, strict=True)]
        wide = g.new_zeros(*g.shape[:2], *sides).contiguous(memory_format=torch.channels_last)
        wide[:, :, :: stride[0], :: stride[1]] = g
        g = wide
    mirrored = (weight if depthwise else weight.transpose(0, 1)).flip(2, 3)
    around = [k - 1 - p for k, p in zip(kernel, padding, strict=True)]
    return F.conv2d(g, mirrored, None, 1, around, 1, groups)
