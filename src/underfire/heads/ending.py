"""The last step of a network, read off the graph of its outputs: a sigmoid there is no matter of guessing."""

from __future__ import annotations

from typing import Any

from torch import Tensor

_SAME = frozenset(
    f"{name}Backward{n}"
    for name in (
        *("View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Select", "Slice", "T", "Transpose", "Permute"),
        *("Alias", "Clone", "ToCopy", "Expand", "Cat", "Stack", "Copy", "Contiguous", "Flatten"),
    )
    for n in (0, 1, 2)
)
"""Steps that move numbers and change none."""
_SUMS = frozenset(f"{name}Backward{n}" for name in ("Add", "Sub", "Mean", "Sum") for n in (0, 1))
"""Sums and means: logits where logits go in, and averaged probabilities where probabilities do."""
_SCALED = frozenset(("MulBackward0", "DivBackward0"))
"""Products and quotients: with one graph behind them, by a number."""
_LINEAR = _SUMS | frozenset(
    f"{name}Backward{n}" for name in ("Addmm", "Mm", "Bmm", "Baddbmm", "Convolution", "LogSoftmax") for n in (0, 1)
)
AVERAGED = (
    "returns means or sums of sigmoids or softmaxes, so probabilities, not logits: average what goes into the sigmoid "
    "or softmax, the logits"
)
"""What is said of a network with such outputs, after its name."""


def last_step(z: Tensor, paired: bool = False) -> Any:
    """Find the step of the graph that made the numbers of ``z``; None without a graph.

    Args:
        z: outputs with a graph.
        paired: whether they are the two logits that underfire makes of one output: then that of this output.
    """
    node: Any = z.grad_fn
    while node is not None and (node.name() in _SAME or (paired and node.name() == "MulBackward0")):
        paired = paired and node.name() != "MulBackward0"
        node = next((before for before, _ in node.next_functions if before is not None), None)
    return node


def is_sigmoid(step: Any) -> bool:
    """Tell whether a step is a sigmoid: then outputs are probabilities of single classes, not logits."""
    return step is not None and step.name() in ("SigmoidBackward0", "HardsigmoidBackward0")


def is_linear(step: Any) -> bool:
    """Tell whether a step is a sum, a product with weights or a log-softmax: logits, unless `is_averaged`."""
    return step is not None and step.name() in _LINEAR


def is_averaged(step: Any) -> bool:
    """Tell whether a step adds or averages sigmoids or softmaxes, and nothing else that depends on the image."""
    if step is None or step.name() not in _SUMS:
        return False
    ahead, seen = [step], {step}
    while ahead:
        node = ahead.pop()
        before = [one for one, _ in node.next_functions if one is not None]
        if node.name() in _SUMS | _SAME or (node.name() in _SCALED and len(before) == 1):
            ahead += [one for one in before if one not in seen]
            seen.update(before)
        elif not (is_sigmoid(node) or is_softmax(node)):
            return False
    return True


def is_softmax(step: Any) -> bool:
    """Tell whether a step is a softmax over the classes: it can be taken off, and the head is one."""
    return step is not None and step.name() == "SoftmaxBackward0"
