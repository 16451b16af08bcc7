"""The check of a classifier: numbers of a network that is none would mean nothing (after the checks of auto-attack).

It is asked about three images: noise, one like a photo, and one with areas of pure black and pure white, where the
slopes of gammas, logarithms and square roots are not finite.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.core import FAILURES, Classifier, Images, UnderfireError, refused
from underfire.heads import kind_of
from underfire.heads.ending import AVERAGED, is_averaged, is_sigmoid, last_step
from underfire.plan.culprit import culprit

TWICE, BESIDE = 1e-4, {"cpu": 1e-3}
"""Differences that are rounding, as shares of the largest logit: of a batch that is asked twice; of an image alone and
in a batch, by device."""
BESIDE_ELSEWHERE = 1e-2
"""The same on other devices: GPUs round convolutions to ten bits, and choose them by the batch."""


def check(classifier: Classifier, device: torch.device | str = "cpu") -> None:
    """Check that each image has finite logits of its own, the same each time, with a gradient.

    Example:
        ``check(underfire.classifier("efficientnet-lite0"))``

    Args:
        classifier: what is checked, on three images.
        device: where it is.

    Raises:
        UnderfireError: it fails; the error says why, with the layer where it can be seen.
    """
    x = trial_images(*classifier.preprocess.shape).to(device).requires_grad_()
    before = dict(_buffers(classifier))
    z = _asked(classifier, x)
    problem = (
        _no_logits(classifier, x, z.detach())
        or _probabilities(classifier, z)
        or _unsteady(classifier, x.detach(), z.detach())
        or _written(classifier, before)
        or _no_slope(classifier, x, z)
    )
    if problem:
        raise UnderfireError(f"'{classifier.name}' {problem}.")


def answers(classifier: Classifier, x: Images) -> tuple[dict[int, float | None], float, float]:
    """Measure what `check` asks, on images (N, 3, H, W), of a classifier that has passed it.

    Returns:
        By row, the norm of the gradient of the likeliest class's log-odds, None where it is not finite; the difference
        of the logits when asked twice, and of an image alone and in a batch, as shares of the largest.
    """
    x = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        z = classifier.logits(x)
        first, second = z.topk(2, 1).values.T
        g = torch.autograd.grad((first - second).sum(), x)[0].flatten(1).norm(dim=1)
    with torch.no_grad():
        again = classifier.logits(x)
        alone = torch.cat([classifier.logits(one[None]) for one in x])
    largest = float(z.detach().abs().max()) or 1.0
    twice, apart = (float((z.detach() - other).abs().max()) / largest for other in (again, alone))
    return {n: float(v) if bool(v.isfinite()) else None for n, v in enumerate(g)}, twice, apart


def trial_images(channels: int, height: int, width: int) -> Images:
    """Make images (3, C, H, W): noise, coloured clouds, and the clouds with a black and a white area."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(channels, height, width, generator=generator)
    clouds = torch.zeros(channels, height, width)
    for n, share in ((2, 0.5), (5, 0.3), (11, 0.2)):
        wave = torch.rand(1, channels, n, n, generator=generator)
        clouds += share * F.interpolate(wave, (height, width), mode="bilinear")[0]
    clipped = clouds.clone()
    clipped[:, : height // 3], clipped[:, -(height // 3) :] = 0, 1
    return torch.stack([noise, clouds, clipped])


def _asked(classifier: Classifier, x: Images) -> Tensor:
    try:
        return classifier.logits(x)
    except FAILURES as e:
        raise refused(classifier.name, classifier.preprocess.size, e) from e


def _no_logits(classifier: Classifier, x: Images, z: Tensor) -> str | None:
    n, k = len(x), len(classifier.classes)
    if z.shape != (n, k):
        return f"returns {tuple(z.shape)} for {n} images and {k} classes: it must return one logit for each class"
    if k < 2:
        return f"has {k} output: logits of two classes or more are needed"
    if not bool(z.isfinite().all()):
        return f"returns values that are not finite{culprit(classifier, x)}: check the weights and the mean and std"
    if bool((z >= 0).all()) and bool((z.sum(1) - 1).abs().max() < 1e-3):
        return "returns probabilities, not logits: remove the softmax at its end"
    return None


def _probabilities(classifier: Classifier, z: Tensor) -> str | None:
    step = last_step(z, paired=kind_of(classifier) == "binary")
    if not is_sigmoid(step):
        return AVERAGED if is_averaged(step) else None
    return (
        "ends in a sigmoid, so it returns probabilities, not logits: remove the sigmoid at its end, and give --head "
        "multilabel or, for one output, binary"
    )


@torch.no_grad()
def _unsteady(classifier: Classifier, x: Images, z: Tensor) -> str | None:
    """Say whether the answer for an image changes from time to time, or with the other images of a batch."""
    for _ in range(2):
        change = _differs(classifier, z, _asked(classifier, x), TWICE)
        if change:
            return f"answers differently when asked twice ({change}): put it into eval mode, without dropout"
    alone = torch.cat([_asked(classifier, one[None]) for one in x])
    if alone.shape != z.shape:
        return f"returns {tuple(alone.shape[1:])} for an image alone and {tuple(z.shape[1:])} for it in a batch"
    change = _differs(classifier, z, alone, BESIDE.get(x.device.type, BESIDE_ELSEWHERE))
    if change:
        return (
            f"answers differently for an image alone and for it in a batch ({change}): put it into eval mode, and "
            "remove what couples the images of a batch"
        )
    return None


def _differs(classifier: Classifier, z: Tensor, other: Tensor, share: float) -> str:
    """Say which logit differs most, with both values; '' where all differences are rounding."""
    apart = (z - other).abs().nan_to_num(torch.inf)
    if float(apart.max()) <= share * float(z.abs().max()):
        return ""
    n, c = divmod(int(apart.argmax()), z.shape[1])
    return f"the logit of '{classifier.classes.names[c]}': {float(z[n, c]):.4g} and {float(other[n, c]):.4g}"


def _buffers(classifier: Classifier) -> Iterator[tuple[str, Tensor]]:
    module = getattr(classifier, "module", None)
    if isinstance(module, torch.nn.Module):
        yield from ((name, buffer.clone()) for name, buffer in module.named_buffers())


def _written(classifier: Classifier, before: dict[str, Tensor]) -> str | None:
    after = dict(_buffers(classifier))
    changed = [name for name, was in before.items() if not torch.equal(was.nan_to_num(), after[name].nan_to_num())]
    if changed:
        return f"changes its own '{changed[0]}' each time it is asked: put it into eval mode, and keep no count in it"
    return None


def _zeros(classifier: Classifier, k: int) -> str:
    """Name a head's weight (K, …) that is all zeros; '' without one."""
    module = getattr(classifier, "module", None)
    parameters = module.named_parameters() if isinstance(module, torch.nn.Module) else ()
    return next((name for name, p in parameters if p.dim() > 1 and len(p) == k and not bool(p.any())), "")


def _no_slope(classifier: Classifier, x: Images, z: Tensor) -> str | None:
    grad = torch.autograd.grad((z[:, 0] - z[:, 1]).sum(), x, allow_unused=True)[0] if z.requires_grad else None
    if grad is None or not bool(grad.any()):
        untrained = _zeros(classifier, z.shape[1])
        why = (
            f"'{untrained}' is all zeros, as a head is before training, so all images get the same logits: load trained"
        )
        cut = "remove what cuts the gradient (detach, no_grad, quantisation)"
        return f"has no usable gradient to its input: {f'{why} weights' if untrained else cut}"
    if bool(grad.isfinite().all()):
        return None
    where = ("noise", "an image like a photo", "an image with black and white areas")
    n = int((~grad.flatten(1).isfinite().all(1)).nonzero()[0])
    return (
        f"has a gradient that is not finite on {where[n]}{culprit(classifier, x)}: keep the argument of a power, root "
        "or logarithm a little above 0"
    )
