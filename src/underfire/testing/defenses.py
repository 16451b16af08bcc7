"""Check a defense: scores that are an image's own, and the classifier's logits beside them."""

from __future__ import annotations

import math

import torch

from underfire.core import Classifier, Defense, Images
from underfire.testing.contract import SLACK, allowed, largest, pictures_for, require, spent


def check_defense(
    defense: Defense, classifier: Classifier, x: Images | None = None, *, tolerance: float | None = None
) -> None:
    """Hold a defense against its protocol.

    Args:
        defense: one that is built for ``classifier``.
        classifier: what it stands beside.
        x: (N, 3, H, W) images in [0, 1], two or more; by default three soft random pictures in float32.
        tolerance: how far an image's score may differ between batches, as a share of the score; by default 1e-9 in
            float64, else 1e-4.

    Raises:
        ContractError: for the first rule that is broken: 'threshold', 'logits', 'shape', 'numbers' (NaN says neither
            yes nor no; an image that cannot be scored has an infinite score), 'repeat', 'batch', 'metered' or 'cost'.

    Example:
        >>> classifier = underfire.classifier("efficientnet-lite0")
        >>> check_defense(underfire.alarm("alarm.json", classifier), classifier)
    """
    x = pictures_for(classifier) if x is None else x
    name, found = defense.name, []
    require(not math.isnan(defense.threshold), name, "threshold", "its threshold is no number")
    passes = spent(name, classifier, len(x), lambda: found.append(defense.scores(x)))
    z, scores, _ = found[0]
    wrong, size = largest(z - classifier.logits(x).to(z)), largest(z)
    require(wrong <= 1e-4 * size, name, "logits", f"its logits are {wrong:g} away from the classifier's, of {size:g}")
    require(scores.shape == (len(x),), name, "shape", f"the scores of {len(x)} images are {tuple(scores.shape)}")
    require(not bool(scores.isnan().any()), name, "numbers", f"its scores are {scores.tolist()}")
    again = defense.scores(x)[1]
    require(
        torch.equal(again, scores), name, "repeat", f"asked twice, it says {scores.tolist()}, then {again.tolist()}"
    )
    alone = torch.cat([defense.scores(x[n : n + 1])[1] for n in range(len(x))])
    most = allowed(scores, tolerance)
    told = f"alone, it says {alone.tolist()}, and in a batch {scores.tolist()}"
    require(torch.allclose(alone, scores, rtol=most, atol=most), name, "batch", told)
    require(passes <= defense.passes * (1 + SLACK), name, "cost", f"{passes:g} F, and passes says {defense.passes:g}")
