"""MASK: meaningful perturbation (Fong & Vedaldi 2017), the paper's perturbation-guided interpreter, and its attacks."""

from __future__ import annotations

from underfire.interpreters.mask.mask import Mask

__all__ = ["Mask"]
