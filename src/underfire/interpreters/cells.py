"""Cells of 4×4 pixels, each of which becomes one map pixel: 224 px give the 56×56 of the published attack."""

from __future__ import annotations

import torch.nn.functional as F

from underfire.core import Classifier, Maps

POOL = 4
"""Side of a cell, px."""


def by_cells(m: Maps) -> Maps:
    """Average maps (N, H, W) over cells of 4×4 pixels; where a side is no multiple of 4, over cells of nearly 4.

    All cells are equally large, to a pixel, so that each lies in the picture where it is drawn.
    """
    h, w = m.shape[1:]
    if h % POOL or w % POOL:
        return F.adaptive_avg_pool2d(m[:, None], (max(1, round(h / POOL)), max(1, round(w / POOL))))[:, 0]
    return F.avg_pool2d(m[:, None], POOL)[:, 0]


def celled(digest: str, classifier: Classifier) -> str:
    """Give the digest of an interpreter that averages over cells, which is ``digest`` for most classifiers.

    Where a side is no multiple of 4, earlier versions left its last pixels out: those maps had other numbers.
    """
    uneven = any(side % POOL for side in classifier.preprocess.size)
    return " ".join(filter(None, (digest, "equal cells" if uneven else "")))
