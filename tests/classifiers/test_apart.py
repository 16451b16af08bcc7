"""The user's module is the user's: whatever is done with a wrapped network, it stays as it was."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.utils import spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

import underfire
from support.toys import SIZE, ToyNet, pictures, seeded
from underfire import wrap
from underfire.core import UnderfireError
from underfire.plan.check import check


class Normed(nn.Module):
    """Batch norm and dropout: what it answers in training mode depends on the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.last = nn.Conv2d(3, 6, 3, 2, 1), nn.BatchNorm2d(6), nn.ReLU()
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(6, 4)

    def maps(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.norm(self.conv(x)))
        return out

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.head(self.drop(self.maps(x).mean((2, 3))))
        return z


class Recomputed(Normed):
    """Computes its maps again in the backward."""

    def maps(self, x: Tensor) -> Tensor:
        out: Tensor = checkpoint(super().maps, x, use_reentrant=False)
        return out


def everything(module: nn.Module) -> dict[str, Any]:
    """All of a module that one can see from outside."""
    found: dict[str, Any] = {"modes": [m.training for m in module.modules()]}
    found["parameters"] = [(id(p), p.requires_grad, p.dtype, p.device, p.grad) for p in module.parameters()]
    found["state"] = {key: value.clone() for key, value in module.state_dict().items()}
    found["hooks"] = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in module.modules()]
    return found


def same(module: nn.Module, before: dict[str, Any]) -> None:
    now = everything(module)
    for key, value in now.pop("state").items():
        assert torch.equal(value, before["state"][key]), key
    assert now == {key: value for key, value in before.items() if key != "state"}


@pytest.mark.parametrize("network", [Normed, Recomputed])
def test_a_network_in_training_is_attacked_in_eval_mode_and_stays_as_it_was(network: type[nn.Module]) -> None:
    module = seeded(network()).float().train()
    before, x = everything(module), pictures(3).float()
    classifier = wrap(module, input_size=SIZE, name="mine")
    classifier.head  # noqa: B018 (looks for the maps with hooks)
    reference = underfire.attack(classifier, "cam", x, steps=3)
    same(module, before)
    module.eval()
    module.train()  # again, after the wrapping
    again = underfire.attack(classifier, "cam", x, steps=3)
    same(module, before)
    torch.testing.assert_close(again.images, reference.images, rtol=0, atol=0)
    torch.testing.assert_close(classifier.logits(x[:1]), classifier.logits(x)[:1])


def test_after_an_exception_too() -> None:
    module = seeded(Normed()).float().train()
    before = everything(module)
    classifier = wrap(module, input_size=SIZE)
    with pytest.raises(UnderfireError):
        underfire.attack(classifier, "rts", pictures(2).float(), steps=3)
    same(module, before)


def test_a_copy_shares_the_weights_and_not_the_statistics() -> None:
    module: Any = seeded(Normed())
    ours: Any = wrap(module, input_size=SIZE).module
    assert ours.conv.weight.data_ptr() == module.conv.weight.data_ptr()
    assert ours.norm.running_mean.data_ptr() != module.norm.running_mean.data_ptr()
    ours.to(torch.float32)
    assert module.conv.weight.dtype == torch.float64


def test_methods_of_the_network_become_those_of_the_copy() -> None:
    module: Any = seeded(Normed()).train()
    classifier = wrap(module, input_size=SIZE, features=module.maps)
    x = pictures(2)
    torch.testing.assert_close(classifier.scores(classifier.features(x)), classifier.logits(x))


def test_other_functions_read_the_network_only_in_eval_mode() -> None:
    module: Any = seeded(Normed())
    classifier = wrap(
        module.eval(), input_size=SIZE, name="mine", features=lambda x: module.last(module.norm(module.conv(x)))
    )
    assert classifier.features(pictures(2)).shape == (2, 6, 6, 6)
    module.train()
    with pytest.raises(UnderfireError, match=r"'mine' read your network itself.*training mode"):
        classifier.features(pictures(2))


