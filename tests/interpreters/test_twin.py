"""The twin of a classifier: every way to write a kink, τ in a layer's own units, and what cannot be smoothed."""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.toys import pictures, seeded
from underfire.attacks.adv2 import adv2
from underfire.classifiers.base import TorchClassifier, wrap
from underfire.core import Goal, UnderfireError, Victim
from underfire.images import maps
from underfire.interpreters.grad import Grad
from underfire.interpreters.smooth import Slope, twin_of

SIZE = 16


class Net(nn.Module):
    """Three convolutions with an activation after each, global average pooling, one linear layer."""

    def __init__(self, phi: Callable[[Tensor], Tensor] = F.relu) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(a, b, 3, padding=1) for a, b in ((3, 8), (8, 8), (8, 8))])
        self.head, self.phi = nn.Linear(8, 4), phi

    def forward(self, x: Tensor) -> Tensor:
        for conv in self.convs:
            x = self.phi(conv(x))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def wrapped(net: nn.Module, name: str = "net") -> TorchClassifier:
    return wrap(net, input_size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3, classes=list("abcd"), name=name)


def classifier(phi: Callable[[Tensor], Tensor] = F.relu) -> TorchClassifier:
    net = seeded(Net(phi), 5)
    assert isinstance(net, Net)
    net.head.weight.data *= 20
    return wrapped(net)


def attacked(victim: TorchClassifier, **settings: Any) -> tuple[Tensor, float]:
    """Forged pictures, and how far their GRAD maps are from the benign ones (L1)."""
    x, grad = pictures(2, size=SIZE), Grad(victim)
    order = victim.logits(x).argsort(1, descending=True)
    goal = Goal(order[:, 1], order[:, 0], {"grad": grad.explain(x, order[:, 0])})
    attack = adv2.make("fast", "grad", 32, **{"steps": 40, "lam": 100, **settings})
    found = attack.run(Victim(victim, (grad,)), x, goal, [0, 0]).images
    return found, float(maps.l1(grad.explain(found, goal.labels), goal.maps["grad"]).mean())


def _returned_late(x: Tensor) -> Tensor:
    F.relu(x, inplace=True)
    return x


def _assigned(x: Tensor) -> Tensor:
    x[x < 0] = 0
    return x


def _masked(x: Tensor) -> Tensor:
    with torch.no_grad():
        mask = x > 0
    return x * mask


WAYS: dict[str, Callable[[Tensor], Tensor]] = {
    "module": nn.ReLU(),
    "module in place": nn.ReLU(inplace=True),
    "in place, return unused": _returned_late,
    "relu_": lambda x: x.relu_(),
    "clamp": lambda x: x.clamp(min=0),
    "clamp_": lambda x: x.clamp_(min=0),
    "clamp_min": lambda x: x.clamp_min(0),
    "clip": lambda x: torch.clip(x, 0),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "max": lambda x: torch.max(x, x.new_zeros(())),
    "threshold": lambda x: F.threshold(x, 0.0, 0.0),
    "leaky": lambda x: F.leaky_relu(x, 0.0),
    "rrelu": nn.RReLU(0.0, 0.0).eval(),
    "prelu": lambda x: F.prelu(x, x.new_zeros(1)),
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "where in numbers": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "product": lambda x: x * (x > 0),
    "product in numbers": lambda x: (x > 0).to(x.dtype) * x,
    "heaviside": lambda x: x * torch.heaviside(x.detach(), x.new_zeros(1)),
    "without a gradient": _masked,
    "assigned": _assigned,
    "aten": torch.ops.aten.relu,
    "aten overload": torch.ops.aten.relu.default,
    "aten clamp": lambda x: torch.ops.aten.clamp_min(x, 0),
}


@functools.cache
def plain() -> tuple[Tensor, float]:
    return attacked(classifier())


@pytest.mark.parametrize("way", WAYS)
def test_the_attack_is_the_same_however_a_relu_is_written(way: str) -> None:
    _, l1 = attacked(classifier(WAYS[way]))
    assert l1 == pytest.approx(plain()[1], rel=0.02)


def test_a_rescaled_network_is_the_same_function_and_is_attacked_alike() -> None:
    net = seeded(Net(), 5)
    assert isinstance(net, Net)
    net.head.weight.data *= 20
    before = 1.0
    for conv, c in zip(net.convs, (2.0**6, 2.0**-9, 2.0**4), strict=True):  # powers of two: equal to the last bit
        assert isinstance(conv, nn.Conv2d) and conv.bias is not None
        conv.weight.data *= c / before
        conv.bias.data *= c
        before = c
    net.head.weight.data /= before
    images, l1 = attacked(wrapped(net))
    alone, wanted = attacked(classifier())
    assert l1 == pytest.approx(wanted, rel=1e-6)
    assert torch.equal(images, alone)


