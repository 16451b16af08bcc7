"""Outputs: what kind of head a network has, found or declared, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from support.toys import CLASSES, SIZE, ToyNet, pictures, seeded
from underfire.classifiers.base import TorchClassifier, wrap
from underfire.classifiers.given import HALF
from underfire.classifiers.inputs import class_names, policy
from underfire.classifiers.outputs import SIGMOID_OFF
from underfire.core import ClassifierOptions, Preprocess, UnderfireError
from underfire.heads import kind_of
from underfire.plan.check import check


class Ended(nn.Module):
    """A network with something behind its logits."""

    def __init__(self, end: Callable[[Tensor], Tensor], k: int = 4) -> None:
        super().__init__()
        self.net, self.end = seeded(ToyNet(k), 1), end

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.net(x))


class Gated(nn.Module):
    """One layer of sigmoids that is used inside and at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.gate = seeded(ToyNet(), 1), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.gate(self.net(self.gate(x)))
        return out


def wrapped(module: nn.Module, head: str | None = None) -> TorchClassifier:
    return wrap(module, input_size=SIZE, head=head, name="mine")


@pytest.mark.parametrize(
    ("k", "head", "kind"),
    [(4, None, "softmax"), (1, None, "binary"), (4, "multilabel", "multilabel"), (1, "binary", "binary")],
)
def test_outputs_are_what_they_are_declared_or_found_to_be(k: int, head: str | None, kind: str) -> None:
    classifier = wrapped(seeded(ToyNet(k)), head)
    assert kind_of(classifier) == kind
    assert len(classifier.classes) == max(2, k)
    check(classifier)


@pytest.mark.parametrize(("k", "kind"), [(4, "multilabel"), (1, "binary")])
def test_a_layer_of_sigmoids_at_the_end_is_taken_off_and_said_so(k: int, kind: str) -> None:
    module = Ended(nn.Sigmoid(), k)
    classifier, bare = wrapped(module), wrapped(module.net, kind)
    x = pictures(3)
    assert kind_of(classifier) == kind
    assert torch.equal(classifier.logits(x), bare.logits(x))
    assert SIGMOID_OFF in classifier.notes
    assert SIGMOID_OFF in repr(classifier)
    assert isinstance(module.end, nn.Sigmoid)  # the user's own stays as it was
    check(classifier)


@pytest.mark.parametrize("declared", [None, "multilabel"])
@pytest.mark.parametrize("module", [Ended(torch.sigmoid), Gated()])
def test_a_sigmoid_that_is_no_layer_of_its_own_is_refused(module: nn.Module, declared: str | None) -> None:
    with pytest.raises(UnderfireError, match=r"'mine' ends in a sigmoid.*--head.*multilabel"):
        wrapped(module, declared)


def test_a_sigmoid_is_no_softmax() -> None:
    with pytest.raises(UnderfireError, match=r"'mine' ends in a sigmoid.*'multilabel'"):
        wrapped(Ended(nn.Sigmoid()), "softmax")


def test_what_lies_between_0_and_1_is_no_logit_unless_its_owner_says_so() -> None:
    module = Ended(lambda z: 1 / (1 + (-z).exp()))
    with pytest.raises(UnderfireError, match=r"'mine' returns numbers in \[0, 1\].*--head"):
        wrapped(module)
    assert kind_of(wrapped(module, "softmax")) == "softmax"
    small = seeded(ToyNet())
    assert isinstance(small, ToyNet)
    small.head.weight.data.mul_(1e-4)
    small.head.bias.data.fill_(0.5)
    assert kind_of(wrapped(small)) == "softmax"  # a linear layer gives logits, however small


def built(end: Callable[[Tensor], Tensor], k: int, kind: str) -> TorchClassifier:
    """A classifier that is made without a look at its outputs."""
    names, policy = class_names(k, {}, ClassifierOptions()), Preprocess(SIZE, SIZE)
    return TorchClassifier(Ended(end, k), name="mine", preprocess=policy, classes=names, head=kind)


