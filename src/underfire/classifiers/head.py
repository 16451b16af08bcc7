"""The head of a network: the feature maps whose average, through one linear layer, gives the logits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

from torch import Tensor, nn


def pooled(linear: nn.Linear, maps: Tensor) -> Tensor:
    """Compute logits (N, K) of feature maps (N, C, h, w): the average, then the linear layer."""
    logits: Tensor = linear(maps.mean((2, 3)))
    return logits


def last_linear(module: nn.Module) -> nn.Linear | None:
    """Find the linear layer that was registered last; None without one."""
    linears = [m for m in module.modules() if isinstance(m, nn.Linear)]
    return linears[-1] if linears else None


def traced(module: nn.Module, x: Tensor) -> Iterator[tuple[Features, Features | None]]:
    """Yield candidates for the last feature maps of an unknown network: each module's (N, C, h, w) output, last first.

    torchvision's DenseNet applies its last ReLU as a function, so the rectified output is a candidate too.

    Args:
        module: the network.
        x: normalised images (N, 3, H, W).

    Yields:
        Function to the feature maps, and None in place of a function to the logits.
    """
    linear = last_linear(module)
    if linear is None:
        return
    ran: list[nn.Module] = []
    mine = threading.get_ident()

    def note(m: nn.Module, _args: object, out: object) -> None:
        if threading.get_ident() != mine:
            return
        if isinstance(out, Tensor) and out.dim() == 4 and out.shape[1] == linear.in_features and out.shape[-1] > 1:
            ran.append(m)

    hooks = [m.register_forward_hook(note) for m in module.modules() if m is not module]
    try:
        module(x)
    finally:
        for hook in hooks:
            hook.remove()
    for part in reversed(ran[-8:]):
        yield partial(_output_of, module, part), None
        yield partial(_rectified_output_of, module, part), None


def _rectified_output_of(module: nn.Module, part: nn.Module, x: Tensor) -> Tensor:
    return _output_of(module, part, x).relu()


def _output_of(module: nn.Module, part: nn.Module, x: Tensor) -> Tensor:
    caught: list[Tensor] = []
    mine = threading.get_ident()

    def catch(_m: nn.Module, _args: object, out: Tensor) -> None:
        if threading.get_ident() == mine:  # another thread's forward runs through the same hooks
            caught.append(out)

    hook = part.register_forward_hook(catch)
    try:
        module(x)
    finally:
        hook.remove()
    return caught[-1]


Features = Callable[[Tensor], Tensor]
"""A function from normalised images to feature maps, or from these to logits."""
