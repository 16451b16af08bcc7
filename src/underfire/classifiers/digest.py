"""The digest of a network: of its weights, its input policy and the kind of its head."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from underfire.core import Preprocess
from underfire.core.hashing import spell


def weights_digest(module: nn.Module, preprocess: Preprocess, head: str = "softmax") -> str:
    """Compute the SHA-256 of every weight's name, type, shape and bytes, of the input policy, and of the head."""
    digest = hashlib.sha256(spell(preprocess).encode())
    if head != "softmax":  # the only kind that there was at first
        digest.update(f"head {head}".encode())
    for key, value in sorted(module.state_dict().items()):
        for piece in _bytes(key, value):
            digest.update(piece)
    return digest.hexdigest()


def _bytes(key: str, value: object) -> Iterator[bytes]:
    if not isinstance(value, Tensor):  # a module's extra state can be anything that pickles
        yield f"{key} ".encode() + pickle.dumps(value, protocol=4)
        return
    tensor = value.detach().cpu().contiguous()
    yield f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode()
    yield tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
