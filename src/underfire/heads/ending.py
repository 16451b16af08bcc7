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
_LINEAR = frozenset(
    f"{name}Backward{n}"
    for name in ("Addmm", "Mm", "Bmm", "Baddbmm", "Add", "Sub", "Convolution", "Mean", "Sum", "LogSoftmax")
    for n in (0, 1)
)


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
    """Tell whether a step is a sum, a product with weights or a log-softmax: such outputs are logits."""
    return step is not None and step.name() in _LINEAR


def is_softmax(step: Any) -> bool:
    """Tell whether a step is a softmax over the classes: it can be taken off, and the head is one."""
    return step is not None and step.name() == "SoftmaxBackward0"
