"""RTS: real-time saliency (Dabkowski & Gal 2017), the paper's model-guided interpreter, with packaged networks."""

from __future__ import annotations

from underfire.interpreters.rts.rts import Rts, RtsA, RtsAid

__all__ = ["Rts", "RtsA", "RtsAid"]
