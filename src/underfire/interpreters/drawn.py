"""Random numbers of an interpreter: drawn from its seed alone, the same for every picture.

A map should move with the picture and with nothing else. If each picture had masks of its own, a photo's map and that
of its copy would differ by the noise of the draw. The authors of RISE draw their masks once for all pictures too.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from underfire.core import Images


def generators(x: Images, seed: int, purpose: str) -> list[np.random.Generator]:
    """Start a generator for each image (N, C, H, W), all alike.

    Args:
        x: the images.
        seed: the interpreter's.
        purpose: what is drawn, such as 'rise/'.
    """
    digest = hashlib.sha256(f"{seed}/{purpose}/".encode()).digest()
    return [np.random.default_rng(int.from_bytes(digest[:8], "big")) for _ in x]


def normal(started: list[np.random.Generator], shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Draw standard normal numbers (N, *shape), each image from its own generator."""
    return torch.from_numpy(np.stack([g.standard_normal(shape, np.float32) for g in started])).to(like)
