"""RTSᴬ: the network's doubt, its file, the training on forged images, and what an attacker meets."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from support.colours import SIZE, Noted, colours, few, fitted, squares, started
from support.e2e import underfire
from underfire.attacks.search import Ball, BallWalk, SearchSettings, search
from underfire.core import Goal, Images, MismatchError, NotFoundError, Photo, UnderfireError, Victim
from underfire.interpreters.rts import Rts, RtsA
from underfire.interpreters.rts.card import Card, load, packed, read_card
from underfire.interpreters.rts.net import Doubt, MaskNet
from underfire.interpreters.rts.rts import cross_entropy, maps_of
from underfire.train import doubt, forged, rts_a, train_rts
from underfire.train.doubt import doubt_of, lowered
from underfire.train.loop import TrainListener
from underfire.train.photos import LabelledPhoto, Photos
from underfire.train.rts_a import AdversarialTask
from underfire.train.run import Trained, fit
from underfire.train.settings import AdversarialSettings
from underfire.train.start import resplit
from underfire.train.teacher import load_teacher


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attack that judges an epoch, on two photos and short."""
    monkeypatch.setattr(rts_a, "ATTACKED", 2)
    monkeypatch.setattr(forged, "JUDGED_STEPS", 4)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain network of the coloured squares, and the photos beside it."""
    root = tmp_path_factory.mktemp("plain")
    squares(root / "photos", 32)
    fitted(root / "photos", few(epochs=6, rate=1e-2), root / "rts.safetensors")
    return root


def hard(plain: Path, **changes: object) -> AdversarialSettings:
    """Settings of a short adversarial training."""
    teacher = load_teacher(colours(), str(plain / "rts.safetensors"))
    short = {"epochs": 2, "batch_size": 8, "share": 0.5, "attack_steps": 3, "eps": 24}
    return AdversarialSettings(teacher=teacher.digest, **(short | changes))  # type: ignore[arg-type]


def begun(plain: Path, **changes: object) -> AdversarialTask:
    """A task before its first step."""
    teacher = load_teacher(colours(), str(plain / "rts.safetensors"))
    photos = Photos(str(plain / "photos"), None, colours())
    return AdversarialTask(photos, photos.labelled(0.15, 0), hard(plain, **changes), teacher)


def trained(plain: Path, out: Path, listener: TrainListener | None = None, **changes: object) -> Trained:
    """A finished adversarial training."""
    settings = hard(plain, **changes)
    start = partial(AdversarialTask, settings=settings, teacher=load_teacher(colours(), str(plain / "rts.safetensors")))
    return fit(colours(), str(plain / "photos"), settings, start, out, listener)


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
    with pytest.raises(MismatchError, match=r"'rts'.*--set rts\.weights="):
        RtsA(classifier, file)
    with pytest.raises(NotFoundError, match="underfire train rts --adversarial"):
        RtsA(classifier)
    out = tmp_path / "rts-a.safetensors"
    trained(plain, out, epochs=1)
    with pytest.raises(MismatchError, match=r"'rts-a'.*--set rts-a\.weights="):
        Rts(classifier, str(out))
    rts_a, y = RtsA(classifier, str(out)), torch.tensor([1])
    assert rts_a.explain(torch.rand(1, 3, SIZE, SIZE), y).shape == (1, 16, 16)
    with pytest.raises(UnderfireError, match="no rts-a loss 'sqare'"):
        rts_a.surrogate(torch.rand(1, 3, SIZE, SIZE), Goal(y, y), loss="sqare")


def test_the_doubt_learns_to_say_of_a_forged_picture_what_the_teacher_says_of_the_untouched_one(plain: Path) -> None:
    task = begun(plain, rate=1e-2, benign=0.0)  # nothing else to learn
    x, y = task.photos.clean(task.train[:8])
    other = y != y.flip(0)
    # A picture that shows the wanted class in place of the photo's own is as forged as can be.
    x, y, x_hat, wanted = x[other], y[other], x.flip(0)[other], y.flip(0)[other]
    lesson, levels = task.lesson(x, y, wanted), task.classifier.pyramid(x_hat)
    noted = [task.learn(levels, lesson)["forged"] for _ in range(40)]
    assert noted[0] > 0.1 and noted[-1] < 0.5 * noted[0]


class Watched:
    """The ball, whose walk can be asked where it has come to."""

    def __init__(self, ball: Ball) -> None:
        self.ball = ball

    def walk(self, x: Images) -> BallWalk:
        self.last = self.ball.walk(x)
        return self.last


def test_the_search_of_a_step_is_adv2_on_the_network_as_it_is(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = begun(plain, attack_steps=5)
    x, y = task.photos.clean(task.train[:8])
    wanted = task._wanted(task.train[:8], task.classes, "0")
    lesson, ball = task.lesson(x, y, wanted), Ball(24, rts_a.STEP, rts_a.MOMENTUM)
    walk = ball.walk(x)
    for i in range(5):
        task._forge(walk, lesson, i / 5)
    slow = RtsA.around(task.classifier, task.net)
    goal, space = Goal(wanted, y, {slow.name: slow.explain(x, y)}), Watched(ball)
    how = SearchSettings(5, lam=rts_a.LAM)
    search(Victim(task.classifier, (slow,)), x, goal, space, how, partial(slow.surrogate, loss="cross-entropy"))
    assert torch.equal(walk.position, space.last.position)
    assert not torch.equal(walk.position, ball.walk(x).position)


def test_the_doubt_learns_from_every_iterate_or_every_other(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt: list[float] = []

    def learn(self: AdversarialTask, levels: list[torch.Tensor], lesson: rts_a.Lesson) -> dict[str, float]:
        learnt.append(float(levels[0].sum()))
        return {"forged": float(len(learnt))}

    monkeypatch.setattr(AdversarialTask, "learn", learn)
    task = begun(plain, attack_steps=4)
    assert task.step(0, task.train[:8]) == {"forged": 2.5} and len(set(learnt)) == 4, "as the search goes on"
    every = learnt.copy()
    learnt.clear()
    task = begun(plain, attack_steps=4, learn_every=2)
    assert task.step(0, task.train[:8]) == {"forged": 1.5} and learnt == every[1::2]


def test_a_look_at_many_channels_learns_in_shorter_steps(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = begun(plain)
    rate, channels = task.settings.rate, task.net.channels
    task.set_rate(0, 10)
    groups = task.optimizer.param_groups
    assert {group["lr"] for group in groups} == {rate}, "as wide as Lite0's, or narrower"
    monkeypatch.setattr(doubt, "WIDE", 9)
    task.set_rate(0, 10)
    assert [group["lr"] * c for group, c in zip(groups, channels, strict=False)] == [pytest.approx(rate)] * 3 + [
        pytest.approx(rate * channels[-1])
    ]
    learning = [p for p in task.net.parameters() if p.requires_grad]
    assert {id(p) for group in groups for p in group["params"]} == {id(p) for p in learning}


def test_the_doubt_is_lowered_until_benign_maps_stay(plain: Path) -> None:
    task = begun(plain)
    held_back = partial(lowered, task.net, task.teacher.net, task.judged, task.evaluator)

    @torch.no_grad()
    def moved() -> float:
        x, y = task.photos.clean(task.judged)
        levels, w = task.classifier.pyramid(x), task.classifier.head[y]
        return float((maps_of(task.net, levels, w) - maps_of(task.teacher.net, levels, w)).abs().mean())

    bias = doubt_of(task.net).weigh.bias
    with held_back():
        assert bias.item() == -4.0, "little doubt is left alone"
    torch.nn.init.constant_(bias, 6.0)
    assert moved() > 3 * doubt.KEPT
    with held_back():
        assert 0.8 * doubt.KEPT < moved() <= doubt.KEPT
    assert bias.item() == 6.0, "and the training goes on as it was"
    assert {name for name, p in task.net.named_parameters() if p.requires_grad} == {
        f"doubt.{name}" for name, _ in doubt_of(task.net).named_parameters()
    }


def test_what_is_kept_of_an_epoch_is_the_lowered_doubt(plain: Path) -> None:
    task = begun(plain)
    bias = doubt_of(task.net).weigh.bias
    torch.nn.init.constant_(bias, 6.0)
    judgement = task.judge()
    assert judgement.state["doubt.weigh.bias"].item() < 6.0 == bias.item()
    assert judgement.score == -judgement.figures["forged_l1"]


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
    with pytest.raises(MismatchError, match=r"parts\.safetensors"):
        trained(plain, parts, eps=4)


def test_the_pupil_is_judged_by_classes_that_the_teacher_did_not_learn_from() -> None:
    labelled = [LabelledPhoto(Photo(f"p{i}.png", f"sha{i}"), i % 4, i % 4 == 0) for i in range(12)]
    ours = resplit(labelled, {"sha1", "sha2", "of another folder"})
    assert {s.label for s in ours if s.validation} == {1, 2} and sum(s.validation for s in ours) == 6
    assert resplit(labelled, {"of another folder"}) == labelled


def test_what_adversarial_training_does_not_take(plain: Path, tmp_path: Path) -> None:
    words = (
        "train",
        "rts",
        "--adversarial",
        "doubt",
        "--images",
        plain / "photos",
        "--classifier",
        "efficientnet-lite0",
    )
    ran = underfire(*words, "--precision", "bf16", "--out", tmp_path / "a.safetensors")
    assert ran.code == 2 and "--precision bf16: --adversarial trains in float32 alone" in ran.err
    classifier = colours()
    again = tmp_path / "rts-a.safetensors"
    x, y = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2])
    again.write_bytes(packed(started(classifier, x, y), Card("colours", classifier.digest, 0.5, kind="rts-a")))
    with pytest.raises(MismatchError, match=r"rts-a\.safetensors"):
        train_rts(classifier, str(plain / "photos"), tmp_path / "b.safetensors", adversarial="doubt", plain=str(again))


def test_the_public_function_trains_both(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    listener, classifier = Noted(), colours()
    done = train_rts(
        *(classifier, str(plain / "photos")),
        adversarial="doubt",
        plain=str(plain / "rts.safetensors"),
        limit=20,
        epochs=1,
        listener=listener,
    )
    assert done.path == Path("rts-a-colours.safetensors") and done.card.kind == "rts-a"
    assert (done.card.settings["epochs"], done.card.settings["patience"]) == (1, 16)
    assert set(listener.terms[0]) == {"forged", "benign", "moved"} and "forged_l1" in listener.seen[0]
    assert capfd.readouterr() == ("", "")


def test_the_command(plain: Path) -> None:
    ran = underfire("train", "rts", "--images", plain / "photos", "--from", "a.safetensors")
    assert ran.code == 2 and "add --adversarial" in ran.err
    assert read_card(plain / "rts.safetensors").kind == "rts"