def test_a_twin_does_not_depend_on_the_pictures_that_are_attacked() -> None:
    twins = [twin_of(classifier(), pictures(n, size=SIZE)) for n in (1, 3)]
    assert twins[0].spreads == twins[1].spreads
    assert len(twins[0].spreads) == 3


def test_a_twin_is_measured_once_and_its_measurement_is_no_image_s_cost() -> None:
    victim, x = classifier(), pictures(2, size=SIZE)
    with victim.meter.counting(2) as spent:
        twin = twin_of(victim, x)
        assert twin_of(victim, x) is twin
    assert spent.passes.tolist() == [0, 0]


def test_a_compiled_module_is_smoothed_as_it_was_written() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the compiler's own
        victim = classifier(torch.compile(nn.ReLU(), backend="eager"))
        assert len(twin_of(victim, pictures(1, size=SIZE)).spreads) == 3


class Exported(Net):
    """A max-pool with the exporter's own padding, and one in ceil mode."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.pad(F.relu(self.convs[0](x)), (0, 1, 0, 1), value=-torch.inf), 3, 2)
        x = F.max_pool2d(F.relu(self.convs[1](x)), 3, 2, ceil_mode=True)
        logits: Tensor = self.head(F.adaptive_max_pool2d(x, 1).flatten(1))
        return logits


def test_a_network_with_padded_max_pools_is_attacked() -> None:
    images, l1 = attacked(wrapped(seeded(Exported(), 2)))
    assert not torch.equal(images, pictures(2, size=SIZE))
    assert math.isfinite(l1)


class Counts(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (x > 0).cumsum(-1).clamp(max=1)


def _traced() -> Callable[[Tensor], Tensor]:
    phi: Callable[[Tensor], Tensor] = torch.jit.trace(nn.ReLU(), torch.zeros(1, 8, 4, 4))  # type: ignore[no-untyped-call]
    return phi


SHARP: dict[str, tuple[Callable[[], Callable[[Tensor], Tensor]], str]] = {
    "traced": (_traced, "relu in phi"),
    "scripted": (lambda: torch.jit.script(nn.Hardtanh(0.0, 6.0)), "in phi"),
    "unknown to the twin": (lambda: lambda x: F.max_pool3d(x, (1, 2, 2)), "max_pool3d"),
    "a comparison used oddly": (Counts, "a comparison in"),
}


@pytest.mark.parametrize("name", SHARP)
def test_a_kink_that_stays_sharp_is_named_before_the_search(name: str) -> None:
    make, message = SHARP[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # scripting is deprecated, and in use
        victim, x = classifier(make()), pictures(1, size=SIZE)
    with pytest.raises(UnderfireError, match=message):
        twin_of(victim, x)


class Astray(Net):
    """Answers otherwise under the twin."""

    def __init__(self, wrong: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.wrong = wrong

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = super().forward(x)
        return self.wrong(z) if torch._C._len_torch_function_stack() else z


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda z: z * 1.001, "logits are not"),
        (lambda z: z + torch.nan, "logits are not"),
        (lambda z: 2 * z - z.detach(), "gradient does not"),
        (lambda z: z, ""),
    ],
)
def test_a_twin_that_is_another_network_is_refused(wrong: Callable[[Tensor], Tensor], message: str) -> None:
    victim = wrapped(seeded(Astray(wrong), 5), "astray")
    if not message:
        twin_of(victim, pictures(1, size=SIZE))
        return
    with pytest.raises(UnderfireError, match=message):
        twin_of(victim, pictures(1, size=SIZE))


def test_a_gradient_without_its_own_slope_is_refused() -> None:
    class Flat(torch.autograd.Function):
        """A ReLU out of the twin's sight, whose slope has none."""

        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x * 0.5 + torch.tanh(x) * 0.5

        @staticmethod
        def backward(ctx: Any, *grads: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return grads[0] * (1 - 0.5 * torch.tanh(x.detach()) ** 2)

    with pytest.raises(UnderfireError, match="second derivative"):
        twin_of(classifier(Flat.apply), pictures(1, size=SIZE))


def test_a_network_that_takes_another_way_is_told() -> None:
    victim, x = classifier(), pictures(1, size=SIZE).requires_grad_()
    twin = twin_of(victim, x)
    with pytest.raises(UnderfireError, match="the same activations"), twin.smoothed(Slope(), by_layer=True):
        victim.logits(x)
        victim.logits(x)
