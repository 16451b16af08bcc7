"""Photos to ask a network about before it is attacked: those that scikit-image ships."""

from __future__ import annotations

import torch

from underfire.core import Images, Preprocess
from underfire.core.naming import DEMO
from underfire.images import pixels
from underfire.images.photos import Folder

ASKED = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png")
"""A cat, a cup, a rocket and a person."""


def photographs(policy: Preprocess, names: tuple[str, ...] = ASKED) -> Images:
    """Load photos (N, C, H, W) as a classifier's input, normalised."""
    folder = Folder(DEMO)
    x = pixels.to_tensor([pixels.load(folder.bytes(name), name, policy) for name in names])
    return (x - torch.tensor(policy.mean).view(1, -1, 1, 1)) / torch.tensor(policy.std).view(1, -1, 1, 1)
