"""What a network returns: logits, or something that they lie in (a tuple, a mapping, an object with `.logits`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from underfire.core import FAILURES, Preprocess, UnderfireError, unknown

NAMES = ("logits", "out", "output", "scores", "predictions", "pred")
"""Names that logits have in mappings and objects, the likeliest first."""


class Picked(nn.Module):
    """A network that returns one of its outputs.

    Args:
        network: a network that returns several.
        output: which one, as in `pick`.
        name: its name in an error.
    """

    def __init__(self, network: nn.Module, output: str | None, name: str) -> None:
        super().__init__()
        self.network, self.output, self.name = network, output, name

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        return pick(self.network(x), self.output, self.name)


def plain(network: nn.Module, x: Tensor, output: str | None, name: str) -> nn.Module:
    """Return a network that returns a tensor: the network itself where it does, else one that picks its logits.

    Args:
        network: the network, in eval mode.
        x: an image (1, C, H, W) to ask it about. Where it fails on it, the network is returned as it is: whoever asks
            next says why.
        output: which of several outputs, as in `pick`.
        name: its name in an error.

    Raises:
        UnderfireError: none of its outputs is asked for, or can be told to be the logits.
    """
    try:
        with torch.no_grad():
            out = network(x)
    except FAILURES:
        return network if output is None else Picked(network, output, name)
    if isinstance(out, Tensor) and output is None:
        return network
    pick(out, output, name)
    return Picked(network, output, name)


def pick(out: Any, output: str | None, name: str) -> Tensor:
    """Pick the logits of what a network returned.

    Args:
        out: a tensor, a tuple or a list, a mapping, or an object with attributes.
        output: a name, or a number counted from 0; None: the only tensor (N, K), or what is called logits.
        name: the network's name in an error.

    Raises:
        UnderfireError: there is no such output, or none can be told to be the logits.
    """
    if isinstance(out, Tensor) and output in (None, "0"):
        return out
    found = _named(out)
    if output is not None:
        if output not in found:
            raise unknown(f"output of '{name}' that is a tensor", output, found)
        return found[output]
    logits = next((found[key] for key in NAMES if key in found), None)
    flat = [tensor for tensor in found.values() if tensor.dim() == 2]
    if logits is None and len(flat) == 1:
        logits = flat[0]
    if logits is None:
        raise UnderfireError(
            f"'{name}' returns {_listed(out, found)}: say which output is the logits (N, K){_how(out)}."
        )
    return logits


def grey(module: nn.Module, policy: Preprocess) -> Tensor:
    """Make a grey image (1, 3, H, W) of a network's own type and device."""
    anchor = next(module.parameters(), torch.zeros(()))
    dtype = anchor.dtype if anchor.is_floating_point() else torch.float32
    return torch.zeros(1, 3, policy.input_size, policy.input_size, device=anchor.device, dtype=dtype)


def _named(out: Any) -> dict[str, Tensor]:
    """Name the tensors among the outputs: by their keys, or by their numbers."""
    if isinstance(out, Mapping):
        pairs = [(str(key), value) for key, value in out.items()]
    elif isinstance(out, tuple | list):
        fields = getattr(out, "_fields", range(len(out)))
        pairs = [(str(key), value) for key, value in zip(fields, out, strict=True)]
        pairs += [(str(i), value) for i, value in enumerate(out)]
    elif isinstance(out, Tensor):
        pairs = [("0", out)]
    else:
        pairs = [(str(key), value) for key, value in getattr(out, "__dict__", {}).items()]
    return {key: value for key, value in pairs if isinstance(value, Tensor)}


def _listed(out: Any, found: Mapping[str, Tensor]) -> str:
    kind = type(out).__name__
    if not found:
        return f"a {kind} without a tensor in it"
    shown = [f"{key} {tuple(value.shape)}" for key, value in list(found.items())[:6]]
    return f"a {kind} of {', '.join(shown)}" + (", …" if len(found) > 6 else "")


def _how(out: Any) -> str:
    return "" if out is None else ", with output= in Python or --output (a name, or a number from 0)"
