"""Which classifiers RTS can be trained for: asked before a training, and before anybody is sent to one."""

from __future__ import annotations

from itertools import pairwise

import torch

from underfire.core import Classifier, UnsuitableError
from underfire.heads import kind_of
from underfire.interpreters.rts.net import STRIDES


def refuse_unsuitable(classifier: Classifier) -> None:
    """Raise UnsuitableError for a classifier that RTS and its training were not made for."""
    kind, (height, width) = kind_of(classifier), classifier.preprocess.size
    if kind == "multilabel" or height != width:
        why = f"takes {height}×{width} px" if height != width else "has labels, each on or off by itself"
        raise UnsuitableError(
            f"RTS is trained on square photos and the probabilities of a softmax, and '{classifier.name}' {why}: use "
            "cam, grad or mask."
        )
    head = classifier.head
    with torch.no_grad(), classifier.meter.aside():
        levels = classifier.pyramid(torch.zeros(1, *classifier.preprocess.shape, device=head.device, dtype=head.dtype))
    shapes = [tuple(level.shape[1:]) for level in levels]
    maps = len(shapes) == STRIDES and all(len(shape) == 3 for shape in shapes)
    if not maps or shapes[-1][0] != head.shape[1] or not all(a[1] > b[1] for a, b in pairwise(shapes)):
        listed = ", ".join(" × ".join(map(str, shape)) for shape in shapes)
        raise UnsuitableError(
            f"RTS reads feature maps (C, h, w) at strides 4, 8, 16 and 32, the last as wide as the head, and those of "
            f"'{classifier.name}' are {listed}: use cam, grad or mask."
        )
