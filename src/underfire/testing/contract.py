"""What all checks share: the error that says which rule is broken, soft random pictures, and a second count of F."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.classifiers.base import TorchClassifier
from underfire.core import LEVELS, Classifier, Images, UnderfireError
from underfire.testing.recount import recounted

SLACK = 1e-6
"""Relative error that sums of F may have."""


class ContractError(UnderfireError):
    """A part does not keep what its protocol promises.

    Args:
        part: its name.
        rule: which rule, in one or two words such as 'batch'; for programs.
        found: what was found instead, with the numbers; for people.
    """

    def __init__(self, part: str, rule: str, found: str) -> None:
        self.part, self.rule = part, rule
        super().__init__(f"'{part}' breaks its contract ({rule}): {found}.")


def require(kept: bool, part: str, rule: str, found: str) -> None:
    """Raise ContractError unless a rule is kept."""
    if not kept:
        raise ContractError(part, rule, found)


def pictures(
    n: int, size: int | tuple[int, int], seed: int = 0, dtype: torch.dtype = torch.float32, channels: int = 3
) -> Images:
    """Draw coloured clouds with some noise, on the 8-bit grid: (n, channels, H, W) in [0, 1].

    Args:
        n: how many.
        size: side in px, or height and width.
        seed: of the drawing.
        dtype: of the result.
        channels: 3 colours, or 1 grey.

    Example:
        >>> pictures(2, 64).shape
        torch.Size([2, 3, 64, 64])
    """
    height, width = (size, size) if isinstance(size, int) else size
    generator = torch.Generator().manual_seed(seed)
    clouds = F.interpolate(
        torch.rand(n, channels, 3, 3, generator=generator, dtype=torch.float64), (height, width), mode="bilinear"
    )
    noise = torch.rand(n, channels, height, width, generator=generator, dtype=torch.float64)
    return (((0.75 * clouds + 0.25 * noise) * LEVELS).round() / LEVELS).to(dtype)


def pictures_for(classifier: Classifier) -> Images:
    """Draw three `pictures` of a classifier's input size, in float32, on its device."""
    device = classifier.device if isinstance(classifier, TorchClassifier) else "cpu"
    policy = classifier.preprocess
    return pictures(3, policy.size, channels=policy.channels).to(device)


def largest(difference: Tensor) -> float:
    """Give the largest absolute value; NaN counts as infinite."""
    return float(difference.detach().double().abs().nan_to_num(nan=torch.inf).max()) if difference.numel() else 0.0


def allowed(values: Tensor, tolerance: float | None) -> float:
    """Give the tolerance, by default what rounding makes of equal sums in another order."""
    return tolerance if tolerance is not None else 1e-9 if values.dtype == torch.float64 else 1e-4


def spent(part: str, classifier: Classifier, n: int, work: Callable[[], object]) -> float:
    """Measure the F an image that some work on ``n`` images costs.

    Args:
        part: who works.
        classifier: whose meter counts.
        n: images of the batch.
        work: what is done.

    Raises:
        ContractError: rule 'metered', where images passed the network that the meter did not count. It is counted again
            at the network's first layer, where the classifier is one of `underfire.wrap`'s kind.
    """
    with recounted(classifier) as seen, classifier.meter.counting(n) as count:
        work()
    metered = float(count.passes.sum())
    require(
        metered >= seen.passes * (1 - SLACK),
        part,
        "metered",
        f"the network made {seen.passes:g} F and the meter counted {metered:g}",
    )
    return float(count.passes.max())
