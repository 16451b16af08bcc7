"""Soft maxima: the exact maximum, whose gradient a softmax of temperature √τ shares among all values."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.interpreters.smooth.bend import Slope

FAR = 1e3
"""Number of temperatures below all values, where padding lies: it has no weight there."""


def max_pool2d(z: Tensor, y: Tensor, geometry: Any, slope: Slope) -> Tensor:
    """Return the maxima of windows, with a soft gradient.

    Args:
        z: (N, C, H, W).
        y: the exact maxima.
        geometry: kernel, stride, padding and dilation of the windows.
        slope: the stand-in for the step function.
    """
    kernel, stride, pad, dilation = geometry
    floor, t = _floor(z, slope), math.sqrt(slope.tau)
    more = [
        max(0, (out - 1) * s + d * (k - 1) + 1 - side - p)
        for out, s, d, k, side, p in zip(y.shape[2:], stride, dilation, kernel, z.shape[2:], pad, strict=True)
    ]
    padded = F.pad(_finite(z, floor), (pad[1], more[1], pad[0], more[0]), value=floor)
    windows = F.unfold(padded, kernel, dilation, 0, stride).view(*z.shape[:2], kernel[0] * kernel[1], -1)
    shape = y.shape[2:]
    full = ((padded.shape[2] - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1, windows.shape[-1])
    windows = windows.view(*z.shape[:2], windows.shape[2], full[0], -1)[..., : shape[0], : shape[1]]
    return _shared(windows, y, 2, t, floor)


def adaptive_max_pool2d(z: Tensor, y: Tensor, slope: Slope) -> Tensor:
    """Return ``y``, the maxima of windows that divide ``z`` (N, C, H, W) evenly, with a soft gradient."""
    floor = _floor(z, slope)
    (rows, row_in), (columns, column_in) = (_spans(z.shape[d], y.shape[d], z.device) for d in (2, 3))
    windows = _finite(z, floor)[..., rows[:, None, :, None], columns[None, :, None, :]]
    inside = row_in[:, None, :, None] & column_in[None, :, None, :]
    return _shared(windows.masked_fill(~inside, floor).flatten(4), y, 4, math.sqrt(slope.tau), floor)


def maximum_along(z: Tensor, y: Tensor, dims: tuple[int, ...], keepdim: bool, slope: Slope) -> Tensor:
    """Return ``y``, the maxima of ``z`` along ``dims``, with a soft gradient."""
    floor = _floor(z, slope)
    dims = tuple(d % z.dim() for d in dims) or tuple(range(z.dim()))
    rest = [d for d in range(z.dim()) if d not in dims]
    windows = _finite(z, floor).permute(*rest, *dims).flatten(len(rest)) if z.dim() else z.view(1)
    flat = y.reshape([z.shape[d] for d in rest]) if keepdim else y
    return _shared(windows, flat, -1, math.sqrt(slope.tau), floor).view(y.shape)


def _floor(z: Tensor, slope: Slope) -> float:
    z = z.detach()
    least = float(z.min())
    if math.isinf(least):
        finite = z[z.isfinite()]
        least = float(finite.min()) if len(finite) else 0.0
    return least - FAR * math.sqrt(slope.tau)


def _finite(z: Tensor, floor: float) -> Tensor:
    """Replace −∞, with which exporters pad, by ``floor``: otherwise 0 · ∞ would be NaN."""
    lost = z.detach() == -torch.inf
    return z.masked_fill(lost, floor) if bool(lost.any()) else z


def _spans(side: int, outputs: int, device: torch.device) -> tuple[Tensor, Tensor]:
    k = torch.arange(outputs, device=device)
    start, stop = k * side // outputs, -((k + 1) * side // -outputs)
    index = start[:, None] + torch.arange(int((stop - start).max()), device=device)
    return index.clamp(max=side - 1), index < stop[:, None]


def _shared(windows: Tensor, y: Tensor, dim: int, t: float, floor: float) -> Tensor:
    top = y.detach().clamp_min(floor).unsqueeze(dim)
    weights = ((windows - top) / t).softmax(dim)
    out: Tensor = _Exactly.apply((weights * windows).sum(dim), [y.detach()])
    return out


class _Exactly(torch.autograd.Function):
    """The maximum. Forward: the exact value. Backward: that of the soft maximum."""

    @staticmethod
    def forward(ctx: Any, soft: Tensor, exact: list[Tensor]) -> Tensor:
        return exact.pop()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None
