"""Heads: what the outputs of a classifier mean, so what its classes, an attack's loss and its success are.

    softmax     one class of all      p = softmax(z)       ℓ_c = z_c − logsumexp_{k≠c} z_k
    binary      two classes           one output z, shown to all others as the logits (−z/2, z/2) of a softmax
    multilabel  each label by itself  p_c = σ(z_c)         ℓ_c = z_c

ℓ_c are the log-odds of class c, so p_c = σ(ℓ_c) in each of them.
"""

from __future__ import annotations

from underfire.core.protocols import kind_of
from underfire.heads.head import Head
from underfire.heads.multilabel import MultiLabel
from underfire.heads.named import head_named, head_of
from underfire.heads.softmax import Softmax

__all__ = ["Head", "MultiLabel", "Softmax", "head_named", "head_of", "kind_of"]
