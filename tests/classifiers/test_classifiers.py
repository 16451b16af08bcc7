"""Networks from everywhere become classifiers under attack, or say in one sentence why not."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from support.toys import CLASSES, ToyNet, pictures, seeded, toy
from underfire import classifier as named
from underfire import wrap
from underfire.classifiers import inputs, timm_models, weights
from underfire.classifiers.base import TorchClassifier
from underfire.classifiers.digest import weights_digest
from underfire.classifiers.folding import fold_batch_norm
from underfire.core import (
    Classifier,
    ClassifierOptions,
    DamagedFileError,
    NotFoundError,
    Preprocess,
    UnderfireError,
    UnsafeFileError,
    UnsuitableError,
)
from underfire.core.naming import DEMO
from underfire.images import pixels
from underfire.images.photos import Folder
from underfire.passes.layout import lies_last
from underfire.plan.check import check

BASE = Preprocess(224, 256)
NONE = ClassifierOptions()


def predicted(classifier: Classifier, paths: list[Path], batch: int = 8) -> list[int]:
    found: list[int] = []
    for start in range(0, len(paths), batch):
        part = paths[start : start + batch]
        x = pixels.to_tensor([pixels.load(p.read_bytes(), p.name, classifier.preprocess) for p in part])
        with torch.no_grad():
            found += classifier.logits(x).argmax(1).tolist()
    return found


# -- the default ----------------------------------------------------------------------------------------------------


def test_lite0_is_frozen_and_named(lite0: TorchClassifier) -> None:
    assert isinstance(lite0, Classifier)
    assert not any(m.training for m in lite0.module.modules())
    assert not any(p.requires_grad for p in lite0.module.parameters())
    assert len(lite0.classes) == len(lite0.classes.ids) == 1000
    assert (lite0.classes.ids[281], lite0.classes.names[281]) == ("n02123045", "tabby, tabby cat")
    assert (lite0.preprocess.input_size, lite0.preprocess.resize) == (224, 256)


def test_lite0_has_all_the_shapes(lite0: TorchClassifier) -> None:
    x = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    features = lite0.features(x)
    assert features.shape == (1, 1280, 7, 7)
    assert lite0.head.shape == (1000, 1280)
    torch.testing.assert_close(lite0.scores(features), lite0.logits(x), rtol=0, atol=1e-4)
    assert [m.shape[-1] for m in lite0.pyramid(x)] == [56, 28, 14, 7]


def test_lite0_knows_a_cat_and_a_cup(lite0: TorchClassifier) -> None:
    root = Path(str(Folder(DEMO).root))
    cat, coffee = predicted(lite0, [root / "chelsea.png", root / "coffee.png"])
    assert any(word in lite0.classes.names[cat] for word in ("tabby", "tiger cat", "Egyptian cat"))
    assert any(word in lite0.classes.names[coffee] for word in ("espresso", "cup", "coffee mug"))


def test_lite0_is_right_on_most_shared_photos(lite0: TorchClassifier, shared: Path) -> None:
    photos = sorted((shared / "data" / "in1k-samples").glob("*.jpg"))[::17][:40]
    found = [lite0.classes.ids[k] for k in predicted(lite0, photos)]
    assert sum(p.stem == wnid for p, wnid in zip(photos, found, strict=True)) / len(photos) >= 0.75


@pytest.mark.parametrize(("name", "n"), [("resnet50", 40), ("densenet169", 20)])
def test_ones_own_weights_load_with_all_they_say(name: str, n: int, shared: Path) -> None:
    built = named(name, weights=str(shared / "models" / f"{name}_tiny20.safetensors"))
    assert (len(built.classes), built.preprocess.input_size) == (20, 128)
    assert "goldfish" in built.classes.names[0]
    photos = sorted((shared / "data" / "tiny20" / "val").glob("*/*.JPEG"))[:: 480 // n][:n]
    found = [built.classes.ids[k] for k in predicted(built, photos)]
    assert sum(p.parent.name == wnid for p, wnid in zip(photos, found, strict=True)) / len(photos) >= 0.6


def test_resnet50_offline_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_args: object, **_kwargs: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UnderfireError, match=r"'resnet50'.*OSError.*--weights"):
        named("resnet50")


def test_an_unknown_timm_network_names_the_nearest() -> None:
    with pytest.raises(UnderfireError, match=r"'resnet81'. Did you mean 'resnet"):
        named("timm:resnet81")


@pytest.mark.parametrize(
    "name", ["efficientnet-lite0", "timm:resnet10t", "torchvision:resnet18", "resnet50", "densenet169"]
)
@pytest.mark.parametrize(
    ("option", "word", "there"),
    [
        ("order", "bgr", "rgb"),
        ("layout", "nhwc", "nchw"),
        ("output", "1", "one output"),
        ("key", "teacher", "one set of weights"),
    ],
)
def test_what_a_network_by_name_does_not_heed_is_refused(name: str, option: str, word: str, there: str) -> None:
    given: dict[str, Any] = {option: word}
    with pytest.raises(UnderfireError, match=rf"--{option} {word}: '{name}' has {there}; leave it out"):
        named(name, **given)


@pytest.mark.parametrize("name", ["efficientnet-lite0:lite2", "efficientnet-lite2:2", "resnet50:a1", "densenet169:x"])
def test_a_word_behind_the_colon_of_a_network_without_variants_is_refused(name: str) -> None:
    with pytest.raises(UnderfireError, match=rf"'{name}': there is one .*; leave ':{name.partition(':')[2]}' out"):
        named(name)


# -- batch norm -----------------------------------------------------------------------------------------------------


def with_random_norms(module: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            part.running_mean.normal_(0, 0.1, generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
            part.weight.data.uniform_(0.5, 1.5, generator=generator)
            part.bias.data.normal_(0, 0.1, generator=generator)
    return module.eval().requires_grad_(False)


def answers(module: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """Logits, and the gradient of a mix of them."""
    x = x.clone().requires_grad_()
    z = module(x)
    mix = torch.linspace(-1, 1, z.shape[1], dtype=z.dtype)
    return z.detach(), torch.autograd.grad((z * mix).sum(), x)[0]


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    [
        ("resnet18", torch.float64, 1e-9),
        ("densenet121", torch.float64, 1e-9),
        ("tf_efficientnet_lite0", torch.float32, 1e-4),  # depthwise convolutions are very slow in float64
    ],
)
def test_folding_changes_neither_logits_nor_gradients(name: str, dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)  # in float32 some other networks have a kink that falls on either side
    module = with_random_norms(timm.create_model(name, pretrained=False)).to(dtype)
    x = pictures(1, size=64).to(dtype)
    before = answers(module, x)
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in module.modules())
    folded = len(fold_batch_norm(module, x[:1]))
    assert folded == norms - sum(isinstance(m, nn.BatchNorm2d) for m in module.modules())
    assert folded >= norms // 3
    for was, is_now in zip(before, answers(module, x), strict=True):
        torch.testing.assert_close(is_now, was, rtol=0, atol=tolerance * float(was.abs().max()))


@pytest.mark.parametrize(("name", "conv"), [("resnet10t", "layer4.0.conv1"), ("efficientnet_b0", "conv_head")])
def test_a_convolution_that_is_looked_at_has_its_own_output(name: str, conv: str) -> None:
    torch.manual_seed(0)
    module = with_random_norms(timm.create_model(name, pretrained=False, num_classes=5))
    plain, folded = (wrap(module, input_size=64, mean=0.5, std=0.25) for _ in range(2))
    x = pictures(2, size=64).float()
    folded.fold(x[:1])
    z, a = plain.activations(x, plain.layer(conv))
    before, behind = folded.layer("auto"), dict(folded.module.named_modules())
    z_folded, a_folded = folded.activations(x, folded.layer(conv))
    torch.testing.assert_close(a_folded, a, rtol=1e-3, atol=1e-4 * float(a.detach().abs().max()))
    torch.testing.assert_close(z_folded, z, rtol=1e-3, atol=1e-4 * float(z.detach().abs().max()))
    assert folded.layer("auto") == before
    assert set(behind) <= set(dict(folded.module.named_modules()))


class Shortcut(nn.Module):
    """Uses the convolution's output beside the norm's as well: folding would change it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        a = self.conv(x)
        z: Tensor = self.head((a + self.norm(a)).mean((2, 3)))
        return z