def test_a_classifier_that_ends_in_a_sigmoid_is_refused_however_it_was_built() -> None:
    for k, kind in ((4, "softmax"), (1, "binary")):
        with pytest.raises(UnderfireError, match=r"ends in a sigmoid.*--head"):
            check(built(torch.sigmoid, k, kind))


def over_places(of: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The mean over places of what ``of`` makes of maps (N, K, 3, 3)."""
    where = torch.linspace(-1, 1, 9).view(3, 3)
    return lambda z: of(z[..., None, None] * where).mean((2, 3))


AVERAGED: list[Callable[[Tensor], Tensor]] = [
    over_places(torch.sigmoid),
    over_places(lambda maps: maps.softmax(1)),
    lambda z: torch.stack([z.sigmoid(), (2 * z).sigmoid()]).mean(0),
    lambda z: torch.stack([z.softmax(1), (2 * z).softmax(1)]).mean(0),
    lambda z: z.sigmoid() + (2 * z).sigmoid(),
    lambda z: 0.5 * z.sigmoid() + 0.5 * (2 * z).sigmoid(),
]


@pytest.mark.parametrize("end", AVERAGED)
def test_averaged_probabilities_are_no_logits(end: Callable[[Tensor], Tensor]) -> None:
    for head in (None, "softmax", "multilabel"):
        with pytest.raises(UnderfireError, match=r"'mine' returns means or sums of sigmoids or softmaxes"):
            wrapped(Ended(end), head)


def test_averaged_probabilities_are_refused_however_a_classifier_was_built() -> None:
    for k, kind in ((4, "softmax"), (1, "binary")):
        with pytest.raises(UnderfireError, match="means or sums of sigmoids or softmaxes"):
            check(built(over_places(torch.sigmoid), k, kind))


class Excited(ToyNet):
    """Logits at each place, with gates of sigmoids before them, after them and beside them, then their mean."""

    def __init__(self, gates: str) -> None:
        super().__init__()
        self.gates, self.gate = gates, nn.Conv2d(6, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        f = self.last(self.second(self.first(x).relu()))
        gate = self.gate(f.mean((2, 3), keepdim=True)).sigmoid()
        if self.gates == "before":
            f = f * gate
        z = torch.einsum("kc,nchw->nkhw", self.head.weight, f)
        z = z * gate[:, :CLASSES] if self.gates == "after" else z + gate[:, :CLASSES]
        mean: Tensor = z.mean((2, 3))
        return mean


@pytest.mark.parametrize(
    "module",
    [
        *(seeded(Excited(gates)) for gates in ("before", "after", "beside")),
        Ended(lambda z: torch.stack([z, z - z.mean()]).mean(0)),
        Ended(lambda z: torch.stack([z.softmax(1), (2 * z).softmax(1)]).mean(0).log()),
        Ended(lambda z: (z.softmax(1) @ torch.eye(4).to(z)) + 1),
        Ended(lambda z: (z.relu() + z.sigmoid()).sum(1, keepdim=True) + z),
    ],
)
def test_sums_and_means_of_logits_are_logits(module: nn.Module) -> None:
    assert kind_of(wrapped(module)) == "softmax"


@pytest.mark.parametrize(
    ("k", "head", "said"),
    [
        (1, "multilabel", "'mine' has one output.*'binary'"),
        (1, "softmax", "'mine' has one output.*'binary'"),
        (4, "binary", "'mine' has 4 outputs.*'multilabel'"),
    ],
)
def test_a_head_that_outputs_cannot_have_is_refused(k: int, head: str, said: str) -> None:
    with pytest.raises(UnderfireError, match=said):
        wrapped(seeded(ToyNet(k)), head)


def test_one_output_has_two_names(tmp_path: Path) -> None:
    with pytest.raises(UnderfireError, match=r"1 class names.*'mine'.*low output"):
        wrap(seeded(ToyNet(1)), input_size=SIZE, classes=["malignant"], name="mine")
    file = tmp_path / "names.txt"
    file.write_text("benign\nmalignant\n")
    assert class_names(1, {}, ClassifierOptions(classes=str(file))).names == ("benign", "malignant")
    file.write_text("a\nb\nc\n")
    with pytest.raises(UnderfireError, match=rf"3 class names \({file}\).*one output: give two lines"):
        class_names(1, {}, ClassifierOptions(classes=str(file)))


# -- precision and inputs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", HALF)
def test_a_network_of_half_precision_is_taken_as_float32_and_stays_as_it_was(dtype: torch.dtype) -> None:
    module = seeded(ToyNet()).to(dtype)
    classifier = wrapped(module)
    x = pictures(2).float()
    assert classifier.logits(x).dtype == torch.float32
    whole = seeded(ToyNet()).to(dtype).float()
    assert torch.equal(classifier.logits(x), wrapped(whole).logits(x))
    assert {p.dtype for p in module.parameters()} == {dtype}
    assert str(dtype).removeprefix("torch.") in classifier.notes[0]


def grey_net() -> nn.Module:
    net = seeded(ToyNet())
    assert isinstance(net, ToyNet)
    net.first = nn.Conv2d(1, 4, 3, padding=1, stride=2).double()
    return net


def test_a_network_that_takes_only_grey_gets_grey() -> None:
    found, given = wrapped(grey_net()), wrap(grey_net(), input_size=SIZE, channels=1, mean=0.2, std=(0.3,))
    assert (found.preprocess.shape, found.preprocess.mean) == ((1, SIZE, SIZE), (0.449,))
    assert given.preprocess.std == (0.3,)
    check(found)


@pytest.mark.parametrize(
    ("module", "channels", "said"),
    [
        (ToyNet(), 1, "takes three colours"),
        (grey_net(), 3, "takes grey images"),
        (nn.Sequential(nn.Conv2d(4, 3, 1), ToyNet()), None, "three colours, or one grey"),
        (ToyNet(), 4, "channels=4.*three colours"),
    ],
)
def test_another_number_of_channels_is_told(module: nn.Module, channels: int | None, said: str) -> None:
    with pytest.raises(UnderfireError, match=said) as e:
        wrap(module, input_size=SIZE, channels=channels, name="mine")
    assert "\n" not in str(e.value)


def test_an_input_may_have_a_height_and_a_width() -> None:
    classifier = wrap(seeded(ToyNet()), input_size=(SIZE, 20))
    assert (classifier.preprocess.size, classifier.preprocess.resize) == ((SIZE, 20), round(SIZE * 8 / 7))
    check(classifier)
    assert wrap(seeded(ToyNet()), input_size=(SIZE, SIZE)).digest == wrapped(seeded(ToyNet())).digest


def test_flags_and_metadata_say_sizes_and_channels() -> None:
    base, grey = Preprocess(224, 256), Preprocess(224, 256, (0.5,), (0.2,))
    assert policy(base, {}, ClassifierOptions(input_size=(64, 96))) == Preprocess(64, 73, width=96)
    assert policy(base, {"input_size": "3,64,96"}, ClassifierOptions()) == Preprocess(64, 73, width=96)
    assert policy(base, {}, ClassifierOptions(mean=(0.5,))).mean == (0.5, 0.5, 0.5)
    assert policy(grey, {}, ClassifierOptions(channels=1, std=(1.0,))).std == (1.0,)
    with pytest.raises(UnderfireError, match="one channel"):
        policy(grey, {}, ClassifierOptions(mean=(0.1, 0.2, 0.3)))
    with pytest.raises(UnderfireError, match=r"--channels 1.*takes 3"):
        policy(base, {}, ClassifierOptions(channels=1))
