"""The outputs of a network: how many there are, and what kind of head they make (`underfire.heads`).

One output is two classes. A sigmoid at the end shows labels by themselves, or again two classes; it is taken off where
it is a layer of its own, so that what remains are exactly the logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from underfire.core import HEADS, UnderfireError, unknown
from underfire.heads.ending import AVERAGED, is_averaged, is_linear, is_sigmoid, is_softmax, last_step

SIGMOID_OFF = "The sigmoid at its end was taken off: what goes into it are the logits."
"""What is said of a network that ends in a layer of sigmoids."""


@dataclass(frozen=True)
class Outputs:
    """What a network returns.

    Args:
        k: number of outputs.
        head: kind of head; one of `underfire.core.HEADS`.
        notes: what was done to the network, in sentences.
    """

    k: int
    head: str
    notes: tuple[str, ...] = ()


def outputs_of(module: nn.Module, shown: Sequence[Tensor], declared: str | None, name: str) -> Outputs:
    """Find out what a network returns; a layer of sigmoids at its end is taken off.

    Args:
        module: the network, underfire's own copy, with frozen weights.
        shown: a few normalised images (1, C, H, W).
        declared: the kind of head that its owner gives; None to find it.
        name: its name in an error.

    Raises:
        UnderfireError: no logits, or a kind of head that it cannot have; the network's own exceptions.
    """
    z = _answers(module, shown, name)
    k, step = z.shape[1], last_step(z)
    if is_averaged(step):
        raise UnderfireError(f"'{name}' {AVERAGED}.")
    if not is_sigmoid(step):
        if declared is None and not (is_linear(step) or is_softmax(step)):
            _refuse_probabilities(z.detach(), name)
        return Outputs(k, kind_for(k, declared, name))
    if declared == "softmax":
        raise UnderfireError(
            f"'{name}' ends in a sigmoid, so its outputs are no logits of a softmax: leave head out, or give "
            f"'{kind_for(k, None, name) if k == 1 else 'multilabel'}'."
        )
    kind = kind_for(k, declared or ("multilabel" if k > 1 else "binary"), name)
    _take_off(module, shown[0], name)
    return Outputs(k, kind, (SIGMOID_OFF,))


def kind_for(k: int, declared: str | None, name: str) -> str:
    """Give the kind of head of ``k`` outputs: the declared one, or 'binary' for one output and else 'softmax'.

    Raises:
        UnderfireError: they cannot have the declared kind, or it is none.
    """
    if declared is not None and declared not in HEADS:
        raise unknown("head", declared, HEADS)
    if k == 1 and declared not in (None, "binary"):
        raise UnderfireError(
            f"'{name}' has one output, and a {declared} head has several: leave head (--head) out, or give 'binary'."
        )
    if k > 1 and declared == "binary":
        raise UnderfireError(
            f"'{name}' has {k} outputs, and a binary head has one: leave head (--head) out for a softmax, or give "
            "'multilabel'."
        )
    return declared or ("binary" if k == 1 else "softmax")


def not_softmax(head: str) -> tuple[str, ...]:
    """Give what a digest holds of a kind of head: nothing of a softmax, the only kind that there was at first."""
    return () if head == "softmax" else (head,)


def named_outputs(k: int) -> int:
    """Count the classes of ``k`` outputs: one output is two classes."""
    return 2 if k == 1 else k


def _answers(module: nn.Module, shown: Sequence[Tensor], name: str) -> Tensor:
    """Ask the network about each image by itself, and stack its answers (n, K), with their graph."""
    answers = []
    for x in shown:
        with torch.enable_grad():
            z = module(x.detach().requires_grad_())
        if not isinstance(z, Tensor):
            raise UnderfireError(
                f"'{name}' returns a {type(z).__name__}, not a tensor: wrap a module that returns only logits (N, K)."
            )
        answers.append(z.reshape(1, -1) if z.numel() == 1 else z)
        if answers[-1].dim() != 2 or len(answers[-1]) != 1 or not answers[-1].numel():
            raise UnderfireError(
                f"'{name}' returns {tuple(z.shape)} for one image: logits (1, K), one for each class, are needed."
            )
    return torch.cat(answers)


def _refuse_probabilities(z: Tensor, name: str) -> None:
    """Raise UnderfireError for outputs that look like probabilities, unless they sum to 1: see `plan.check`."""
    inside = bool(((z >= 0) & (z <= 1)).all()) and bool((z != z[:1]).any())
    if inside and not bool((z.sum(1) - 1).abs().max() < 1e-3):
        raise UnderfireError(
            f"'{name}' returns numbers in [0, 1] for every image, as a sigmoid does: give a network that returns what "
            f"goes into it, the logits. If they are logits, say so with head (--head): {', '.join(HEADS)}."
        )


@torch.no_grad()
def _take_off(module: nn.Module, x: Tensor, name: str) -> None:
    """Put nothing in the place of the layer of sigmoids that the network ends in.

    Raises:
        UnderfireError: there is no such layer, or it is used elsewhere too.
    """
    ran: list[tuple[nn.Module, Tensor]] = []
    layers: dict[nn.Module, str] = {
        part: path for path, part in module.named_modules() if isinstance(part, nn.Sigmoid) and path
    }
    hooks = [part.register_forward_hook(lambda part, _args, out: ran.append((part, out))) for part in layers]
    try:
        before = module(x)
    finally:
        for hook in hooks:
            hook.remove()
    last = ran[-1][0] if ran and torch.equal(ran[-1][1].reshape(-1), before.reshape(-1)) else None
    if last is None or sum(part is last for part, _ in ran) > 1:
        raise UnderfireError(
            f"'{name}' ends in a sigmoid that cannot be taken off: give a network that returns what goes into the "
            "sigmoid, the logits, with head (--head) 'multilabel' or, for one output, 'binary'."
        )
    parent, _, leaf = layers[last].rpartition(".")
    setattr(module.get_submodule(parent), leaf, nn.Identity())
    after = module(x)
    if not torch.allclose(after.sigmoid(), before, atol=1e-6):
        raise UnderfireError(f"'{name}' is another network without the sigmoid at its end: give its logits.")
