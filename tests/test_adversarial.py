"""RTSᴬ: the network's doubt, its file, the training on forged images, and what an attacker meets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from e2e import underfire
from test_rts import SIZE, Noted, colours, few, squares, started
from underfire.core import Goal, Photo, UnderfireError
from underfire.interpreters.rts import Card, Rts, RtsA, cross_entropy, load, maps_of, packed, read_card
from underfire.interpreters.rts_net import Doubt, MaskNet
from underfire.train import rts as train
from underfire.train import rts_a as adversarial


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack that judges an epoch, on two photos and short."""
    monkeypatch.setattr(adversarial, "ATTACKED", 2)
    monkeypatch.setattr(adversarial, "JUDGED_STEPS", 4)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain decoder of the coloured squares, and the photos beside it."""
    root = tmp_path_factory.mktemp("plain")
    squares(root / "photos", 32)
    train.train_rts(colours(), str(root / "photos"), few(epochs=6, rate=1e-2), root / "rts.safetensors")
    return root


def begun(
    plain: Path, **changes: object
) -> tuple[adversarial.AdversarialSettings, Callable[..., adversarial.AdversarialTraining]]:
    how, begin = adversarial.adversarial_training(colours(), few(), str(plain / "rts.safetensors"))
    how = replace(how, epochs=2, batch_size=8, share=0.5, attack_steps=3, eps=24)
    return replace(how, **changes), begin  # type: ignore[arg-type]


def trained(plain: Path, out: Path, watcher: train.TrainWatcher | None = None, **changes: object) -> train.Trained:
    how, begin = begun(plain, **changes)
    return train.train_rts(colours(), str(plain / "photos"), how, out, watcher, begin)


def test_the_doubt_starts_as_nothing_and_ends_up_in_the_file(tmp_path: Path) -> None:
    classifier = colours()
    x, y = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2])
    x[:, 1:] *= 0.3  # something red to see
    net = started(classifier, x, y)
    doubting = MaskNet(net.channels, doubts=True)
    doubting.load_state_dict(doubting.state_dict() | net.state_dict())
    levels, w = classifier.pyramid(x), classifier.head[y]
    torch.testing.assert_close(doubting(levels, w), net(levels, w), atol=0.01, rtol=0)
    assert isinstance(doubting.doubt, Doubt)
    torch.nn.init.constant_(doubting.doubt.weigh.bias, 3.0)
    assert bool((doubting(levels, w) < net(levels, w)).all()), "doubt takes away from the mask, everywhere"
    path = tmp_path / "rts-a.safetensors"
    path.write_bytes(packed(doubting, Card("colours", classifier.digest, 0.5, kind="rts-a")))
    torch.testing.assert_close(load(path)(levels, w), doubting(levels, w), atol=0.01, rtol=0)


def test_the_cross_entropy_has_a_slope_where_the_square_has_none() -> None:
    z = torch.full((1, 4, 4), -12.0, dtype=torch.float64, requires_grad=True)
    wanted = torch.full((1, 4, 4), 0.9, dtype=torch.float64)
    value = cross_entropy(torch.sigmoid(z), wanted)
    slow = torch.nn.functional.binary_cross_entropy_with_logits(z, wanted)
    torch.testing.assert_close(value[0], slow)
    (slope,) = torch.autograd.grad(value.sum(), z)
    torch.testing.assert_close(slope, (torch.sigmoid(z.detach()) - wanted) / 16)
    (square,) = torch.autograd.grad((torch.sigmoid(z) - wanted).square().mean(), z)
    assert float(square.abs().max()) < 1e-4 * float(slope.abs().max())


def test_each_kind_of_file_goes_with_its_interpreter(plain: Path, tmp_path: Path) -> None:
    classifier, file = colours(), str(plain / "rts.safetensors")
    with pytest.raises(UnderfireError, match=r"holds a network of 'rts': name it with --set rts.weights="):
        RtsA(classifier, file)
    with pytest.raises(UnderfireError, match=r"RTS-A has no trained network .*underfire train rts --adversarial"):
        RtsA(classifier)
    out = tmp_path / "rts-a.safetensors"
    trained(plain, out, epochs=1)
    with pytest.raises(UnderfireError, match=r"holds a network of 'rts-a': name it with --set rts-a.weights="):
        Rts(classifier, str(out))
    rts_a, y = RtsA(classifier, str(out)), torch.tensor([1])
    assert rts_a.explain(torch.rand(1, 3, SIZE, SIZE), y).shape == (1, 16, 16)
    with pytest.raises(UnderfireError, match="no rts-a loss 'sqare'"):
        rts_a.surrogate(torch.rand(1, 3, SIZE, SIZE), Goal(y, y), loss="sqare")


def test_the_doubt_learns_to_say_of_a_forged_picture_what_the_teacher_says_of_the_untouched_one(plain: Path) -> None:
    how, begin = begun(plain, rate=1e-2, benign=0.0)  # nothing else to learn
    classifier = colours()
    photos = train.Photos(str(plain / "photos"), None, classifier)
    training = begin(classifier, photos, photos.predicted(0.15, 0), how)
    x, y = photos.clean(training.train[:8])
    other = y != y.flip(0)
    # A picture that shows the wanted class in place of the photo's own is as forged as can be.
    x, y, x_hat, wanted = x[other], y[other], x.flip(0)[other], y.flip(0)[other]
    sparring = adversarial.Sparring(training, x, y, wanted)
    sparring.terms(x_hat.clone().requires_grad_())
    for _ in range(40):
        sparring.advance(x, 1.0)
    assert sparring.noted[0]["forged"] > 0.1 and sparring.noted[-1]["forged"] < 0.5 * sparring.noted[0]["forged"]


def test_a_look_at_many_channels_learns_in_shorter_steps(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how, begin = begun(plain)
    photos = train.Photos(str(plain / "photos"), None, colours())
    training = begin(colours(), photos, photos.predicted(0.15, 0), how)
    training._rate(0)
    groups = training.optimizer.param_groups
    assert {group["lr"] for group in groups} == {how.rate}, "as wide as Lite0's, or narrower"
    monkeypatch.setattr(adversarial, "WIDE", 9)
    training._rate(0)
    assert [group["lr"] * c for group, c in zip(groups, training.net.channels, strict=False)] == [
        pytest.approx(how.rate)
    ] * 3 + [pytest.approx(how.rate * training.net.channels[-1])]
    learning = [p for p in training.net.parameters() if p.requires_grad]
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in learning}


def test_the_doubt_is_lowered_until_benign_maps_stay(plain: Path) -> None:
    how, begin = begun(plain)
    photos = train.Photos(str(plain / "photos"), None, colours())
    training = begin(colours(), photos, photos.predicted(0.15, 0), how)

    @torch.no_grad()
    def moved() -> float:
        x, y = photos.clean(training._kept)
        levels, w = training.classifier.pyramid(x), training.classifier.head[y]
        return float((maps_of(training.net, levels, w) - maps_of(training.teacher, levels, w)).abs().mean())

    bias = adversarial.doubt_of(training.net).weigh.bias
    with training.settled():
        assert bias.item() == -4.0, "little doubt is left alone"
    torch.nn.init.constant_(bias, 6.0)
    assert moved() > 3 * adversarial.KEPT
    with training.settled():
        assert 0.8 * adversarial.KEPT < moved() <= adversarial.KEPT
    assert bias.item() == 6.0, "and the training goes on as it was"
    assert {name for name, p in training.net.named_parameters() if p.requires_grad} == {
        f"doubt.{name}" for name, _ in adversarial.doubt_of(training.net).named_parameters()
    }


def test_the_card_says_what_it_is(plain: Path, tmp_path: Path) -> None:
    done = trained(plain, tmp_path / "rts-a.safetensors", epochs=1)
    assert done.card.kind == "rts-a" and done.card.settings["teacher"]
    assert {"benign_l1", "forged_l1", "plain_saliency_metric"} <= set(done.card.figures)


def test_a_killed_adversarial_training_goes_on_to_the_same_file(plain: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    trained(plain, whole)
    with pytest.raises(KeyboardInterrupt):
        trained(plain, parts, Noted(stop_after=1))
    trained(plain, parts)
    assert whole.read_bytes() == parts.read_bytes()
    assert not trained(plain, parts).fresh
    with pytest.raises(UnderfireError, match="with other photos or settings"):
        trained(plain, parts, eps=4)


def test_the_pupil_is_judged_by_classes_that_the_teacher_did_not_learn_from() -> None:
    shown = [train.Shown(Photo(f"p{i}.png", f"sha{i}"), i % 4, i % 4 == 0) for i in range(12)]
    ours = adversarial.resplit(shown, {"sha1", "sha2", "of another folder"})
    assert {s.label for s in ours if s.validation} == {1, 2} and sum(s.validation for s in ours) == 6
    assert adversarial.resplit(shown, {"of another folder"}) == shown


def test_what_adversarial_training_does_not_take(plain: Path, tmp_path: Path) -> None:
    words = ("train", "rts", "--adversarial", "--images", plain / "photos", "--classifier", "efficientnet-lite0")
    ran = underfire(*words, "--precision", "bf16", "--out", tmp_path / "a.safetensors")
    assert ran.code == 2 and "--precision bf16: --adversarial trains in float32 alone" in ran.err
    classifier = colours()
    again = tmp_path / "rts-a.safetensors"
    x, y = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2])
    again.write_bytes(packed(started(classifier, x, y), Card("colours", classifier.digest, 0.5, kind="rts-a")))
    with pytest.raises(UnderfireError, match=r"rts-a.safetensors: this network is of an adversarial training"):
        adversarial.adversarial_training(classifier, few(), str(again))


def test_the_command(plain: Path) -> None:
    ran = underfire("train", "rts", "--images", plain / "photos", "--from", "a.safetensors")
    assert ran.code == 2 and "add --adversarial" in ran.err
    assert read_card(plain / "rts.safetensors").kind == "rts"
