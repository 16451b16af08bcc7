"""What networks return: the logits are found in it, or asked for."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from support.toys import ToyNet, pictures, seeded
from underfire.classifiers.base import wrap
from underfire.core import UnderfireError
from underfire.plan.check import check

Named = namedtuple("Named", ["aux", "logits"])


@dataclass
class Output:
    logits: Tensor
    hidden: tuple[Tensor, ...] = ()


class Twisted(ToyNet):
    def __init__(self, twist: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.twist = twist

    def forward(self, x: Tensor) -> Any:
        return self.twist(super().forward(x))


ALONE: dict[str, Callable[[Tensor], Any]] = {
    "a tuple of one": lambda z: (z,),
    "a tuple with maps": lambda z: (z[:, :, None, None].expand(-1, -1, 2, 2), z),
    "a list": lambda z: [z],
    "a mapping": lambda z: {"aux": z + 1, "logits": z},
    "an object": Output,
    "a named tuple": lambda z: Named(z + 1, z),
}


@pytest.mark.parametrize("kind", ALONE)
def test_logits_are_found_without_help(kind: str) -> None:
    net = seeded(Twisted(ALONE[kind])).eval()
    built = wrap(net, input_size=12, mean=0.5, std=0.1, classes=list("abcd"))
    check(built)
    x = pictures(2)
    torch.testing.assert_close(built.logits(x), ToyNet.forward(net, (x - 0.5) / 0.1))  # type: ignore[arg-type]
    assert built.head.shape == (4, 6)


@pytest.mark.parametrize("output", ["second", 1, "1"])
def test_the_user_says_which(output: str | int) -> None:
    twist = (lambda z: {"first": z, "second": 2 * z}) if output == "second" else (lambda z: (z, 2 * z))
    net = seeded(Twisted(twist)).eval()
    x = pictures(1)
    want = 2 * ToyNet.forward(net, (x - 0.5) / 0.1)  # type: ignore[arg-type]
    built = wrap(net, input_size=12, mean=0.5, std=0.1, classes=list("abcd"), output=output)
    torch.testing.assert_close(built.logits(x), want)


def test_several_that_could_be_are_listed_and_an_unknown_one_is_refused() -> None:
    net = seeded(Twisted(lambda z: {"first": z, "second": z}))
    with pytest.raises(UnderfireError, match=r"first \(1, 4\), second \(1, 4\).*output="):
        wrap(net, input_size=12, classes=list("abcd"), name="mine")
    with pytest.raises(UnderfireError, match=r"no output of 'mine'.*'third'"):
        wrap(net, input_size=12, classes=list("abcd"), name="mine", output="third")
    with pytest.raises(UnderfireError, match=r"'mine' returns a str"):
        wrap(seeded(Twisted(str)), input_size=12, classes=list("abcd"), name="mine")


def test_a_network_that_returns_a_tensor_stays_as_it_is() -> None:
    built = wrap(seeded(ToyNet()), input_size=12, classes=list("abcd"))
    assert isinstance(built.module, ToyNet)
