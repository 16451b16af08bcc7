"""A second count of what passes a network, at its first layer, that knows nothing of the meter."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from underfire.classifiers.base import TorchClassifier
from underfire.core import Classifier


class Recount:
    """Rows that pass a layer, forward and backward; `passes` in F.

    A forward counts 1 F, a backward 2 F; a double backward goes back through the first backward and through the forward
    once more, 4 F.
    """

    def __init__(self) -> None:
        self.forward = self.backward = 0

    @property
    def passes(self) -> float:
        """F of the whole network, as `PassMeter` counts it."""
        return self.forward + 2 * self.backward

    def note(self, _module: object, _args: object, out: Tensor) -> None:
        """Count a forward now, and the backwards when they come (a forward hook)."""
        self.forward += len(out)
        if out.requires_grad:
            out.register_hook(self._note_gradient)  # type: ignore[no-untyped-call]

    def _note_gradient(self, gradient: Tensor) -> None:
        self.backward += len(gradient)
        if gradient.requires_grad:
            gradient.register_hook(self._note_gradient)  # type: ignore[no-untyped-call]


@contextmanager
def recounted(classifier: Classifier) -> Iterator[Recount]:
    """Count what passes the first layer of a classifier's network inside the block.

    Only where the classifier is one of `underfire.wrap`'s kind, whose network can be seen; else nothing is counted.
    """
    recount = Recount()
    if not isinstance(classifier, TorchClassifier):
        yield recount
        return
    hook = _first_layer(classifier).register_forward_hook(recount.note)
    try:
        yield recount
    finally:
        hook.remove()


@torch.no_grad()
def _first_layer(classifier: TorchClassifier) -> nn.Module:
    """Find the layer with weights that is the first to see an image."""
    ran: list[nn.Module] = []
    layers = [m for m in classifier.module.modules() if any(True for _ in m.parameters(recurse=False))]
    hooks = [m.register_forward_hook(lambda m, _args, _out: ran.append(m)) for m in layers]
    try:
        classifier.logits(torch.zeros(1, *classifier.preprocess.shape, device=classifier.device))
    finally:
        for hook in hooks:
            hook.remove()
    return ran[0] if ran else classifier.module
