"""Grad-CAM and its kin against the library grad-cam, and layers that do not suit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import timm
import torch
from pytorch_grad_cam import GradCAM, GradCAMPlusPlus, HiResCAM, LayerCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from pytorch_grad_cam.utils.reshape_transforms import vit_reshape_transform
from torch import nn

from support import toys
from support.attacked import distance, goal_of
from underfire import registry, wrap
from underfire.attacks.adv2 import adv2
from underfire.attacks.pgd import pgd
from underfire.classifiers.base import TorchClassifier
from underfire.core import ImageErrors, UnderfireError, UnknownNameError, UnsuitableError
from underfire.images import maps, photos, pixels
from underfire.interpreters.checked import explain
from underfire.interpreters.representation.layer_maps import scaled

LIBRARY: Mapping[str, Any] = {
    "gradcam": GradCAM,
    "hirescam": HiResCAM,
    "gradcam++": GradCAMPlusPlus,
    "layercam": LayerCAM,
}


def library_map(kind: Any, module: Any, layer: Any, x: torch.Tensor, y: list[int], **own: Any) -> torch.Tensor:
    """The library's map before its resizing, scaled as ours."""
    caught: list[Any] = []
    with kind(model=module, target_layers=[layer], **own) as library:
        original = library.get_cam_image

        def spy(*args: Any, **kwargs: Any) -> Any:
            caught.append(np.array(original(*args, **kwargs)))
            return caught[-1]

        library.get_cam_image = spy
        library(input_tensor=x.clone().requires_grad_(), targets=[ClassifierOutputTarget(k) for k in y])
    return maps.unit_scale(torch.from_numpy(np.maximum(caught[0], 0)).double())


