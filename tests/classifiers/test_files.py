"""Networks from files: the same network as ONNX, TorchScript and a Hugging Face folder gives the same logits."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import underfire
from support.onnx_nets import exported, graph
from underfire.classifiers import onnx as onnx_classifier
from underfire.core import (
    ClassifierOptions,
    DamagedFileError,
    MismatchError,
    UnderfireError,
    UnsafeFileError,
    UnsuitableError,
)
from underfire.plan.check import check
from underfire.registry import Victims

SIDE = 32
POLICY: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.2, 0.2, 0.2)}
own = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::FutureWarning:torch")


class Net(nn.Module):
    """A convolutional network with all the ways of an end."""

    def __init__(self, end: Callable[[Tensor], Any] = lambda z: z) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU())
        self.head, self.end = nn.Linear(8, 4), end

    def forward(self, x: Tensor) -> Any:
        return self.end(3 * self.head(self.body(x).mean((2, 3))))


class Nhwc(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Any:
        return self.net(x.permute(0, 3, 1, 2).flip(1))


def x01() -> Tensor:
    return torch.rand(3, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def normalised(x: Tensor) -> Tensor:
    return (x - 0.5) / 0.2


def named(path: Path, **options: Any) -> Any:
    return underfire.classifier(f"onnx:{path}", **options)


# -- ONNX -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["plain", "softmax", "log_softmax", "sigmoid"])
@pytest.mark.parametrize("fixed", [True, False])
def test_an_onnx_file_gives_the_networks_logits(tmp_path: Path, end: str, fixed: bool) -> None:
    ends: dict[str, Callable[[Tensor], Tensor]] = {
        "plain": lambda z: z,
        "softmax": lambda z: z.softmax(1),
        "log_softmax": lambda z: z.log_softmax(1),
        "sigmoid": torch.sigmoid,
    }
    net = Net(ends[end]).eval()
    path = exported(net, tmp_path / "net.onnx", (1, 3, SIDE, SIDE), vary=not fixed)
    built = named(path, **POLICY, **({} if fixed else {"input_size": SIDE}))
    net.end = ends["plain"]
    torch.testing.assert_close(built.logits(x01()), net(normalised(x01())), rtol=1e-4, atol=1e-5)
    assert built.taken_off == {"plain": "", "softmax": "softmax", "log_softmax": "log-softmax"}.get(end, end)
    assert built.name == "onnx:net.onnx"
    if end != "sigmoid":
        check(built)


def test_layout_and_colours_are_found_or_given_and_shown(tmp_path: Path) -> None:
    net = Net().eval()
    path = exported(Nhwc(net).eval(), tmp_path / "net.onnx", (1, SIDE, SIDE, 3))
    built = named(path, order="bgr", scale=255.0, mean=(120.0, 110.0, 100.0), std=(50.0, 50.0, 50.0))
    x = x01()
    want = (x * 255 - torch.tensor([120.0, 110.0, 100.0]).view(1, 3, 1, 1)) / 50
    torch.testing.assert_close(built.logits(x), net(want), rtol=1e-3, atol=1e-4)
    assert any("NHWC, BGR" in sentence for sentence in built.notes)
    assert named(path, **POLICY).digest != named(path, order="bgr", **POLICY).digest


def test_one_image_at_a_time(tmp_path: Path) -> None:
    net = timm.create_model("vit_tiny_patch16_224", img_size=SIDE, num_classes=3, depth=2).eval()
    path = exported(net, tmp_path / "vit.onnx", (1, 3, SIDE, SIDE))
    built = named(path, **POLICY)
    torch.testing.assert_close(built.logits(x01()), net(normalised(x01())), rtol=1e-3, atol=1e-4)
    assert any("one image at a time" in sentence for sentence in built.notes)
    check(built)


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_of_nothing_may_vary(tmp_path: Path, size: int) -> None:
    import onnx

    net = Net().eval()
    model = onnx.load(str(exported(net, tmp_path / "net.onnx", (1, 3, SIDE, SIDE), vary=True)))
    for dim in (0, 2, 3):
        model.graph.input[0].type.tensor_type.shape.dim[dim].dim_value = size
    onnx.save(model, str(tmp_path / "net.onnx"))
    built = named(tmp_path / "net.onnx", input_size=SIDE, **POLICY)
    torch.testing.assert_close(built.logits(x01()), net(normalised(x01())), rtol=1e-4, atol=1e-5)


def test_a_file_that_leaves_the_batch_open_may_take_one_image_at_a_time(tmp_path: Path) -> None:
    net = Net(lambda z: z.reshape(1, -1)).eval()
    built = named(exported(net, tmp_path / "net.onnx", (1, 3, SIDE, SIDE), vary=True), input_size=SIDE, **POLICY)
    want = torch.cat([net(normalised(one[None])) for one in x01()])
    torch.testing.assert_close(built.logits(x01()), want, rtol=1e-4, atol=1e-5)
    assert any("one image at a time" in sentence for sentence in built.notes)


def test_weights_that_are_not_finite_are_told(tmp_path: Path) -> None:
    net = Net().eval()
    nn.init.constant_(net.head.bias, float("nan"))
    with pytest.raises(UnsuitableError, match=r"net.onnx' returns values that are not finite"):
        named(exported(net, tmp_path / "net.onnx", (1, 3, SIDE, SIDE)), **POLICY)


def test_newer_operators_are_written_as_older_ones(tmp_path: Path) -> None:
    path = graph(tmp_path / "new.onnx", "newer", version=20)
    built = named(path, **POLICY)
    assert built.logits(x01()).shape == (3, 4)  # and held against onnxruntime when it was built


def test_the_converted_network_is_held_against_the_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = exported(Net().eval(), tmp_path / "net.onnx", (1, 3, SIDE, SIDE), vary=True)
    real: Any = onnx_classifier.converted

    def worse(*args: Any) -> nn.Module:
        made: nn.Module = real(*args)
        with torch.no_grad():
            next(p for p in made.parameters() if p.dim() == 4).mul_(1.01)
        return made

    monkeypatch.setattr(onnx_classifier, "converted", worse)
    with pytest.raises(MismatchError, match=r"is another network.*differ from onnxruntime's"):
        named(path, input_size=SIDE, **POLICY)


def test_what_a_file_says_of_its_pixels_is_used(tmp_path: Path) -> None:
    import onnx

    path = exported(Net().eval(), tmp_path / "net.onnx", (1, 3, SIDE, SIDE))
    model = onnx.load(str(path))
    for key, value in (("Image.BitmapPixelFormat", "Bgr8"), ("Image.NominalPixelRange", "NominalRange_0_255")):
        model.metadata_props.add(key=key, value=value)
    model.metadata_props.add(key="names", value="{0: 'a', 1: 'b', 2: 'c', 3: 'd'}")
    onnx.save(model, str(path))
    built = named(path)
    assert built.notes[0] == "Input: NCHW, BGR; black is 0 0 0, white is 255 255 255 (as the file says)."
    assert built.classes.names == ("a", "b", "c", "d")
    inside = nn.Sequential(_Minus(), Net()).eval()
    told = named(exported(inside, tmp_path / "inside.onnx", (1, 3, SIDE, SIDE)))
    assert told.notes[0].endswith("white is 255 255 255 (as the file says).")
    assert "BGR" in told.notes[0]


@pytest.mark.parametrize(
    ("scaled", "white"),
    [
        (lambda x: (x * torch.full((1, 3, 1, 1), 255.0) - torch.full((1, 3, 1, 1), 120.0)) / 60, 1),
        (lambda x: (x - torch.zeros(1, 3, 1, 1)) / torch.full((1, 3, 1, 1), 255.0), 255),
    ],
    ids=["it makes levels itself", "it subtracts nothing"],
)
def test_white_is_found_before_what_a_network_itself_does_to_pixels(
    tmp_path: Path, scaled: Callable[[Tensor], Tensor], white: int
) -> None:
    net = _Inside(scaled).eval()
    built = named(exported(net, tmp_path / "net.onnx", (1, 3, SIDE, SIDE)))
    assert built.notes[0].endswith(f"white is {white} {white} {white} (as the file says).")
    torch.testing.assert_close(built.logits(x01()), net(white * x01()), rtol=1e-3, atol=1e-4)


class _Inside(Net):
    def __init__(self, scaled: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.scaled = scaled

    def forward(self, x: Tensor) -> Any:
        return super().forward(self.scaled(x))


class _Minus(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - torch.tensor([103.939, 116.779, 123.68]).view(1, 3, 1, 1)) / 60


BAD: dict[str, tuple[str, type[UnderfireError], str]] = {
    "unknown": ("unknown", UnsuitableError, r"the operator LpNormalization \(version 1\).*opset_version=17.*wrap"),
    "two": ("two", UnderfireError, r"has the outputs first, second: say with --output"),
    "inputs": ("inputs", UnsuitableError, "has 2 inputs"),
    "quantised": ("quantised", MismatchError, r"is quantised \(DynamicQuantizeLinear\)"),
    "four": ("four", UnsuitableError, "takes 4 channels"),
}


@pytest.mark.parametrize("kind", BAD)
def test_onnx_files_that_do_not_fit_are_told_why(tmp_path: Path, kind: str) -> None:
    what, error, reason = BAD[kind]
    with pytest.raises(error, match=rf"net.onnx' .*{reason}"):
        named(graph(tmp_path / "net.onnx", what), **POLICY)


def test_an_onnx_file_of_grey_and_oblong_inputs(tmp_path: Path) -> None:
    layers = (nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    net = nn.Sequential(*layers).eval()
    built = named(exported(net, tmp_path / "net.onnx", (1, 1, 48, 64)))
    assert built.preprocess.shape == (1, 48, 64)
    assert built.notes[0].startswith("Input: NCHW, GREY")
    x = torch.rand(2, 1, 48, 64)
    torch.testing.assert_close(built.logits(x), net((x - built._mean) / built._std), rtol=1e-3, atol=1e-4)
    assert built.head.shape == (4, 8)
    check(built)
    open_size = named(exported(net, tmp_path / "open.onnx", (1, 1, 48, 64), vary=True), input_size=(48, 64))
    assert open_size.preprocess.shape == (1, 48, 64)
    with pytest.raises(UnderfireError, match=r"--input-size 32x32: this ONNX file takes 48 × 64 px"):
        named(tmp_path / "net.onnx", input_size=32)


def test_an_onnx_file_of_half_precision_is_attacked_as_a_copy_of_float32(tmp_path: Path) -> None:
    net = Net().eval().half()
    path = exported(net, tmp_path / "half.onnx", (1, 3, SIDE, SIDE), dtype=torch.float16)
    built = named(path, **POLICY)
    assert next(built.module.parameters()).dtype == torch.float32
    assert "Its weights are float16: a float32 copy of them is attacked and judged." in built.notes
    check(built)
    want = net.float()(normalised(x01())).detach()
    torch.testing.assert_close(built.logits(x01()), want, rtol=0, atol=0.01 * float(want.max() - want.min()))


@pytest.mark.parametrize("kind", ["onnx", "script"])
def test_a_key_is_refused_for_files_of_one_set_of_weights(kind: str) -> None:
    with pytest.raises(UnderfireError, match=rf"--key teacher: '{kind}:net' has one set of weights; leave it out"):
        underfire.classifier(f"{kind}:net", key="teacher")


def test_the_user_says_which_output(tmp_path: Path) -> None:
    path = graph(tmp_path / "net.onnx", "two")
    a, b = named(path, output="first", **POLICY), named(path, output="1", **POLICY)
    torch.testing.assert_close(2 * a.logits(x01()), b.logits(x01()))
    assert a.digest != b.digest
    with pytest.raises(UnderfireError, match=r"no output of.*'third'"):
        named(path, output="third", **POLICY)


def test_the_wrong_number_of_labels_is_told(tmp_path: Path) -> None:
    path = exported(Net().eval(), tmp_path / "net.onnx", (1, 3, SIDE, SIDE))
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    with pytest.raises(UnderfireError, match=r"3 class names .*names.txt.* for a classifier of 4 outputs"):
        named(path, classes=str(tmp_path / "names.txt"), **POLICY)


@pytest.mark.parametrize("content", [b"", b"\x08\x07" * 40, b"<html>", "half"])
def test_damaged_onnx_files_are_a_sentence(tmp_path: Path, content: bytes | str) -> None:
    path = tmp_path / "net.onnx"
    if isinstance(content, str):
        content = exported(Net().eval(), path, (1, 3, SIDE, SIDE)).read_bytes()[:900]
    path.write_bytes(content)
    with pytest.raises(DamagedFileError, match=r"'.*net.onnx' is no complete ONNX file"):
        named(path)


def test_the_digest_is_of_the_content_not_of_the_path(tmp_path: Path) -> None:
    one = exported(Net().eval(), tmp_path / "one.onnx", (1, 3, SIDE, SIDE))
    (tmp_path / "sub").mkdir()
    other = tmp_path / "sub" / "two.onnx"
    other.write_bytes(one.read_bytes())
    assert named(one, **POLICY).digest == named(other, **POLICY).digest


def test_weights_in_a_file_beside_are_in_the_digest_and_make_another_victim(tmp_path: Path) -> None:
    path, other = tmp_path / "a" / "net.onnx", tmp_path / "b" / "net.onnx"
    for one, seed in ((path, 0), (other, 1)):
        _with_a_file_beside(one, seed)
    assert path.read_bytes() == other.read_bytes()
    victims = Victims()
    first = victims.classifier(f"onnx:{path}", ClassifierOptions(**POLICY), "cpu")
    assert first.digest != named(other, **POLICY).digest
    assert victims.classifier(f"onnx:{path}", ClassifierOptions(**POLICY), "cpu") is first
    (path.parent / "net.data").write_bytes((other.parent / "net.data").read_bytes())
    assert (
        victims.classifier(f"onnx:{path}", ClassifierOptions(**POLICY), "cpu").digest == named(other, **POLICY).digest
    )


def _with_a_file_beside(path: Path, seed: int) -> None:
    import onnx

    path.parent.mkdir()
    net = Net().eval()
    torch.manual_seed(seed)
    nn.init.normal_(net.head.weight)
    model = onnx.load(str(exported(net, path, (1, 3, SIDE, SIDE))))
    onnx.save_model(model, str(path), save_as_external_data=True, location="net.data", size_threshold=0)


# -- TorchScript ------------------------------------------------------------------------------------------------------


@own
def test_a_torchscript_file_gives_the_networks_logits(tmp_path: Path) -> None:
    net = Net().eval()
    torch.jit.save(torch.jit.trace(net, x01()), str(tmp_path / "net.pt"))  # type: ignore[no-untyped-call]
    built: Any = underfire.classifier(f"script:{tmp_path / 'net.pt'}", input_size=SIDE, **POLICY)
    torch.testing.assert_close(built.logits(x01()), net(normalised(x01())))
    assert built.name == "script:net.pt"
    check(built)
    with pytest.raises(UnderfireError, match=r"cannot smooth relu"):
        underfire.attack(built, "grad", x01()[:1])


@own
def test_torchscript_of_grey_images(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()
    torch.jit.save(torch.jit.script(net), str(tmp_path / "net.pt"))
    for channels in (None, 1):
        built: Any = underfire.classifier(f"script:{tmp_path / 'net.pt'}", input_size=SIDE, channels=channels)
        assert built.preprocess.shape == (1, SIDE, SIDE)
        assert built.notes[0].startswith("Input: NCHW, GREY")
        x = torch.rand(2, 1, SIDE, SIDE)
        torch.testing.assert_close(built.logits(x), net((x - built._mean) / built._std))


@own
def test_torchscript_of_half_precision_is_attacked_as_a_copy_of_float32(tmp_path: Path) -> None:
    net = Net().eval().half()
    torch.jit.save(torch.jit.trace(net, x01().half()), str(tmp_path / "net.pt"))  # type: ignore[no-untyped-call]
    built: Any = underfire.classifier(f"script:{tmp_path / 'net.pt'}", input_size=SIDE, **POLICY)
    assert "Its weights are float16: a float32 copy of them is attacked and judged." in built.notes
    torch.testing.assert_close(built.logits(x01()), net.float()(normalised(x01())))


@own
def test_torchscript_that_touches_files_is_not_loaded(tmp_path: Path) -> None:
    class Writes(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            torch.save(x, "stolen.pt")
            return x.mean((2, 3))

    torch.jit.save(torch.jit.script(Writes()), str(tmp_path / "net.pt"))
    with pytest.raises(UnsafeFileError, match=r"net.pt' calls (torch|aten).*save"):
        underfire.classifier(f"script:{tmp_path / 'net.pt'}")


def test_other_files_are_no_torchscript(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2)}, buffer)
    for content in (b"abc", buffer.getvalue()):
        (tmp_path / "net.pt").write_bytes(content)
        with pytest.raises(DamagedFileError, match=r"no complete TorchScript file"):
            underfire.classifier(f"script:{tmp_path / 'net.pt'}")


# -- torchvision ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "side"), [("resnet18", 256), ("mobilenet_v3_small", 256), ("googlenet", 256)])
def test_torchvisions_networks_by_name(tmp_path: Path, name: str, side: int) -> None:
    import torchvision

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        more = {"init_weights": False, "aux_logits": False, "transform_input": True} if name == "googlenet" else {}
        net = torchvision.models.get_model(name, weights=None, num_classes=5, **more).eval()
    torch.save(net.state_dict(), tmp_path / "net.pth")
    built: Any = underfire.classifier(f"torchvision:{name}", weights=str(tmp_path / "net.pth"))
    assert (built.preprocess.input_size, built.preprocess.resize) == (224, {"resnet18": 256}.get(name, side))
    assert any("trained without transform_input" in note for note in built.notes) == (name == "googlenet")
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(built.logits(x), net((x - built._mean) / built._std))


def test_a_torchvision_network_loads_from_a_file_that_has_no_versions_and_another_order(tmp_path: Path) -> None:
    """Safetensors sort by name, so the head comes first; and MNASNet asks for the version of its weights."""
    import torchvision

    net = torchvision.models.mnasnet0_5(num_classes=5).eval()
    save_file({key: value.clone() for key, value in net.state_dict().items()}, tmp_path / "net.safetensors")
    built: Any = underfire.classifier("torchvision:mnasnet0_5", weights=str(tmp_path / "net.safetensors"))
    x = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(built.logits(x), net((x - built._mean) / built._std))


def test_torchvisions_own_files_of_densenets_and_vits_have_older_names() -> None:
    from torchvision.models import densenet, vision_transformer

    from underfire.classifiers.torchvision_models import _renamed

    dense = densenet.DenseNet(4, (2, 2), 8).state_dict()
    old = {re.sub(r"(norm|conv)([12])\.", r"\1.\2.", key): value for key, value in dense.items()}
    assert old.keys() != dense.keys() == _renamed(old).keys()
    vit = vision_transformer.VisionTransformer(32, 16, 1, 2, 8, 16)
    was = {
        key.replace("mlp.0", "mlp.linear_1").replace("mlp.3", "mlp.linear_2"): v for key, v in vit.state_dict().items()
    }
    vit.load_state_dict(dict(was))  # torchvision's own code knows these names
    assert was.keys() != vit.state_dict().keys() == _renamed(was).keys()


def test_unknown_torchvision_names_and_sets_are_told() -> None:
    with pytest.raises(UnderfireError, match=r"no torchvision network 'resnet17'.*Did you mean 'resnet18'"):
        underfire.classifier("torchvision:resnet17")
    with pytest.raises(UnderfireError, match=r"IMAGENET1K_V9.*Did you mean 'IMAGENET1K_V"):
        underfire.classifier("torchvision:resnet50.IMAGENET1K_V9")


# -- CLIP -------------------------------------------------------------------------------------------------------------


def test_clip_is_a_classifier_of_prompts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_clip: Any = pytest.importorskip("open_clip")
    small = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny", small)
    torch.manual_seed(0)
    net = open_clip.create_model("tiny").eval()
    torch.save(net.state_dict(), tmp_path / "clip.pt")
    (tmp_path / "prompts.txt").write_text("a photo of a cat\na photo of a cup\na blurry photo of a dog\n")
    own: dict[str, Any] = {"weights": str(tmp_path / "clip.pt"), "classes": str(tmp_path / "prompts.txt")}
    built: Any = underfire.classifier("clip:tiny", **own)
    x = torch.rand(2, 3, 32, 32)
    tokens = open_clip.get_tokenizer("ViT-B-32")(list(built.classes.names))
    with torch.no_grad():
        image, text, scale = net((x - built._mean) / built._std, tokens)
    torch.testing.assert_close(built.logits(x), scale * image @ text.T, rtol=1e-4, atol=1e-4)
    check(built)
    with pytest.raises(UnderfireError, match=r"needs --classes.*a photo of a cat"):
        underfire.classifier("clip:tiny", weights=own["weights"])
    with pytest.raises(UnderfireError, match=r"no set of weights of tiny"):
        underfire.classifier("clip:tiny", classes=own["classes"])
    assert np.isfinite(built.logits(x).detach().numpy()).all()