def _normed_weights(norm: Callable[..., nn.Module]) -> nn.Module:
    module: Any = Normed()
    module.conv = norm(module.conv)
    module(pictures(2).float())  # leaves a weight that is no leaf
    found: nn.Module = module
    return found


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "weight norm": lambda: _normed_weights(weight_norm),
    "spectral norm": lambda: _normed_weights(spectral_norm),
    "scripted": lambda: torch.jit.script(torchvision.models.squeezenet1_1(num_classes=4)),
    "exported": lambda: torch.export.export(
        Normed().eval(), (torch.rand(2, 3, SIZE, SIZE),), dynamic_shapes=({0: torch.export.Dim.AUTO},)
    ).module(),
    "checkpointed": Recomputed,
    "one channel": lambda: _channels(1),
    "half": lambda: _channels(3).half(),
    "bfloat16": lambda: _channels(3).bfloat16(),
    "one output": lambda: ToyNet(1),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_of_every_making_are_wrapped(kind: str) -> None:
    side = 64 if kind == "scripted" else SIZE
    torch.manual_seed(0)  # of drawn weights, some leave no slope
    check(wrap(NETWORKS[kind](), input_size=side, name="mine"))


class Locked(ToyNet):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()


class LastChannels(ToyNet):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 3, 1, 2))


def _channels(n: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(n, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))


def _quantised() -> nn.Module:
    quantize: Any = torch.ao.quantization.quantize_dynamic
    found: nn.Module = quantize(Normed().eval(), {nn.Linear}, dtype=torch.qint8)
    return found


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "locked": (Locked, "cannot be copied"),
    "four channels": (lambda: _channels(4), r"to have 4 channels.*three colours, or one grey"),
    "channels last": (LastChannels, r"permute\(0, 2, 3, 1\)"),
    "quantised": (_quantised, "quantised"),
    "a fixed batch": (
        lambda: torch.export.export(Normed().eval(), (torch.rand(5, 3, SIZE, SIZE),)).module(),
        "may vary",
    ),
}


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_attacked_is_refused_in_one_sentence(kind: str, named: bool) -> None:
    make, reason = REFUSED[kind]
    names = list("abcd") if named else None
    with pytest.raises(UnderfireError, match=rf"'mine'.*{reason}") as e:
        check(wrap(make(), input_size=SIZE, name="mine", classes=names))
    assert "\n" not in str(e.value)
    assert "input-size" not in str(e.value)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"input_size": (64, 96, 3)}, r"input_size=\(64, 96, 3\)"),
        ({"input_size": (64, 0)}, r"input_size=\(64, 0\)"),
        ({"channels": 4}, "channels=4"),
        ({"channels": 1, "mean": (0.5, 0.4, 0.3)}, "one channel"),
        ({"input_size": 0}, "input_size=0"),
        ({"mean": (0.5, 0.5)}, r"mean=\(0.5, 0.5\)"),
        ({"std": "grey"}, "std=grey"),
        ({"std": 0}, "std must be above 0"),
        ({"mean": float("nan")}, "finite"),
        ({"resize": 4}, "resize 4"),
        ({"interpolation": "cubical"}, "cubical"),
    ],
)
def test_an_odd_input_policy_is_refused(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(UnderfireError, match=reason):
        wrap(ToyNet(), **{"input_size": SIZE, **given})


def test_weights_that_are_no_numbers_are_no_matter_of_the_head() -> None:
    module = ToyNet()
    module.head.bias.data.fill_(float("nan"))
    with pytest.raises(UnderfireError, match="not finite"):
        wrap(module, input_size=SIZE).head  # noqa: B018


def test_one_number_stands_for_three() -> None:
    assert wrap(ToyNet(), input_size=SIZE, mean=0, std=0.5).preprocess.std == (0.5, 0.5, 0.5)
    with pytest.raises(UnderfireError, match="not a str"):
        wrap("resnet50")  # type: ignore[arg-type]
