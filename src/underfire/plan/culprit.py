"""The culprit: the first layer of a network that turns finite numbers into numbers that are not finite."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from underfire.core import Classifier, Images


def culprit(classifier: Classifier, x: Images) -> str:
    """Name this layer for an error, in the forward or else in the backward; '' where it cannot be seen.

    It costs a forward and a backward with hooks, so it is called only when something is known to be wrong.

    Args:
        classifier: the classifier.
        x: images (N, 3, H, W) that show the mistake.
    """
    module: Any = getattr(classifier, "module", None)
    if not isinstance(module, nn.Module):
        return ""
    watch = _Watch(module)
    hooks = [part.register_forward_hook(watch.note) for part in module.modules()]
    try:
        x = x.detach().clone().requires_grad_()
        z = classifier.logits(x)
        if not watch.forward and z.requires_grad and z.dim() == 2 and z.shape[1] > 1:
            torch.autograd.grad((z[:, 0] - z[:, 1]).sum(), x, allow_unused=True)
    finally:
        for hook in hooks:
            hook.remove()
    found = watch.forward or watch.backward
    return f", first in {watch.called(found[0])}" if found else ""


class _Watch:
    """A note of the layers that make infinities, forward and backward; the innermost layer comes first."""

    def __init__(self, module: nn.Module) -> None:
        self.names = {part: name for name, part in module.named_modules()}
        self.forward: list[nn.Module] = []
        self.backward: list[nn.Module] = []

    def note(self, part: nn.Module, args: Any, out: Any) -> None:
        given, made = list(_tensors(args)), list(_tensors(out))
        if _finite(given) and not _finite(made):
            self.forward.append(part)
        from_behind: list[Tensor] = []
        for t in made:
            if t.requires_grad:
                t.register_hook(from_behind.append)  # type: ignore[no-untyped-call]
        for t in given:
            if t.requires_grad:
                t.register_hook(lambda g: self._note_slope(part, from_behind, g))  # type: ignore[no-untyped-call]

    def _note_slope(self, part: nn.Module, from_behind: list[Tensor], g: Tensor) -> None:
        if _finite(from_behind) and not _finite([g]):
            self.backward.append(part)

    def called(self, part: nn.Module) -> str:
        kind, name = type(part).__name__, self.names[part]
        odd = [n for n, p in part.named_parameters(recurse=False) if not _finite([p])]
        whose = f", whose {' and '.join(odd)} is not finite" if odd else ""
        return f"'{name}' ({kind}{whose})" if name else f"the forward of {kind} itself, outside of its layers"


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _tensors(one)


def _finite(tensors: list[Tensor]) -> bool:
    return all(bool(t.isfinite().all()) for t in tensors)
