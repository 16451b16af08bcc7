"""Heads: losses, log-odds and success against plain torch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from support.toys import SIZE, STD, ToyNet, pictures, seeded, toy
from underfire.classifiers.base import TorchClassifier, wrap
from underfire.core import UnderfireError
from underfire.heads import MultiLabel, Softmax, head_named, head_of, kind_of
from underfire.interpreters.cam import Cam
from underfire.interpreters.grad import Grad

Z = torch.randn(40, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 4
Y = torch.arange(40) % 5
SOURCE = Z.argmax(1)


def one_output(seed: int = 0) -> tuple[nn.Module, TorchClassifier]:
    net = seeded(ToyNet(1), seed)
    return net, wrap(net, input_size=SIZE, mean=0.5, std=STD, classes=["benign", "malignant"])


@pytest.mark.parametrize("kind", ["softmax", "binary", "multilabel"])
def test_a_probability_is_the_sigmoid_of_the_log_odds(kind: str) -> None:
    head = head_named(kind)
    p = head.probabilities(Z).gather(1, Y[:, None])[:, 0]
    torch.testing.assert_close(head.log_odds(Z, Y).sigmoid(), p)
    torch.testing.assert_close(head.log_probability(Z, Y), p.log())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_softmax_is_the_cross_entropy_to_the_last_bit(smoothing: float) -> None:
    plain = F.cross_entropy(Z, Y, reduction="none", label_smoothing=smoothing)
    assert torch.equal(Softmax().loss(Z, Y, SOURCE, smoothing), plain)
    assert torch.equal(Softmax().won(Z, Y, SOURCE), Z.argmax(1) == Y)


def test_the_loss_of_labels_is_the_binary_cross_entropy_of_the_two_that_matter() -> None:
    wanted, weight = torch.zeros_like(Z), torch.zeros_like(Z)
    wanted[torch.arange(40), Y] = 1
    weight[torch.arange(40), Y] = 1
    weight[torch.arange(40), SOURCE] = 1
    plain = F.binary_cross_entropy_with_logits(Z, wanted, weight, reduction="none").sum(1)
    torch.testing.assert_close(MultiLabel().loss(Z, Y, SOURCE), plain)


def test_smoothed_labels_are_those_of_two_classes_each() -> None:
    y, source = torch.tensor([0]), torch.tensor([1])
    z = torch.tensor([[1.5, -0.3]], dtype=torch.float64)
    two = torch.stack([-z, z], 2)[0] / 2  # of each label: off and on
    plain = F.cross_entropy(two, torch.tensor([1, 0]), reduction="sum", label_smoothing=0.2)
    assert float(MultiLabel().loss(z, y, source, 0.2)) == pytest.approx(float(plain))


def test_labels_are_won_where_the_wanted_one_is_on_and_the_own_one_off() -> None:
    z = torch.tensor([[2.0, -1.0, 9.0], [2.0, 1.0, -9.0], [-2.0, -1.0, 0.0], [3.0, 5.0, 5.0]])
    y, source = torch.tensor([0, 0, 0, 0]), torch.tensor([1, 1, 1, 0])
    assert MultiLabel().won(z, y, source).tolist() == [True, False, False, True]
    assert MultiLabel().lead(z, y, source).tolist() == [1.0, -1.0, -2.0, 3.0]


def test_a_random_label_is_one_that_is_off_where_there_is_one() -> None:
    labels = MultiLabel()
    assert labels.taken(torch.tensor([2.0, -1.0, 1.0, -3.0]), 0) == [0, 2]
    assert labels.taken(torch.tensor([-2.0, -1.0]), 1) == [1]
    assert labels.taken(torch.tensor([2.0, 1.0]), 0) == [0]
    assert Softmax().taken(torch.tensor([2.0, 1.0, 3.0]), 2) == [2]


def test_one_output_is_two_classes_whose_loss_is_the_binary_cross_entropy() -> None:
    net, classifier = one_output()
    x = pictures(6)
    raw: Tensor = net((x - 0.5) / STD)[:, 0]
    z, y = classifier.logits(x), torch.tensor([0, 1] * 3)
    head = head_of(classifier)
    assert (kind_of(classifier), classifier.classes.names) == ("binary", ("benign", "malignant"))
    torch.testing.assert_close(head.probabilities(z)[:, 1], raw.sigmoid())
    torch.testing.assert_close(head.log_odds(z, torch.ones(6, dtype=torch.int64)), raw)
    plain = F.binary_cross_entropy_with_logits(raw, y.double(), reduction="none")
    torch.testing.assert_close(head.loss(z, y, 1 - y), plain)


def test_an_output_without_its_dimension_is_one_output_too() -> None:
    class Squeezed(ToyNet):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).squeeze(1)

    x = pictures(3)
    plain, squeezed = (seeded(kind(1), 2) for kind in (ToyNet, Squeezed))
    one, other = (wrap(net, input_size=SIZE) for net in (plain, squeezed))
    torch.testing.assert_close(one.logits(x), other.logits(x))
    torch.testing.assert_close(Cam(one).explain(x, torch.ones(3).long()), Cam(other).explain(x, torch.ones(3).long()))


def test_the_maps_of_two_classes_of_one_output() -> None:
    net, classifier = one_output()
    x, low, high = pictures(2), torch.tensor([0, 0]), torch.tensor([1, 1])
    cam, grad = Cam(classifier), Grad(classifier)
    torch.testing.assert_close(cam.explain(x, low), 1 - cam.explain(x, high))  # what speaks for one, against the other
    torch.testing.assert_close(grad.explain(x, low), grad.explain(x, high))
    assert isinstance(net, ToyNet)
    torch.testing.assert_close(classifier.head[1] - classifier.head[0], net.head.weight[0])


def test_the_saliency_of_a_label_is_the_gradient_of_its_own_logit() -> None:
    net = seeded(ToyNet(), 1)
    classifier = wrap(net, input_size=SIZE, mean=0.5, std=STD, head="multilabel")
    x, y = pictures(2).requires_grad_(), torch.tensor([2, 0])
    slope = torch.autograd.grad(net((x - 0.5) / STD).gather(1, y[:, None]).sum(), x)[0]
    plain = F.avg_pool2d(slope.abs().amax(1)[:, None], 4)[:, 0]
    found = Grad(classifier).explain(x, y)
    low, high = plain.amin((1, 2), keepdim=True), plain.amax((1, 2), keepdim=True)
    torch.testing.assert_close(found, (plain - low) / (high - low))
    as_classes = Grad(toy()).explain(x, y)
    assert not torch.allclose(found, as_classes, atol=1e-2)


def test_a_head_is_part_of_what_a_classifier_is() -> None:
    one, other = (wrap(seeded(ToyNet()), input_size=SIZE, head=head) for head in (None, "multilabel"))
    assert one.digest != other.digest
    with pytest.raises(UnderfireError, match=r"softmaxx.*softmax"):
        wrap(seeded(ToyNet()), input_size=SIZE, head="softmaxx")
