"""The classifiers of torchvision, with its own weights and transforms: ``torchvision:convnext_tiny``."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torchvision
from torch import nn

from underfire.classifiers import hub, inputs, weights
from underfire.classifiers.base import TorchClassifier
from underfire.classifiers.checkpoints import ENTRY, State
from underfire.classifiers.outputs import kind_for
from underfire.classifiers.unheard import refuse_for_network
from underfire.core import ClassifierOptions, Preprocess, unknown
from underfire.registry import register

OLD_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\."), r"\1\2."),
    (re.compile(r"(mlp\.)linear_1\."), r"\g<1>0."),
    (re.compile(r"(mlp\.)linear_2\."), r"\g<1>3."),
)
"""What torchvision's own files still call layers of DenseNets and ViTs -> what its networks call them now."""
RENORMALISING = ("inception_v3", "googlenet")
"""Architectures whose own weights expect TensorFlow's normalisation, which the network makes of ImageNet's itself."""


@register("classifiers", "torchvision")
def torchvision_network(variant: str, options: ClassifierOptions) -> TorchClassifier:
    """Any torchvision classifier: ``torchvision:vit_b_16``, ``torchvision:resnet50.IMAGENET1K_V1``."""
    architecture, _, tag = variant.partition(".")
    known = torchvision.models.list_models(module=torchvision.models)
    if architecture not in known:
        raise unknown("torchvision network", architecture, known)
    entry, name = _entry(architecture, tag), f"torchvision:{variant}"
    refuse_for_network(name, options)
    state, metadata = weights.read(options.weights, options.key) if options.weights else (_fetched(entry, name), {})
    module, state = _built(architecture, state), _renamed(state)
    metadata = weights.fit(module, state, options.weights or variant, name) | metadata
    k = _outputs(architecture, state)
    return TorchClassifier(
        module,
        name=name,
        preprocess=inputs.policy(_policy(entry), metadata, options),
        classes=inputs.class_names(k, metadata, options),
        classes_from=inputs.classes_from(k, metadata, options),
        entry=metadata.get(ENTRY, ""),
        head=kind_for(k, options.head, name),
        notes=list(_found(architecture, metadata, options)),
    )


def _found(architecture: str, metadata: Mapping[str, str], options: ClassifierOptions) -> Iterator[str]:
    """Say what was found in the user's own weights, and what is assumed of them: a file of weights cannot say it."""
    if weights.FOUND in metadata:
        yield metadata[weights.FOUND]
    if options.weights and architecture in RENORMALISING:
        yield (
            "Its input is renormalised as torchvision's own weights want it (transform_input=True): a network that was "
            "trained without transform_input is to be given through underfire.wrap."
        )


def _entry(architecture: str, tag: str) -> Any:
    """Find one of torchvision's sets of weights for an architecture; by default the best."""
    entries = torchvision.models.get_model_weights(architecture)
    if tag and tag not in entries.__members__:
        raise unknown(f"set of weights of torchvision's {architecture}", tag, entries.__members__)
    return entries[tag] if tag else entries.DEFAULT


def _fetched(entry: Any, name: str) -> State:
    """Fetch torchvision's weights: the digest in their name is checked, and they load without running code."""
    try:
        state: State = entry.get_state_dict(progress=False, check_hash=True, weights_only=True, map_location="cpu")
    except Exception as e:  # the downloader raises whatever its transport raises
        raise hub.not_fetched(name, e, "or give --weights FILE") from e
    return state


def _renamed(state: State) -> State:
    """Give weights the names that torchvision's networks have now."""
    return {_new_name(key): value for key, value in state.items()}


def _new_name(key: str) -> str:
    for old, new in OLD_NAMES:
        key = old.sub(new, key)
    return key


def _built(architecture: str, state: State) -> nn.Module:
    own: dict[str, Any] = {"num_classes": _outputs(architecture, state)}
    if architecture in RENORMALISING:
        auxiliary = any("aux" in key.lower() for key in state)
        own |= {"aux_logits": auxiliary, "transform_input": True, "init_weights": False}
    module: nn.Module = torchvision.models.get_model(architecture, weights=None, **own)
    return module


def _outputs(architecture: str, state: State) -> int:
    """Read K off the head's weight in a file, whatever the order of the file; 1,000 where it has none.

    The head is the last weight of the network that is no auxiliary head's; in the file its name may have a prefix.
    """
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on the initial weights of two networks, which are not used
        own: State = torchvision.models.get_model(architecture, weights=None).state_dict()
    head = [key for key, value in own.items() if value.dim() > 1 and "aux" not in key.lower()][-1]
    names = [key for key in state if f".{key}".endswith(f".{head}")]
    return int((state[min(names, key=len)] if names else own[head]).shape[0])


def _policy(entry: Any) -> Preprocess:
    made = entry.transforms()
    side, resize = made.crop_size[0], made.resize_size[0]
    return Preprocess(side, max(side, resize), tuple(made.mean), tuple(made.std), made.interpolation.value)
