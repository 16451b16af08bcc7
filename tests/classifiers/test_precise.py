"""Passes in the precision of a search, against torch's own autocast."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from underfire.classifiers.base import TorchClassifier, wrap
from underfire.classifiers.folding import fold_batch_norm
from underfire.core import Goal
from underfire.core.precision import judging, searching
from underfire.interpreters.cam import Cam
from underfire.interpreters.checked import explain
from underfire.interpreters.grad import Grad

X = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
Y = torch.tensor([1, 2, 0])


def net() -> nn.Module:
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2), nn.ReLU()]
    body[1].running_var = torch.full((16,), 4.0)
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 5)).eval()


@pytest.fixture
def classifier() -> TorchClassifier:
    return wrap(net(), input_size=32, mean=0.5, std=0.5)


def gradient(classifier: TorchClassifier, word: str) -> Tensor:
    with searching(word):
        x = X.clone().requires_grad_()
        loss = nn.functional.cross_entropy(classifier.logits(x), Y)
    return torch.autograd.grad(loss, x)[0]  # after the block: the graph has its own weights


def test_logits_and_gradient_are_those_of_a_plain_autocast(classifier: TorchClassifier) -> None:
    model, x = net(), X.clone().requires_grad_()
    assert len(fold_batch_norm(model, X)) == 1
    model = model.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        z = model(((x - 0.5) / 0.5).contiguous(memory_format=torch.channels_last))
    (g,) = torch.autograd.grad(nn.functional.cross_entropy(z.float(), Y), x)
    with searching("bf16-last"):
        ours = classifier.logits(X)
    assert ours.dtype == torch.float32 and torch.equal(ours, z.float())
    torch.testing.assert_close(gradient(classifier, "bf16-last"), g)
    assert not torch.equal(gradient(classifier, "fp32"), g)


def test_channels_last_changes_rounding_alone(classifier: TorchClassifier) -> None:
    torch.testing.assert_close(gradient(classifier, "fp32-last"), gradient(classifier, "fp32"), rtol=1e-4, atol=1e-7)


def test_the_network_has_its_own_weights_again_also_after_an_error(classifier: TorchClassifier) -> None:
    own = dict(classifier.module.named_parameters())
    before = classifier.logits(X)
    gradient(classifier, "bf16-last")
    with pytest.raises(RuntimeError), searching("bf16"):
        classifier.logits(torch.rand(1, 5, 32, 32))
    after = dict(classifier.module.named_parameters())
    assert all(after[name] is p for name, p in own.items())
    assert torch.equal(classifier.logits(X), before)


def norms_computed(monkeypatch: pytest.MonkeyPatch, classifier: TorchClassifier) -> int:
    ran: list[int] = []
    batch_norm = nn.functional.batch_norm

    def noted(*args: Any, **own: Any) -> Tensor:
        ran.append(1)
        return batch_norm(*args, **own)

    with monkeypatch.context() as patched:
        patched.setattr(nn.functional, "batch_norm", noted)
        classifier.logits(X)
    return len(ran)


def test_a_search_folds_the_norms_of_a_users_network_and_the_judge_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    module = net()
    own = wrap(module, input_size=32, mean=0.5, std=0.5)
    before = own.logits(X)
    with searching("fp32-last"):
        own.logits(X)  # the first pass looks for what may be folded
        assert norms_computed(monkeypatch, own) == 0
        torch.testing.assert_close(own.logits(X), before, rtol=1e-4, atol=1e-5)
    assert norms_computed(monkeypatch, own) == 1 and torch.equal(own.logits(X), before)
    assert all(isinstance(one.get_submodule("1"), nn.BatchNorm2d) for one in (module, own.module))


@pytest.mark.parametrize("at", [0, 1])
def test_a_layer_that_somebody_reads_is_what_the_network_computes_there(classifier: TorchClassifier, at: int) -> None:
    layer = next(layer for layer in classifier.layers() if layer.name == str(at))
    _, wanted = classifier.activations(X, layer)
    with searching("fp32-last"):
        classifier.logits(X)
        _, there = classifier.activations(X, layer)
    torch.testing.assert_close(there, wanted, rtol=1e-4, atol=1e-5)


class ReadTwice(nn.Module):
    """A network that reads a convolution's output beside its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.end = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 5)
        self.norm.running_var = torch.full((8,), 4.0)

    def forward(self, x: Tensor) -> Tensor:
        a = self.conv(x)
        z: Tensor = self.end((self.norm(a) + a).relu().mean((2, 3)))
        return z


class LooksAtItsNorm(ReadTwice):
    """A network that wants its norm to be one."""

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.end(self.norm(self.conv(x)).relu().mean((2, 3)) * self.norm.eps)
        return z


@pytest.mark.parametrize("kind", [ReadTwice, LooksAtItsNorm])
def test_what_cannot_be_folded_stays_as_it_is(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    own = wrap(kind().eval(), input_size=32, mean=0.5, std=0.5)
    before = own.logits(X)
    with searching("fp32-last"):
        torch.testing.assert_close(own.logits(X), before, rtol=1e-5, atol=1e-7)


def test_the_judge_is_float32_in_a_search(classifier: TorchClassifier) -> None:
    cam = Cam(classifier)
    maps, none = explain(cam, X, Y)
    with searching("bf16-last"):
        again, _ = explain(cam, X, Y)
        with judging():
            z = classifier.logits(X)
        assert not torch.equal(classifier.logits(X), z)
    assert not none and torch.equal(maps, again) and torch.equal(z, classifier.logits(X))


@pytest.mark.parametrize("kind", [Cam, Grad])
def test_both_sides_of_an_interpreter_work_in_bfloat16(classifier: TorchClassifier, kind: type) -> None:
    interpreter = kind(classifier)
    goal = Goal(Y, Y, {interpreter.name: interpreter.explain(X.flip(0), Y)})
    found = []
    for word in ("fp32", "bf16-last"):
        with searching(word):
            x = X.clone().requires_grad_()
            terms = interpreter.surrogate(X, goal).terms(x)
            found.append(torch.autograd.grad(terms.loss.sum(), x)[0])
            assert terms.logits.dtype == terms.loss.dtype == torch.float32
    same = nn.functional.cosine_similarity(found[0].flatten(), found[1].flatten(), 0)
    assert same > 0.95 and not torch.equal(*found)