class TwoNorms(Shortcut):
    """Reads one convolution through two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        a = self.conv(x)
        z: Tensor = self.head((self.norm(a) + self.other(a).relu()).mean((2, 3)))
        return z


class CalledTwice(Shortcut):
    """Calls one convolution twice, once with the norm behind it and once without."""

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.head((self.norm(self.conv(x)) + self.conv(x.flip(3)).relu()).mean((2, 3)))
        return z


class Separable(nn.Module):
    """A depthwise convolution and a 1×1 one, or two that are neither."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.second, self.end = nn.Conv2d(8, 8, 3, groups=groups), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.end(self.second(self.norm(self.first(x)).relu()).mean((2, 3)))
        return z


@pytest.mark.parametrize(("groups", "last"), [(8, True), (4, False), (1, False)])
def test_only_networks_with_depthwise_convolutions_lie_with_the_channels_last(groups: int, last: bool) -> None:
    network, x = seeded(Separable(groups)), pictures(2, size=16)
    made = wrap(network, input_size=16, classes=list("abcde"))
    before = made.logits(x)
    made.fold(x)
    assert lies_last(made.module.state_dict()["first.weight"]) is last
    torch.testing.assert_close(made.logits(x), before)
    assert not lies_last(made.to("meta").module.state_dict()["first.weight"])  # as on a GPU
    assert not lies_last(wrap(seeded(Separable(8)), input_size=16).module.state_dict()["first.weight"])


