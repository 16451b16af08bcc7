"""Folders as `save_pretrained` of transformers writes them, of tiny networks with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

LABELS = ("cat", "cup", "dog")


def config(**more: Any) -> dict[str, Any]:
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return {**names, **sizes, "image_size": 32, "patch_size": 8, **more}


def saved_vit(folder: Path, processor: Any = None, **more: Any) -> Path:
    """Save a ViT of 32 px with a processor; by default one that resizes the shorter side and crops."""
    import transformers

    torch.manual_seed(0)
    transformers.ViTForImageClassification(transformers.ViTConfig(**config(**more))).save_pretrained(folder)
    own = processor or transformers.BitImageProcessor(size={"shortest_edge": 36}, crop_size={"height": 32, "width": 32})
    own.save_pretrained(folder)
    return folder
