"""Batch norm, folded into the convolution before it: the same function, a quarter less work on a CPU.

Networks that underfire has built itself are folded for good, but for a convolution that is looked at as a layer: its
output is its own again. A user's own module is never changed: there the folded pairs are handed to it for the time of a
search's passes (`underfire.classifiers.precise`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Pair(NamedTuple):
    """A frozen batch norm whose input is the output of one convolution, and what takes its place.

    Args:
        conv, norm: the two modules.
        parent, name: where the norm is: ``parent._modules[name]``.
        own: weight and bias of the convolution.
        weight, bias: of the convolution that does both: w' = w γ/σ,  b' = (b − μ) γ/σ + β.
        rest: what the norm does beside normalising (timm's have an activation inside).
    """

    conv: nn.Conv2d
    norm: nn.BatchNorm2d
    parent: nn.Module
    name: str
    own: tuple[Tensor, Tensor | None]
    weight: nn.Parameter
    bias: nn.Parameter
    rest: nn.Module


@torch.no_grad()
def fold_batch_norm(module: nn.Module, x: Tensor) -> list[Pair]:
    """Fold, in place, every frozen batch norm whose input is the output of one convolution.

    One forward of ``x`` shows which pairs these are. If the folded network does not give the same logits on ``x``, the
    original is restored.

    Args:
        module: a network in eval mode.
        x: images (N, 3, H, W).

    Returns:
        What was folded; nothing where the original was restored.
    """
    for part in module.modules():
        if hasattr(part, "inplace"):
            # An in-place activation copies its input for the backward: it is slower, and saves no memory.
            part.inplace = False  # type: ignore[assignment]
    before = module(x)
    found = pairs(module, partial(module, x))
    for pair in found:
        pair.conv.weight, pair.conv.bias = pair.weight, pair.bias
        setattr(pair.parent, pair.name, pair.rest)
    if same(module(x), before):
        return found
    for pair in found:
        pair.conv.weight, pair.conv.bias = pair.own
        setattr(pair.parent, pair.name, pair.norm)
    return []


@torch.no_grad()
def unfold(pair: Pair) -> None:
    """Give a folded convolution its own output back; what stands behind it normalises again, and keeps its name."""
    device, norm = pair.conv.weight.device, pair.norm.to(pair.conv.weight.device)
    weight, bias = pair.own
    pair.conv.weight = nn.Parameter(weight.to(device), requires_grad=False)
    pair.conv.bias = None if bias is None else nn.Parameter(bias.to(device), requires_grad=False)
    alone = nn.BatchNorm2d(norm.num_features, eps=norm.eps, affine=norm.affine).eval()
    alone.weight, alone.bias = norm.weight, norm.bias
    alone.running_mean, alone.running_var = norm.running_mean, norm.running_var
    behind = dict(pair.parent.get_submodule(pair.name).named_children())
    setattr(pair.parent, pair.name, nn.Sequential(OrderedDict({"norm": alone, **behind})))


def same(folded: Tensor, before: Tensor) -> bool:
    """Tell whether the outputs of a folded network are those of the network, but for rounding."""
    return torch.allclose(folded, before, rtol=1e-3, atol=1e-4 * float(before.abs().max()))


@torch.no_grad()
def pairs(module: nn.Module, forward: Callable[[], object]) -> list[Pair]:
    """Find the pairs of convolution and batch norm in a forward pass.

    Args:
        module: a network in eval mode.
        forward: passes through it.
    """
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}  # holds the tensors, so that no other tensor gets their ids
    found: dict[nn.Conv2d, nn.BatchNorm2d | None] = {}

    def note(part: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
        if isinstance(part, nn.Conv2d):
            made[id(out)] = part, out
        elif isinstance(part, nn.BatchNorm2d) and id(args[0]) in made and part.track_running_stats:
            conv = made[id(args[0])][0]
            found[conv] = None if conv in found else part  # a conv that is read twice stays as it is

    layers = [part for part in module.modules() if isinstance(part, nn.Conv2d | nn.BatchNorm2d)]
    hooks = [part.register_forward_hook(note) for part in layers]
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()
    names = {part: name for name, part in module.named_modules()}
    return [_pair(module, conv, norm, names[norm]) for conv, norm in found.items() if norm is not None]


def _pair(module: nn.Module, conv: nn.Conv2d, norm: nn.BatchNorm2d, path: str) -> Pair:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None  # it tracks them
    gain = torch.rsqrt(variance + norm.eps) * (norm.weight if norm.affine else 1.0)
    bias = conv.bias if conv.bias is not None else torch.zeros_like(mean)
    shift = (bias - mean) * gain + (norm.bias if norm.affine else 0.0)
    parent, _, name = path.rpartition(".")
    return Pair(
        conv=conv,
        norm=norm,
        parent=module.get_submodule(parent),
        name=name,
        own=(conv.weight, conv.bias),
        weight=nn.Parameter(conv.weight * gain[:, None, None, None], requires_grad=False),
        bias=nn.Parameter(shift, requires_grad=False),
        rest=nn.Sequential(*(p for p in norm.children() if not isinstance(p, nn.Identity))).train(norm.training),
    )
