"""Random numbers of an interpreter: drawn from its seed alone, the same for every picture.

A map should move with the picture and with nothing else. If each picture had masks of its own, a photo's map and that
of its copy would differ by the noise of the draw. The authors of RISE draw their masks once for all pictures too.
"""

from __future__ import annotations

import hashlib
import math

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
    return [generator(seed, purpose) for _ in x]


def generator(seed: int, purpose: str) -> np.random.Generator:
    """Start one generator."""
    digest = hashlib.sha256(f"{seed}/{purpose}/".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


def normal(rng: np.random.Generator, like: Tensor) -> Tensor:
    """Draw standard normal numbers (1, ...) for one of the images ``like`` (N, ...)."""
    return torch.from_numpy(rng.standard_normal((1, *like.shape[1:]), np.float32)).to(like)


GOLDEN = (5**0.5 - 1) / 2
"""A number whose multiples, modulo 1, fill the unit interval evenly: nothing random is needed."""


def stride(n: int) -> int:
    """Find a step that visits all of ``n`` places in turn, modulo n, and fills them evenly on the way."""
    near = max(1, round(n * GOLDEN))
    return next(k for k in range(near, 0, -1) if math.gcd(k, n) == 1)
