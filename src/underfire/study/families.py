"""The explanations that a study of explanations takes, by the families of the paper. No torch."""

from __future__ import annotations

import itertools

FAMILIES = {
    "back-propagation": ("grad", "inputxgrad", "ig", "smoothgrad"),
    "representation": ("cam", "gradcam", "hirescam", "gradcam++", "layercam", "relevance", "rollout"),
    "removal": ("mask", "occlusion", "rise", "lime", "kernelshap"),
    "model": ("rts", "rts-a"),
}
"""The explanations that people deploy and the paper's, by the paper's families."""
EXPLANATIONS = tuple(itertools.chain(*FAMILIES.values()))
