"""What a network may not do: answer by its neighbours, by the time, or without a finite slope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.toys import SIZE, ToyNet, seeded
from underfire.classifiers.base import TorchClassifier, wrap
from underfire.core import UnderfireError
from underfire.plan.check import check, trial_images


class Before(nn.Module):
    """A network with something before it."""

    def __init__(self, twist: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.twist, self.base = twist, seeded(ToyNet()).float()

    def forward(self, x: Tensor) -> Any:
        return self.base(self.twist(x))


class After(Before):
    def forward(self, x: Tensor) -> Any:
        return self.twist(self.base(x))


class Counts(ToyNet):
    """Answers by the number of the call."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) + (0.01 * self.calls if self.drifts else 0)

    drifts = True


class CountsOnly(Counts):
    drifts = False


class Whitened(ToyNet):
    """Normalises by the batch's own statistics, in whatever mode."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.batch_norm(x, None, None, training=True))


class Pow(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x ** (1 / 2.2)


def with_nan() -> nn.Module:
    module = ToyNet()
    module.second.weight.data[0, 0] = float("nan")
    return module


def plain(module: nn.Module) -> TorchClassifier:
    return wrap(module.float(), input_size=SIZE, mean=0, std=1, name="mine", classes=list("abcd"))


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "the batch's mean": (
        lambda: After(lambda z: z - z.mean(0)),
        r"alone and for it in a batch \(the logit of '[a-d]': ",
    ),
    "the batch's norm": (Whitened, "alone and for it in a batch"),
    "the neighbour": (lambda: Before(lambda x: x + 0.1 * x.roll(1, 0)), "alone and for it in a batch"),
    "the size of the batch": (lambda: After(lambda z: z / len(z)), "alone and for it in a batch"),
    "the call": (Counts, r"asked twice \(the logit of"),
    "a count": (CountsOnly, "changes its own 'calls'"),
    "gamma": (
        lambda: Before(lambda x: x ** (1 / 2.2)),
        r"black and white areas, first in the forward of Before itself",
    ),
    "a layer": (lambda: nn.Sequential(Pow(), seeded(ToyNet())), r"black and white areas, first in '0' \(Pow\)"),
    "a root": (lambda: Before(torch.sqrt), "gradient that is not finite"),
    "white": (lambda: Before(lambda x: (1 - x).sqrt()), "gradient that is not finite on an image with black"),
    "a logarithm": (lambda: Before(torch.log), "values that are not finite, first in the forward of Before itself"),
    "weights": (with_nan, r"not finite, first in 'second' \(Conv2d, whose weight is not finite\)"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_refused_with_what_was_seen(kind: str) -> None:
    make, reason = REFUSED[kind]
    with pytest.raises(UnderfireError, match=rf"'mine'.*{reason}"):
        check(plain(make()))


def test_a_network_in_training_mode_is_refused() -> None:
    module = nn.Sequential(nn.BatchNorm2d(3), ToyNet())
    classifier = plain(module)
    check(classifier)
    classifier.module.train()
    with pytest.raises(UnderfireError, match="alone and for it in a batch"):
        check(classifier)


def test_a_check_leaves_no_hooks_behind() -> None:
    classifier = plain(with_nan())
    with pytest.raises(UnderfireError):
        check(classifier)
    assert not any(part._forward_hooks for part in classifier.module.modules())


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (RuntimeError("libgomp: Thread creation failed"), "fewer threads"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: size 12"), "fewer threads"),
        (RuntimeError("Output size is too small"), "--input-size"),
        (AssertionError("Input height (12) doesn't match model (224)."), "--input-size"),
        (KeyError("x"), None),
    ],
)
def test_the_advice_suits_the_reason(error: Exception, hint: str | None) -> None:
    def fails(x: Tensor) -> Tensor:
        raise error

    with pytest.raises(UnderfireError, match="'mine' fails on a 12×12 px input") as e:
        check(plain(Before(fails)))
    assert ("input-size" in str(e.value)) == (hint == "--input-size")
    assert hint is None or hint in str(e.value)


@pytest.mark.parametrize("size", [16, 33, 224])
def test_the_pictures_are_pictures_with_black_and_white(size: int) -> None:
    x = trial_images(3, size, size)
    assert x.shape == (3, 3, size, size)
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
    assert float((x[2] == 0).float().mean()) > 0.25
    assert float((x[2] == 1).float().mean()) > 0.25
    assert bool(((x[1] > 0) & (x[1] < 1)).all())
