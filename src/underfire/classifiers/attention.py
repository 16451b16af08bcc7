"""The attention of a network, however it is computed: recorded in a form that can be differentiated twice.

Libraries compute softmax(q kᵀ / √d) v in one fused step, which shows no attention and has no double backward. Inside
`Recording` such a step is taken apart, and a softmax over a square of tokens is noted where a network writes it out.
The network itself stays as it is: nothing has to be switched off, or on again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class Recording(TorchFunctionMode):
    """The mode in which attention is noted.

    Args:
        n: number of images that pass.
        seen: what is called at each attention.
    """

    def __init__(self, n: int, seen: Callable[[], None] | None = None) -> None:
        super().__init__()
        self.n, self.seen = n, seen
        self.found: list[Tensor] = []
        """The attention (N, heads, T, T) of each block so far."""
        self.uneven: list[tuple[int, int]] = []
        """Numbers of tokens that look, more than one, and of those that they look at, where these differ."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "scaled_dot_product_attention":
            return self._apart(*args, **kwargs)
        if name == "multi_head_attention_forward":
            return self._written_out(func, *args, **kwargs)
        out = func(*args, **kwargs)
        over = kwargs.get("dim", args[1] if len(args) > 1 else -1)
        attends = name == "softmax" and isinstance(out, Tensor) and over in (-1, out.dim() - 1)
        return self._noted(out) if attends else out

    def _written_out(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        """Call torch's own attention in the form that gives its weights; what it gives is a view of what it uses."""
        out, weights = func(*args, **{**kwargs, "need_weights": True, "average_attn_weights": False})
        self._noted(weights if weights._base is None else weights._base)
        return out, None

    def _apart(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        """Compute what `scaled_dot_product_attention` does, step by step, without dropout."""
        if enable_gqa and k.shape[-3] != q.shape[-3]:
            k, v = (t.repeat_interleave(q.shape[-3] // k.shape[-3], -3) for t in (k, v))
        scores = q @ k.transpose(-2, -1) * (q.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            scores = scores.masked_fill(torch.ones_like(scores[0, 0], dtype=torch.bool).triu(1), -torch.inf)
        if attn_mask is not None:
            hidden = attn_mask.dtype == torch.bool
            scores = scores.masked_fill(~attn_mask, -torch.inf) if hidden else scores + attn_mask
        return self._noted(F.softmax(scores, -1)) @ v

    def _noted(self, attention: Tensor) -> Tensor:
        """Note attention (N, heads, T, T) or (N·heads, T, T); one token that looks at all others is a pool."""
        if attention.dim() not in (3, 4) or len(attention) % self.n or attention.shape[-2] == 1:
            return attention
        if attention.shape[-1] == attention.shape[-2]:
            self.found.append(attention)
            if self.seen is not None:
                self.seen()
        elif attention.dim() == 4:
            self.uneven.append((attention.shape[-2], attention.shape[-1]))
        return attention


def misfit(square: Sequence[tuple[int, ...]], uneven: Sequence[tuple[int, int]], n: int, places: int) -> str:
    """Say why attention makes no map of the patch grid, in words that go on after a colon; '' where it makes one.

    Args:
        square: shapes (N, heads, T, T) or (N·heads, T, T) of the attention of each block.
        uneven: numbers of tokens that look and of those that they look at, where these differ.
        n: images N.
        places: of the patch grid, which have a token each.
    """
    sizes = sorted({shape[-1] for shape in square})
    if uneven:
        looking, seen = max(uneven)
        return f"some of its attention has {looking} × {seen} weights, which is not one for each pair of tokens"
    if not sizes:
        return "no attention between pairs of tokens was seen in it"
    if groups := [shape[-1] for shape in square if len(shape) == 4 and shape[0] != n]:
        return f"some of its attention is within groups of {groups[0]} tokens"
    if len(sizes) > 1:
        return f"its blocks attend among different numbers of tokens or channels ({', '.join(map(str, sizes))})"
    if sizes[0] < places:
        return f"its attention is among {sizes[0]} tokens or channels, and its patch grid has {places} places"
    return ""
