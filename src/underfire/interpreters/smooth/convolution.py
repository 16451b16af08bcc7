"""A convolution with frozen weights, as the linear map that it is."""

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
    """A convolution with frozen weights, as the linear map that it is.

    PyTorch's own double backward also works out the weights' share, a convolution for each group: on
    EfficientNet-Lite0's depthwise layers it made a second-order step nine times dearer.
    """
    if weight.requires_grad or (bias is not None and bias.requires_grad) or isinstance(padding, str) or z.dim() != 4:
        return NotImplemented
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
