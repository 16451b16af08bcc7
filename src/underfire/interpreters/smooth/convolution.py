"""A convolution with frozen weights, as the linear map that it is: its double backward leaves the weights out."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


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


def _pair(value: Any) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


class _Conv(torch.autograd.Function):
    """The convolution y = W z + b. Of z only its shape is kept: z itself is needed for the gradient of W alone."""

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
    """The gradient g_z = Wᵀ g, whose own gradient is W again."""

    @staticmethod
    def forward(ctx: Any, g: Tensor, weight: Tensor, geometry: Any, shape: Any) -> Tensor:
        ctx.weight, ctx.geometry = weight, geometry
        stride, padding, dilation, groups = geometry
        like = g.new_empty(1).expand(shape)  # only its shape is read
        back: Tensor = torch.ops.aten.convolution_backward(
            g, like, weight, None, stride, padding, dilation, False, [0, 0], groups, [True, False, False]
        )[0]
        return back

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        y: Tensor = _Conv.apply(grads[0], ctx.weight, None, ctx.geometry)
        return y, None, None, None
