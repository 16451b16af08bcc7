"""Maps of the library grad-cam: `grad-cam:EigenCAM`, `grad-cam:ScoreCAM`, `grad-cam:XGradCAM` and so on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from underfire.core import Classifier, HasLayers, Images, Labels, UnsuitableError
from underfire.interpreters.adapters.adapter import Adapter
from underfire.registry import register


@register("interpreters", "grad-cam")
class LibraryCam(Adapter):
    """Any map of the library grad-cam that fits, as a judge, at the layer of `gradcam`."""

    name = "grad-cam:NAME"
    package, module = "grad-cam", "pytorch_grad_cam"

    def __init__(self, classifier: Classifier, layer: str = "auto", **options: Any) -> None:
        if not isinstance(classifier, HasLayers):
            raise UnsuitableError(f"The layers of '{classifier.name}' cannot be seen: build it with underfire.wrap.")
        self.layer = classifier.layer(layer)
        super().__init__(classifier, **options)

    @classmethod
    def explains(cls, kind: type) -> bool:
        """Tell whether a class is a map of layers."""
        from pytorch_grad_cam.base_cam import BaseCAM  # noqa: PLC0415 (an extra)

        return issubclass(kind, BaseCAM) and kind is not BaseCAM

    def evidence(self, x: Images, y: Labels) -> Tensor:
        """Compute the library's map, as it is shown."""
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: PLC0415 (an extra)

        target = self.network.module.get_submodule(self.layer.name)
        reshape = None if self.layer.kind == "grid" else self.layer.as_grid
        with self.kind(self.network, [target], reshape_transform=reshape, **self.options) as library:
            return torch.from_numpy(library(input_tensor=x, targets=[ClassifierOutputTarget(int(y))]))
