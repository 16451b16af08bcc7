"""How a tensor lies in memory."""

from __future__ import annotations

import torch
from torch import Tensor


def lies_last(t: Tensor) -> bool:
    """Tell whether a tensor has the channels last in memory, and not in both ways at once."""
    return t.dim() == 4 and not t.is_contiguous() and t.is_contiguous(memory_format=torch.channels_last)


def line(t: Tensor) -> Tensor:
    """View a tensor without gaps as the line that it is in memory."""
    return (t if t.is_contiguous() else t.permute(0, 2, 3, 1)).view(-1)
