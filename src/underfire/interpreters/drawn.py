"""Random numbers that belong to an image: drawn from a seed and its own 8-bit pixels, never from its batch."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from underfire.core import LEVELS, Images


def generators(x: Images, seed: int, purpose: str) -> list[np.random.Generator]:
    """Start one generator for each image (N, 3, H, W): equal pixels get equal numbers.

    Args:
        x: images in [0, 1].
        seed: the interpreter's.
        purpose: what is drawn, such as 'rise/'.
    """
    started = []
    for one in (x.detach() * LEVELS).round().to(torch.uint8).cpu():
        digest = hashlib.sha256(f"{seed}/{purpose}/".encode() + one.contiguous().numpy().tobytes()).digest()
        started.append(np.random.default_rng(int.from_bytes(digest[:8], "big")))
    return started


def normal(started: list[np.random.Generator], shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Draw standard normal numbers (N, *shape), each image from its own generator."""
    return torch.from_numpy(np.stack([g.standard_normal(shape, np.float32) for g in started])).to(like)
