"""The check of a classifier: numbers of a network that is none would mean nothing (after the checks of auto-attack)."""

from __future__ import annotations

import torch

from underfire.core import Classifier, UnderfireError


def check(classifier: Classifier, device: torch.device | str = "cpu") -> None:
    """Check that the outputs of a classifier are finite, deterministic logits with a gradient to the input.

    Example:
        ``check(underfire.classifier("efficientnet-lite0"))``

    Args:
        classifier: what is checked, on two random images.
        device: where it is.

    Raises:
        UnderfireError: the outputs are none; the error says why.
    """
    size = classifier.preprocess.input_size
    x = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device).requires_grad_()
    try:
        z = classifier.logits(x)
    except (RuntimeError, ValueError, AssertionError) as e:
        raise UnderfireError(f"'{classifier.name}' fails on a {size}×{size} px input: {e}. Check --input-size.") from e
    problem = _problem(classifier, x.detach(), z.detach())
    if problem is None:
        grad = torch.autograd.grad((z[:, 0] - z[:, 1]).sum(), x, allow_unused=True)[0] if z.requires_grad else None
        if grad is None or not bool(grad.isfinite().all()) or not bool(grad.any()):
            problem = (
                "has no usable gradient to its input: remove what cuts the gradient (detach, no_grad, quantisation)"
            )
    if problem:
        raise UnderfireError(f"'{classifier.name}' {problem}.")


def _problem(classifier: Classifier, x: torch.Tensor, z: torch.Tensor) -> str | None:
    k = len(classifier.classes)
    if z.shape != (2, k):
        return f"returns {tuple(z.shape)} for 2 images and {k} classes: it must return one logit for each class"
    if not bool(z.isfinite().all()):
        return "returns values that are not finite: check the weights and the mean and std"
    if bool((z >= 0).all()) and bool((z.sum(1) - 1).abs().max() < 1e-3):
        return "returns probabilities, not logits: remove the softmax at its end"
    with torch.no_grad():
        again = classifier.logits(x)
    if not torch.allclose(again, z, rtol=1e-4, atol=1e-4 * float(z.abs().max())):
        return "answers differently when asked twice: put it into eval mode, without dropout"
    return None
