"""The walks that were taken last. An attack begins with that of the benign image, which the judge has just taken."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import torch

from underfire.core import Images, Labels
from underfire.core.precision import FULL, judging, whole_precision
from underfire.interpreters.mask.walk import Process, Visit, Walk

BATCHES = 3
"""Number of batches whose walks are kept: between the benign maps and the attack on MASK others are judged.

A walk of 300 steps takes 1.9 MB an image.
"""


class Recent:
    """The visits of the last batches' walks, in float32 and without jitter; several threads may ask at once."""

    def __init__(self) -> None:
        self._batches: tuple[tuple[list[bytes], Sequence[Visit]], ...] = ()

    def kept(self, process: Process, x: Images, y: Labels, walk: Walk) -> Iterator[Visit]:
        """Take a walk of images (N, 3, H, W) for classes ``y`` (N,), and keep it where it is the judge's.

        The visits lie in blocks: kept as they come, between the large tensors of each pass, they would hold a hundred
        times their size.
        """
        if process.jitter > 1 or whole_precision() != FULL:
            yield from process.visits(x, y, walk)
            return
        m, score, gradient = (
            walk.m.new_empty(process.steps, *shape) for shape in (walk.m.shape, y.shape, walk.m.shape)
        )
        for k, visit in enumerate(process.visits(x, y, walk)):
            m[k], score[k], gradient[k] = visit
            yield visit
        self._last((_names(x, y), [Visit(*parts) for parts in zip(m, score, gradient, strict=True)]))

    def walk(self, process: Process, x: Images, y: Labels, steps: int) -> list[Visit]:
        """Give the first ``steps`` visits of the walks of images (N, 3, H, W) for classes ``y`` (N,), from ½ on.

        An attacker would take this walk himself, so its passes are counted where it is known already too.
        """
        wanted = _names(x, y)
        for batch in reversed(self._batches):  # of two walks of an image the later one: weights may have changed
            names, visits = batch
            if steps <= len(visits) and set(wanted) <= set(names):
                self._last(batch)
                process.classifier.meter.charge(len(x), 3.0 * steps)
                rows = [names.index(name) for name in wanted]
                return [Visit(*(part[rows].to(x.device) for part in visit)) for visit in visits[:steps]]
        with judging():
            return list(process.visits(x, y, process.start(x), steps))

    def _last(self, batch: tuple[list[bytes], Sequence[Visit]]) -> None:
        """Make a batch the last to be forgotten."""
        others = [one for one in self._batches if one is not batch]
        self._batches = (*others, batch)[-BATCHES:]


def _names(x: Images, y: Labels) -> list[bytes]:
    """Name images by their values and classes."""
    return [
        hashlib.sha256(one.contiguous().view(torch.uint8).numpy().tobytes() + label.to_bytes(8, "big")).digest()
        for one, label in zip(x.detach().cpu(), y.tolist(), strict=True)
    ]
