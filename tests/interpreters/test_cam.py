"""CAM against the library grad-cam, which knows nothing of us."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from support.toys import CLASSES, STD, ToyNet, goal_for, pictures, toy, victim
from underfire.classifiers.base import TorchClassifier
from underfire.images import maps, photos, pixels
from underfire.interpreters.cam import Cam

Array = np.ndarray[Any, Any]


def library_map(module: torch.nn.Module, layer: torch.nn.Module, x: torch.Tensor, y: list[int]) -> Array:
    """grad-cam's weighted sum of the layer's output before its ReLU, resizing and scaling."""
    caught: list[Array] = []
    with GradCAM(model=module, target_layers=[layer]) as library:
        original = library.get_cam_image

        def spy(*args: Any, **kwargs: Any) -> Array:
            caught.append(np.array(original(*args, **kwargs)))
            return caught[-1]

        library.get_cam_image = spy
        library(input_tensor=x.requires_grad_(), targets=[ClassifierOutputTarget(k) for k in y])
    return caught[0]


def test_a_toys_map_is_grad_cams() -> None:
    classifier = toy()
    assert isinstance(classifier.module, ToyNet)
    x, y = pictures(4), [0, 1, 2, 3]
    # With global average pooling and a linear head, ∂z_c/∂A_k is w_ck / (h·w) at every place.
    raw = library_map(classifier.module, classifier.module.last, (x - 0.5) / STD, y)
    got = Cam(classifier).explain(x, torch.tensor(y))
    torch.testing.assert_close(got, maps.unit_scale(torch.from_numpy(raw)).double(), rtol=0, atol=1e-9)


def test_the_default_networks_map_is_grad_cams(lite0: TorchClassifier) -> None:
    folder = photos.Folder("demo")
    x = pixels.to_tensor([pixels.load(folder.bytes(p), p, lite0.preprocess) for p in ("chelsea.png", "coffee.png")])
    y = [282, 967]
    raw = library_map(lite0.module, lite0.module.get_submodule("bn2"), (x - 0.5) / 0.5, y)
    got = Cam(lite0).explain(x, torch.tensor(y))
    torch.testing.assert_close(got, maps.unit_scale(torch.from_numpy(raw)), rtol=0, atol=1e-4)


def test_maps_fill_the_unit_interval_at_native_size() -> None:
    m = Cam(toy()).explain(pictures(3), torch.tensor([0, 1, 2]))
    assert m.shape == (3, 6, 6)
    assert m.amin((1, 2)).tolist() == [0, 0, 0]
    assert m.amax((1, 2)).tolist() == [1, 1, 1]
    assert not m.requires_grad


def test_the_class_decides_the_map() -> None:
    x = pictures(1).expand(CLASSES, -1, -1, -1)
    m = Cam(toy()).explain(x, torch.arange(CLASSES))
    assert len({tuple(one.flatten().tolist()) for one in m}) == CLASSES


def test_the_surrogates_loss_is_the_mean_square_of_the_maps_difference() -> None:
    _, cam = victim()
    x = pictures(3)
    goal = goal_for(cam, x)
    difference = cam.explain(x, goal.labels) - goal.maps["cam"]
    torch.testing.assert_close(cam.surrogate(x, goal).terms(x).loss, difference.square().mean((1, 2)))
