"""The attention of a network, however it is computed: recorded in a form that can be differentiated twice.

Libraries compute softmax(q kᵀ / √d) v in one fused step, which shows no attention and has no double backward. Inside
`Recording` such a step is taken apart, and a softmax over a square of tokens is noted where a network writes it out.
The network itself stays as it is: nothing has to be switched off, or on again.
"""

from __future__ import annotations

from collections.abc import Callable
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
        return self._noted(out) if name == "softmax" and isinstance(out, Tensor) else out

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
        """Note attention among the same tokens, (N, heads, T, T) or (N·heads, T, T); T is 1 nowhere."""
        square = attention.dim() in (3, 4) and attention.shape[-1] == attention.shape[-2] > 1
        if square and len(attention) % self.n == 0:
            self.found.append(attention)
            if self.seen is not None:
                self.seen()
        return attention


def global_ones(found: list[Tensor], n: int, least: int) -> list[Tensor]:
    """Keep attention between all tokens of each image: where windows attend, or sizes differ, there is none.

    Args:
        found: attention (N, heads, T, T) or (N·heads, T, T).
        n: images N.
        least: places of the patch grid, which have a token each.
    """
    sizes, batches = {a.shape[-1] for a in found}, {len(a) for a in found if a.dim() == 4}
    return found if len(sizes) == 1 and min(sizes) >= least and batches <= {n} else []