def assert_same(got: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(got.double(), wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", LIBRARY)
@pytest.mark.parametrize("layer", ["first", "last"])
def test_a_toys_map_is_the_librarys(name: str, layer: str) -> None:
    classifier, x, y = toys.toy(), toys.pictures(4), [0, 1, 2, 3]
    got, none = explain(registry.build_interpreter(name, classifier, {"layer": layer}), x, torch.tensor(y))
    wanted = library_map(
        LIBRARY[name], classifier.module, classifier.module.get_submodule(layer), (x - 0.5) / toys.STD, y
    )
    there = [row for row in range(4) if row not in none]
    assert_same(got[there], wanted[there])
    assert len(there) >= 2
    assert not wanted[[*none]].any()  # where the library shows nothing, there is no map


@pytest.mark.parametrize("name", LIBRARY)
def test_the_default_networks_map_at_stride_16_is_the_librarys(name: str, lite0: TorchClassifier) -> None:
    folder = photos.Folder("demo")
    x = pixels.to_tensor([pixels.load(folder.bytes("chelsea.png"), "chelsea.png", lite0.preprocess)])
    one = registry.build_interpreter(name, lite0, {"layer": "stride16"})
    wanted = library_map(LIBRARY[name], lite0.module, lite0.module.get_submodule("blocks.4"), (x - 0.5) / 0.5, [282])
    assert_same(one.explain(x, torch.tensor([282])), wanted)


def transformer(name: str, **own: Any) -> TorchClassifier:
    torch.manual_seed(0)
    module = timm.create_model(name, pretrained=False, num_classes=5, **own)
    return wrap(module, input_size=64, mean=0.5, std=0.5, classes=list("abcde"))


def test_a_transformers_map_is_the_librarys() -> None:
    classifier, x = transformer("vit_tiny_patch16_224", img_size=64), toys.pictures(2, 3, 64).float()
    got = registry.build_interpreter("gradcam", classifier, {}).explain(x, torch.tensor([1, 4]))
    layer = classifier.module.get_submodule("blocks.11.norm1")
    reshape = {"reshape_transform": lambda a: vit_reshape_transform(a, 4, 4)}
    assert_same(got, library_map(GradCAM, classifier.module, layer, (x - 0.5) / 0.5, [1, 4], **reshape))


@pytest.mark.parametrize(
    ("network", "own", "layer", "kind"),
    [
        ("resnet18", {}, "layer4", "grid"),
        ("vgg11", {}, "features", "grid"),
        (
            "swin_tiny_patch4_window7_224",
            {"img_size": 64, "window_size": 2},
            "layers.3.blocks.1.norm1",
            "channels last",
        ),
        ("vit_tiny_patch16_224", {"img_size": 64}, "blocks.11.norm1", "tokens"),
    ],
)
def test_auto_is_where_the_library_says_to_look(network: str, own: dict[str, Any], layer: str, kind: str) -> None:
    found = transformer(network, **own).layer("auto")
    assert (found.name, found.kind) == (layer, kind)


def test_a_layers_share_of_what_is_behind_falls_and_is_paid() -> None:
    classifier = toys.whole()
    shares = [classifier.layer(name).behind for name in ("see", "down.0", "down.1", "down.2")]
    assert shares == sorted(shares, reverse=True)
    assert 0 < shares[-1] < 0.1 < shares[0] < 1


@pytest.mark.parametrize("layer", ["blok.4", "stride7"])
def test_an_unknown_layer_is_refused_with_those_that_there_are(layer: str) -> None:
    with pytest.raises(UnknownNameError, match=rf"'{layer}'.*auto, stride2"):
        registry.build_interpreter("gradcam", toys.toy(), {"layer": layer})


def test_the_nearest_layer_is_named() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'second'"):
        registry.build_interpreter("gradcam", toys.toy(), {"layer": "secund"})


def test_a_layer_without_a_grid_is_refused() -> None:
    with pytest.raises(UnsuitableError, match=r"'head'.*no grid"):
        registry.build_interpreter("gradcam", toys.toy(), {"layer": "head"})


def test_a_map_that_is_the_same_everywhere_is_none() -> None:
    classifier, x = toys.toy(), toys.pictures(2)
    classifier.module.get_submodule("head").weight.data[0] = -1.0  # type: ignore[operator]
    with pytest.raises(ImageErrors, match="same everywhere"):
        registry.build_interpreter("gradcam", classifier, {}).explain(x, torch.zeros(2, dtype=torch.int64))


def test_evidence_that_is_not_finite_is_told_as_that() -> None:
    evidence = torch.rand(4, 3, 3)
    evidence[1, 0, 0], evidence[2, 1, 1], evidence[3] = torch.inf, torch.nan, 0
    with pytest.raises(ImageErrors) as caught:
        scaled(evidence)
    told = caught.value.by_row
    assert {row: "not finite" in said for row, said in told.items()} == {1: True, 2: True, 3: False}
    assert ["same everywhere" in told[row] for row in (1, 2, 3)] == [False, False, True]


def test_the_classifier_is_left_as_it_was() -> None:
    classifier, x = toys.toy(), toys.pictures(2)
    registry.build_interpreter("gradcam", classifier, {}).explain(x, torch.tensor([0, 1]))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in classifier.module.modules())


class InPlace(nn.ReLU):
    def __init__(self) -> None:
        super().__init__(inplace=True)


def test_what_follows_may_write_over_the_layers_output() -> None:
    x, y = toys.pictures(3, 0, toys.SMALL), torch.tensor([0, 1, 2])
    plain, over = (
        explain(registry.build_interpreter("layercam", toys.small(activation=kind), {"layer": "body.0"}), x, y)
        for kind in (nn.ReLU, InPlace)
    )
    assert plain[1] == over[1]
    torch.testing.assert_close(plain[0], over[0], rtol=0, atol=1e-12, equal_nan=True)
    assert bool(plain[0].isfinite().any())


@pytest.mark.parametrize("name", LIBRARY)
def test_the_attack_brings_the_map_back_where_kinks_are_behind_the_layer(name: str) -> None:
    """ReLU has no second derivative: without the twin, the gradients of the tail could not be moved."""
    classifier, x = toys.small(activation=nn.ReLU), toys.pictures(3, 0, toys.SMALL)
    one = registry.build_interpreter(name, classifier, {"layer": "body.0"})
    assert not one.surrogate(x, goal_of(one, x)).shows
    assert distance(adv2.make("fast", name, 16), one, x) < 0.7 * distance(pgd.make("fast", None, 16), one, x)


def test_what_shows_no_layers_is_refused() -> None:
    class Bare:
        name = "bare"

    with pytest.raises(UnderfireError, match="'bare'"):
        registry.build_interpreter("gradcam", Bare(), {})  # type: ignore[arg-type]
