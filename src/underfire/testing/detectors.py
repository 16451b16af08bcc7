"""Check a detector: evidence and scores that are an image's own, statistics that survive a file, passes that count."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from underfire.core import Classifier, Images, Labels, PerImage
from underfire.defenses.detector import Detector, FunctionDetector
from underfire.defenses.sight import Seen
from underfire.testing.contract import SLACK, ContractError, allowed, pictures_for, require, spent


def check_detector(
    detector: Detector | Callable[..., PerImage],
    classifier: Classifier,
    x: Images | None = None,
    *,
    tolerance: float | None = None,
) -> None:
    """Hold a detector against its protocol; a function from (classifier, pictures) to scores is one too.

    Args:
        detector: one that is built for ``classifier``, or a function.
        classifier: what it stands beside.
        x: (N, 3, H, W) images in [0, 1], two or more; by default three soft random pictures in float32.
        tolerance: how far an image's score may differ between batches, as a share of the score; by default 1e-9 in
            float64, else 1e-4.

    Raises:
        ContractError: for the first rule that is broken: 'shape' of evidence or scores, 'numbers' (NaN says neither yes
            nor no), 'repeat', 'batch', 'file' (what it learns must be the same after JSON), 'input' (it changes the
            pictures), 'metered' or 'cost'.

    Example:
        >>> check_detector(lambda classifier, x: x.std((1, 2, 3)), underfire.classifier("efficientnet-lite0"))
    """
    x = pictures_for(classifier) if x is None else x
    if not isinstance(detector, Detector):
        detector = FunctionDetector(getattr(detector, "__name__", "detector"), detector, classifier)
    name, before, found = detector.name, x.clone(), list[Tensor]()
    with torch.no_grad():
        y = classifier.logits(x).argmax(1)
    passes = spent(name, classifier, len(x), lambda: found.append(_evidence(detector, classifier, x, y)))
    evidence = found[0]
    require(torch.equal(x, before), name, "input", "it changes the pictures that it is given")
    shape = tuple(evidence.shape)
    require(evidence.dim() == 2 and len(evidence) == len(x), name, "shape", f"evidence of {len(x)} images is {shape}")
    require(bool(evidence.isfinite().all()), name, "numbers", f"its evidence is {evidence.tolist()}")
    learnt = detector.learn(_many(evidence))
    kept = _read_back(name, learnt)
    scores = _scores(detector, evidence, learnt)
    told = (
        f"with what it learnt, read back, it says {_scores(detector, evidence, kept).tolist()}, not {scores.tolist()}"
    )
    require(torch.equal(_scores(detector, evidence, kept), scores), name, "file", told)
    again = _evidence(detector, classifier, x, y)
    told = f"asked twice, its evidence is {evidence.tolist()}, then {again.tolist()}"
    require(torch.equal(again, evidence), name, "repeat", told)
    alone = torch.cat(
        [_scores(detector, _evidence(detector, classifier, x[n : n + 1], y[n : n + 1]), learnt) for n in range(len(x))]
    )
    most = allowed(scores, tolerance)
    told = f"alone, it says {alone.tolist()}, and in a batch {scores.tolist()}"
    require(torch.allclose(alone, scores, rtol=most, atol=most), name, "batch", told)
    require(
        passes <= detector.passes * (1 + SLACK) + SLACK,
        name,
        "cost",
        f"{passes:g} F, and passes says {detector.passes:g}",
    )


def _evidence(detector: Any, classifier: Classifier, x: Images, y: Labels) -> Tensor:
    with torch.no_grad():
        found: Tensor = detector.evidence(Seen(classifier, detector.members, x, y))
    return found


def _many(evidence: Tensor) -> Tensor:
    """Make more of a few images' evidence, since statistics want some: the same, a little apart, from a fixed seed."""
    noise = torch.randn(24, evidence.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    some = evidence[torch.arange(24) % len(evidence)]
    return some + 0.01 * noise.to(some) * (some.abs() + 1e-3)


def _scores(detector: Any, evidence: Tensor, learnt: Mapping[str, Any]) -> PerImage:
    scores = detector.score(evidence, learnt)
    said = tuple(scores.shape)
    require(scores.shape == (len(evidence),), detector.name, "shape", f"scores of {len(evidence)} images are {said}")
    require(not bool(scores.isnan().any()), detector.name, "numbers", f"its scores are {scores.tolist()}")
    kept: PerImage = scores
    return kept


def _read_back(name: str, learnt: Mapping[str, Any]) -> Mapping[str, Any]:
    """Write what was learnt as an alarm's file has it, and read it back."""
    try:
        kept: Mapping[str, Any] = json.loads(json.dumps(dict(learnt), allow_nan=False))
    except (TypeError, ValueError) as e:
        raise ContractError(name, "file", f"what it learns is no JSON ({e})") from e
    return kept