@pytest.mark.parametrize("network", [Shortcut, TwoNorms, CalledTwice])
def test_what_cannot_be_folded_is_put_back(network: type[Shortcut]) -> None:
    module = with_random_norms(seeded(network()))
    x = pictures(2)
    before, state = answers(module, x), set(module.state_dict())
    assert not fold_batch_norm(module, x[:1])
    assert set(module.state_dict()) == state
    for was, is_now in zip(before, answers(module, x), strict=True):
        torch.testing.assert_close(is_now, was, rtol=0, atol=0)


# -- one's own network ----------------------------------------------------------------------------------------------


def _densenet() -> nn.Module:
    """A small one: its last ReLU is a function, not a module."""
    module: nn.Module = torchvision.models.DenseNet(8, (2, 2, 2, 2), 16)
    return module


def _resnet() -> nn.Module:
    module: nn.Module = torchvision.models.resnet18(weights=None)
    return module


@pytest.mark.parametrize("make", [_resnet, _densenet])
def test_wrap_finds_the_features_of_torchvisions_networks(make: Callable[[], nn.Module]) -> None:
    module = with_random_norms(make()).double()
    x = pictures(1, size=64)
    before = module(x)
    built = wrap(module, input_size=64, mean=(0, 0, 0), std=(1, 1, 1), classes=[str(i) for i in range(1000)])
    features = built.features(x)
    assert features.shape[-1] == 2
    torch.testing.assert_close(built.scores(features), before)
    torch.testing.assert_close(features.mean((2, 3)) @ built.head.T, before - _bias(module), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(module(x), before, rtol=0, atol=0)


def _bias(module: nn.Module) -> Tensor:
    bias = [m for m in module.modules() if isinstance(m, nn.Linear)][-1].bias
    return bias.detach()


class Transformer(nn.Module):
    """Patches, attention, a class token: no global average pooling."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.token = nn.Conv2d(3, 8, 4, 4), nn.Parameter(torch.zeros(1, 1, 8))
        self.block, self.head = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).transpose(1, 2)
        z: Tensor = self.head(self.block(torch.cat([self.token.expand(len(x), -1, -1), patches], 1))[:, 0])
        return z


def _mobilenet() -> nn.Module:
    module: nn.Module = torchvision.models.mobilenet_v3_small(weights=None)
    return module


@pytest.mark.parametrize("make", [Transformer, _mobilenet])
def test_a_network_without_cam_says_so(make: Callable[[], nn.Module]) -> None:
    built = wrap(make(), input_size=64, name="mine")
    with pytest.raises(UnsuitableError, match="'mine'"):
        _ = built.head


def test_a_timm_network_without_finer_maps_has_no_pyramid() -> None:
    module = nn.Module()
    module.feature_info, module.forward_intermediates = [{"reduction": 7}] * 2, nn.Identity()  # type: ignore[assignment]
    assert timm_models._pyramid(module) is None  # ConvMixer's blocks all have a stride of 7
    assert timm_models._pyramid(timm.create_model("resnet10t")) is not None


def test_a_network_without_pyramid_says_so() -> None:
    with pytest.raises(UnsuitableError, match=r"'toy'.*pyramid="):
        toy().pyramid(pictures(1))


def test_wrap_normalises_inside() -> None:
    module, x = seeded(ToyNet()).eval(), pictures(2)
    built = wrap(module, input_size=12, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), classes=list("abcd"))
    channels = [(x[:, c] - 0.1 * (c + 1)) / (0.4 + 0.1 * c) for c in range(3)]
    torch.testing.assert_close(built.logits(x), module(torch.stack(channels, 1)))


def test_wrap_counts_the_classes_and_keeps_its_share_of_the_photo() -> None:
    built = wrap(seeded(ToyNet(7)), input_size=14)
    assert built.classes.names == tuple(f"class {i}" for i in range(7))
    assert built.preprocess.resize == 16


def test_the_digest_is_of_weights_and_policy() -> None:
    one, other = seeded(ToyNet(), 0), seeded(ToyNet(), 1)
    assert weights_digest(one, BASE) == weights_digest(seeded(ToyNet(), 0), BASE)
    assert len({weights_digest(one, BASE), weights_digest(other, BASE), weights_digest(one, Preprocess(224, 224))}) == 3


class Versioned(ToyNet):
    version = 1

    def get_extra_state(self) -> dict[str, int]:
        return {"version": self.version}

    def set_extra_state(self, state: Any) -> None:
        self.version = state["version"]


def test_a_networks_extra_state_is_in_its_digest() -> None:
    one, other = seeded(Versioned()), seeded(Versioned())
    digest = wrap(one, input_size=12).digest
    other.set_extra_state({"version": 2})
    assert digest == wrap(seeded(Versioned()), input_size=12).digest != wrap(other, input_size=12).digest


class Maps(NamedTuple):
    maps: Tensor
    mean: Tensor


class Stem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)

    def forward(self, x: Tensor) -> Maps:
        maps = self.conv(x).relu()
        return Maps(maps, maps.mean())


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = Stem(), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.head(self.stem(x).maps.mean((2, 3)))
        return z


def test_a_layer_may_return_a_named_tuple() -> None:
    built = wrap(seeded(Named()).float(), input_size=16)
    x = torch.rand(2, 3, 16, 16)
    z, maps = built.activations(x, built.layer("stem"))
    assert maps.shape == (2, 8, 8, 8)
    torch.testing.assert_close(z, built.logits(x))


# -- what is no classifier ------------------------------------------------------------------------------------------


class Odd(ToyNet):
    def __init__(self, twist: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.twist = twist

    def forward(self, x: Tensor) -> Any:
        return self.twist(super().forward(x), x)


ODD: Mapping[str, tuple[Callable[[Tensor, Tensor], Any], str]] = {
    "probabilities": (lambda z, x: z.exp() / z.exp().sum(1, keepdim=True), "probabilities, not logits"),
    "dropout": (lambda z, x: F.dropout(z, 0.5, training=True), "differently when asked twice"),
    "nan": (lambda z, x: z * float("nan"), "not finite"),
    "too few": (lambda z, x: z[:, :2], r"returns \(3, 2\) for 3 images and 4 classes"),
    "one number": (lambda z, x: z.sum(), "give two, the class of a low output"),
    "detached": (lambda z, x: z.detach(), "no usable gradient"),
    "constant": (lambda z, x: z * 0 + torch.arange(4), "no usable gradient"),
    "a dictionary": (lambda z, x: {"a": z, "b": z}, "dict.*logits"),
    "another size": (lambda z, x: z @ torch.zeros(9, 9).double(), "fails on a 12×12 px input.*--input-size"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_classifier_is_refused_with_the_reason(kind: str) -> None:
    twist, reason = ODD[kind]
    with pytest.raises(UnderfireError, match=rf"'mine'.*{reason}"):
        check(wrap(seeded(Odd(twist)), input_size=12, classes=list("abcd"), name="mine"))


def test_a_head_of_zeros_is_called_untrained() -> None:
    net = seeded(ToyNet())
    nn.init.zeros_(net.get_parameter("head.weight"))
    with pytest.raises(UnderfireError, match=r"no usable gradient .*'head.weight' is all zeros.*load trained weights"):
        check(wrap(net, input_size=12, classes=list("abcd"), name="mine"))


def test_a_classifier_passes_the_check() -> None:
    check(toy())


def test_dropout_in_train_mode_is_switched_off() -> None:
    module = nn.Sequential(seeded(ToyNet()), nn.Dropout(0.5)).train()
    check(wrap(module, input_size=12, classes=list("abcd")))


# -- checkpoints ----------------------------------------------------------------------------------------------------

STATE: dict[str, Tensor] = {k: v.float() for k, v in seeded(ToyNet()).state_dict().items()}


def saved(path: Path, content: object) -> str:
    torch.save(content, path)
    return str(path)


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        {"state_dict": STATE, "epoch": 3},
        {"model": STATE},
        {"model_state_dict": STATE, "optimizer": {"lr": 0.1}},
        {f"module.{k}": v for k, v in STATE.items()},
        {"state_dict": {f"model.{k}": v for k, v in STATE.items()}},
        {f"_orig_mod.{k}": v for k, v in STATE.items()},
        {f"module.model.{k}": v for k, v in STATE.items()},
    ],
    ids=["bare", "state_dict", "model", "model_state_dict", "module.", "both", "_orig_mod.", "twice"],
)
def test_training_checkpoints_are_unwrapped(tmp_path: Path, content: object) -> None:
    state, metadata = weights.read(saved(tmp_path / "net.pth", content))
    assert metadata == {}
    assert state.keys() == STATE.keys()
    weights.fit(ToyNet(), state, "net.pth", "toy")


def test_a_misfit_names_keys_and_shapes() -> None:
    state = {k: v for k, v in STATE.items() if k != "first.bias"} | {"extra.weight": torch.zeros(1)}
    state["head.weight"] = torch.zeros(9, 6)
    with pytest.raises(UnderfireError) as e:
        weights.fit(ToyNet(), state, "net.pth", "toy")
    for part in (
        "'net.pth'",
        "toy",
        "1 missing (first.bias)",
        "1 not known (extra.weight)",
        "head.weight (9, 6) for (4, 6)",
    ):
        assert part in str(e.value)


def test_the_first_three_of_many_misfits_are_enough() -> None:
    with pytest.raises(UnderfireError, match=r"6 missing \([^,]+, [^,]+, [^,]+, …\)"):
        weights.fit(ToyNet(), {}, "net.pth", "toy")


def test_a_misfit_leaves_the_network_as_it_was() -> None:
    module = seeded(ToyNet())
    before = weights_digest(module, BASE)
    with pytest.raises(UnderfireError):
        weights.fit(module, {"first.bias": torch.zeros(4)}, "net.pth", "toy")
    assert weights_digest(module, BASE) == before


def test_the_packages_names_map_in_order_and_only_with_equal_shapes() -> None:
    renamed = {f"old{i}": v for i, v in enumerate(STATE.values())}
    module = ToyNet()
    weights.fit_in_order(module, renamed, "toy")
    torch.testing.assert_close(module.state_dict()["head.bias"], STATE["head.bias"])
    renamed["old1"] = torch.zeros(5)
    with pytest.raises(UnderfireError, match=r"old1 \(5,\) for first.bias \(4,\)"):
        weights.fit_in_order(ToyNet(), renamed, "toy")
    with pytest.raises(UnderfireError, match=r"5 entries for 6"):
        weights.fit_in_order(ToyNet(), dict(list(STATE.items())[:5]), "toy")


class Evil:
    trap: ClassVar[str] = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.trap,)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_that_would_run_code_is_not_loaded(tmp_path: Path, legacy: bool) -> None:
    Evil.trap = str(tmp_path / "executed")
    path = tmp_path / "evil.pth"
    torch.save({"state_dict": STATE, "hook": Evil()}, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnsafeFileError, match=r"evil\.pth"):
        weights.read(str(path))
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello, this is not a network", bytes(3000)])
def test_other_files_are_no_checkpoints(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UnderfireError, match=name):
        weights.read(str(path))


def test_a_truncated_safetensors_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file(STATE, path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DamagedFileError, match=r"net\.safetensors"):
        weights.read(str(path))


def test_a_truncated_checkpoint_is_told(tmp_path: Path) -> None:
    path = Path(saved(tmp_path / "net.pth", STATE))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DamagedFileError, match=r"net\.pth"):
        weights.read(str(path))


def test_a_missing_file_is_named() -> None:
    with pytest.raises(NotFoundError, match=r"'not/there\.pth'"):
        weights.read("not/there.pth")


def test_a_checkpoint_without_weights_is_told(tmp_path: Path) -> None:
    with pytest.raises(DamagedFileError, match=r"net\.pth"):
        weights.read(saved(tmp_path / "net.pth", {"epoch": 3}))


def test_a_safetensors_file_brings_its_metadata(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "net.safetensors", {"input_size": "128"})
    state, metadata = weights.read(str(tmp_path / "net.safetensors"))
    assert metadata == {"input_size": "128"}
    assert state.keys() == STATE.keys()


# -- input policy and class names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["128", "3,128,128", "[3, 128, 128]", "(128, 128)", "128.0"])
@pytest.mark.parametrize("mean", ["0.1,0.2,0.3", "[0.1, 0.2, 0.3]", "(0.1, 0.2, 0.3)"])
def test_metadata_may_be_commas_or_json(side: str, mean: str) -> None:
    found = inputs.policy(BASE, {"input_size": side, "resize": "140", "mean": mean}, NONE)
    assert found == Preprocess(128, 140, mean=(0.1, 0.2, 0.3))


def test_flags_override_metadata_and_metadata_the_architecture() -> None:
    metadata = {"input_size": "128", "std": "0.5,0.5,0.5", "interpolation": "bilinear"}
    found = inputs.policy(BASE, metadata, ClassifierOptions(input_size=64, resize=70))
    assert found == Preprocess(64, 70, std=(0.5, 0.5, 0.5), interpolation="bilinear")


@pytest.mark.parametrize("channels", [1, 3])
def test_mean_and_std_in_the_unit_of_the_scale_may_be_one_number(channels: int) -> None:
    base = Preprocess(224, 256, (0.5,) * channels, (0.2,) * channels)
    found = inputs.policy(base, {}, ClassifierOptions(scale=255.0, mean=(127.5,)))
    assert (found.mean, found.std) == ((0.5,) * channels, (1 / 255,) * channels)
    assert inputs.policy(base, {}, ClassifierOptions(scale=255.0)).mean == (0.0,) * channels
    with pytest.raises(UnderfireError, match=r"mean=\(0.4.*the network takes"):
        inputs.policy(base, {}, ClassifierOptions(scale=255.0, mean=(102.0, 102.0)))


def test_a_mean_and_a_std_of_levels_are_refused_by_wrap_too() -> None:
    with pytest.raises(UnderfireError, match=r"mean 123.7,116.3,103.5 and std 58,57,57: .* divide both by 255"):
        wrap(seeded(ToyNet()), input_size=12, mean=(123.7, 116.3, 103.5), std=(58, 57, 57))
    assert wrap(seeded(ToyNet()), input_size=12, mean=0, std=1 / 255).preprocess.std == (1 / 255,) * 3


def test_a_new_input_size_keeps_the_share_of_the_picture() -> None:
    assert inputs.policy(BASE, {}, ClassifierOptions(input_size=112)).resize == 128


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"input_size": "large"}, "input_size = 'large'.*--input-size"),
        ({"mean": "0.5,0.5"}, "mean = '0.5,0.5'.*--mean"),
        ({"resize": "100"}, "resize 100"),
        ({"std": "0.5,0,0.5"}, "std must be above 0"),
        ({"interpolation": "cubical"}, "'cubical'.*bicubic"),
        ({"mean": "127.5", "std": "127.5"}, "mean 127.5,127.5,127.5 and std 127.5.*divide both by 255"),
        ({"mean": "0", "std": "255"}, "mean 0,0,0 and std 255.*--scale 255"),
    ],
)
def test_an_odd_policy_is_refused(metadata: dict[str, str], message: str) -> None:
    with pytest.raises(UnderfireError, match=message):
        inputs.policy(BASE, metadata, NONE)


@pytest.mark.parametrize(
    "text",
    [
        "cat\ndog\n",
        "cat\r\ndog\r\n\r\n",
        "\ufeffcat\ndog",
        '["cat", "dog"]',
        "['cat', 'dog',]",
        '\ufeff["cat", "dog"]',
        "1\tcat\n2\tdog\n",
        "1\tdog\n0\tcat\n",
        "\ufeff2\tdog\n1\tcat\n",
        "1,dog\n0,cat",
        "1: 'dog',\n0: 'cat',",
        "1 dog\n0 cat",
        "1 - dog\n0 - cat",
        "{1: 'dog', 0: 'cat'}",
        '{"1": "dog", "0": "cat"}',
        '{"dog": 1, "cat": 0}',
        '{"1": ["n02", "dog"], "0": ["n01", "cat"]}',
        "n02123045 cat\nn02099601 dog",
        "n02123045\tcat\nn02099601\tdog",
        "1\tn02099601\tdog\n0\tn02123045\tcat",
        "x\tcat\ny\tdog",
        "dog\t1\ncat\t0",
        "cat,1\ndog,2",
        "'dog', 1\n'cat', 0",
        "dog 1\ncat 0",
        "dog = 1\ncat = 0",
    ],
)
def test_class_names_from_a_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "names.txt").write_text(text, encoding="utf-8")
    found = inputs.class_names(2, {}, ClassifierOptions(classes=str(tmp_path / "names.txt")))
    assert found.names == ("cat", "dog")


@pytest.mark.parametrize("text", ["class 1\nclass 0", "cat 1\ndog 2", "Boeing, 747\nAirbus, 320", "3d 1\n2d"])
def test_numbers_that_are_a_part_of_names_stay(tmp_path: Path, text: str) -> None:
    (tmp_path / "names.txt").write_text(text)
    found = inputs.class_names(2, {}, ClassifierOptions(classes=str(tmp_path / "names.txt")))
    assert found.names == tuple(text.splitlines())


def test_class_names_may_be_in_utf_16(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("Kätzchen\nHund\n", encoding="utf-16")
    found = inputs.class_names(2, {}, ClassifierOptions(classes=str(tmp_path / "names.txt")))
    assert found.names == ("Kätzchen", "Hund")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0\tcat\n2\tdog", "indices 0 to 2 for 2 names"),
        ("1\tcat\n1\tdog", "indices 1 to 1 for 2 names"),
        ("cat\t3\ndog\t5", "indices 3 to 5 for 2 names"),
        ("{0: 'cat', 5: 'dog'}", "indices 0 to 5"),
        ("{0: 'cat', 1: 7}", "are no words"),
        ("{'a': 'cat', 'b': 'dog'}", "neither a list of names nor a mapping by index"),
        ("[['a', 'b'], ['c', 'd']]", "neither a list of names nor a mapping by index"),
        ("{0: open('cat'), 1: 'dog'}", "no complete list or mapping"),
        ("[" * 10_000, "no complete list or mapping"),
        ("  \n", "no class names"),
    ],
)
@pytest.mark.parametrize("where", ["names.txt", "metadata"])
def test_class_names_that_are_unclear_are_refused(tmp_path: Path, text: str, reason: str, where: str) -> None:
    (tmp_path / "names.txt").write_text(text)
    file = where == "names.txt"
    if not file and not text.strip():
        text += "\n\n"
        reason = "class names"
    with pytest.raises(UnderfireError, match=rf"{where}.*{reason}|{reason}.*{where}|{reason}"):
        options = ClassifierOptions(classes=str(tmp_path / "names.txt")) if file else NONE
        inputs.class_names(2, {"classes": text}, options)


def test_a_flag_mends_metadata_that_cannot_be_read() -> None:
    assert inputs.policy(BASE, {"mean": "imagenet"}, ClassifierOptions(mean=(0, 0, 0))).mean == (0, 0, 0)


def test_wordnet_ids_are_spelled_out() -> None:
    found = inputs.class_names(2, {"classes": json.dumps(["n01443537", "n02123045"])}, NONE)
    assert found.ids == ("n01443537", "n02123045")
    assert found.names[1].startswith("tabby")


def test_names_in_the_metadata_may_be_commas() -> None:
    assert inputs.class_names(2, {"classes": "cat, dog"}, NONE).names == ("cat", "dog")


def test_without_names_there_are_numbers() -> None:
    assert inputs.class_names(3, {}, NONE).names == ("class 0", "class 1", "class 2")


def test_the_wrong_number_of_names_is_told(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    with pytest.raises(UnderfireError, match=r"2 class names \(.*names.txt\) for a classifier of 3"):
        inputs.class_names(3, {}, ClassifierOptions(classes=str(tmp_path / "names.txt")))


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00", b'["cat", '])
def test_an_unreadable_names_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "names.txt").write_bytes(content)
    with pytest.raises(UnderfireError, match=r"names\.txt"):
        inputs.class_names(2, {}, ClassifierOptions(classes=str(tmp_path / "names.txt")))
