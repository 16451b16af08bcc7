"""Check a classifier: logits that mean something, one truth for features and logits, and passes that are counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from underfire.core import Classifier, Images, UnderfireError
from underfire.plan.check import check
from underfire.testing.contract import SLACK, ContractError, allowed, largest, pictures_for, require, spent

T = TypeVar("T")
CLOSE = 1e-3
"""How far logits by another way may be from the logits, as a share of the largest one."""


def check_classifier(classifier: Classifier, x: Images | None = None, *, tolerance: float | None = None) -> None:
    """Hold a classifier against its protocol.

    Args:
        classifier: any; `features` and `pyramid` are checked where it has them.
        x: (N, 3, H, W) images in [0, 1], two or more; by default three soft random pictures.
        tolerance: how far an image's logits may differ between batches, as a share of the largest one; by default 1e-9
            in float64, else 1e-4.

    Raises:
        ContractError: for the first rule that is broken: 'answers' (finite, deterministic logits with a gradient, one a
            class), 'frozen', 'batch', 'features', 'pyramid' or 'metered'.

    Example:
        >>> check_classifier(underfire.classifier("efficientnet-lite0"))
    """
    x = pictures_for(classifier) if x is None else x
    name = classifier.name
    try:
        check(classifier, x.device)
    except UnderfireError as e:
        raise ContractError(name, "answers", str(e).rstrip(".")) from e
    _check_logits(classifier, x, tolerance)
    _check_passes(classifier, x)
    if (features := _had(lambda: classifier.features(x))) is not None:
        apart = largest(classifier.scores(features) - classifier.logits(x)) / largest(classifier.logits(x))
        require(apart <= CLOSE, name, "features", f"their scores are {apart:.2%} away from the logits")
        wanted, head = (len(classifier.classes), features.shape[1]), tuple(classifier.head.shape)
        require(features.dim() == 4 and head == wanted, name, "features", f"the head is {head}, not {wanted}")
    if features is not None and (levels := _had(lambda: classifier.pyramid(x))) is not None:
        apart = largest(levels[-1] - features) if levels[-1].shape == features.shape else torch.inf
        require(apart <= CLOSE * largest(features), name, "pyramid", f"its last level is {apart:g} away from features")


def _had(ask: Callable[[], T]) -> T | None:
    """Give the answer, or None from a network that has no such thing."""
    try:
        return ask()
    except UnderfireError:
        return None


def _check_logits(classifier: Classifier, x: Images, tolerance: float | None) -> None:
    name = classifier.name
    z = classifier.logits(x)
    require(not z.requires_grad, name, "frozen", "its weights ask for gradients: each search would compute them too")
    alone = torch.cat([classifier.logits(x[n : n + 1]) for n in range(len(x))])
    apart, most = largest(alone - z) / largest(z), allowed(z, tolerance)
    require(apart <= most, name, "batch", f"alone and in a batch, logits differ by {apart:g}; {most:g} is allowed")


def _check_passes(classifier: Classifier, x: Images) -> None:
    """Hold the meter against the definition: 1 F a forward pass, 2 F more for a backward pass to the input."""
    leaf = x.detach().clone().requires_grad_()
    asked: list[tuple[str, float, Callable[[], object]]] = [
        ("a forward pass", 1.0, lambda: classifier.logits(x)),
        ("a forward and a backward pass", 3.0, lambda: torch.autograd.grad(classifier.logits(leaf).sum(), leaf)),
    ]
    for what, cost, work in asked:
        passes = spent(classifier.name, classifier, len(x), work)
        told = f"the meter counts {passes:g} F for {what}, not {cost:g}"
        require(abs(passes - cost) <= SLACK, classifier.name, "metered", told)
