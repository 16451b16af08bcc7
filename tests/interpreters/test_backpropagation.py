"""Integrated Gradients, input × gradient and SmoothGrad against the library Captum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import InputXGradient, IntegratedGradients, Saliency
from PIL import Image

from support import toys
from support.attacked import distance, goal_of, pooled
from underfire import registry
from underfire.attacks.adv2 import adv2
from underfire.attacks.pgd import pgd
from underfire.core import MismatchError, NotFoundError, UnderfireError, UnknownNameError
from underfire.interpreters.backpropagation import SmoothGrad
from underfire.interpreters.backpropagation.baseline import baseline_of
from underfire.interpreters.drawn import generator, normal

Y = torch.tensor([2, 0, 1])


def case(name: str, **options: Any) -> tuple[Any, torch.Tensor, torch.Tensor]:
    classifier, x = toys.whole(), toys.pictures(3, 0, toys.WHOLE)
    return classifier, x, registry.build_interpreter(name, classifier, options).explain(x, Y)


@pytest.mark.parametrize(("baseline", "level"), [("black", 0.0), ("grey", 0.5)])
def test_integrated_gradients_are_captums(baseline: str, level: float) -> None:
    classifier, x, got = case("ig", steps=8, baseline=baseline)
    library = IntegratedGradients(classifier.logits)
    wanted = library.attribute(x, baselines=level, target=Y, n_steps=8, method="riemann_middle")
    torch.testing.assert_close(got, pooled(wanted.sum(1).abs()), rtol=0, atol=1e-6)


def test_input_times_gradient_is_captums() -> None:
    classifier, x, got = case("inputxgrad")
    wanted = InputXGradient(classifier.logits).attribute(x.clone().requires_grad_(), target=Y)
    torch.testing.assert_close(got, pooled(wanted.sum(1).abs()), rtol=0, atol=1e-6)


def test_smoothgrad_is_the_mean_of_captums_gradients_at_the_same_noise() -> None:
    classifier, x, got = case("smoothgrad", n=3, sigma=0.2)
    saliency = Saliency(classifier.logits)
    noisy = [x + 0.2 * normal(generator(0, f"smoothgrad/{k}"), x) for k in range(3)]
    each = [saliency.attribute(one.requires_grad_(), target=Y, abs=False) for one in noisy]
    torch.testing.assert_close(got, pooled(torch.stack(each).mean(0).abs().amax(1)), rtol=0, atol=1e-6)


def test_the_noise_is_that_of_the_seed_for_every_picture() -> None:
    classifier, x = toys.whole(), toys.pictures(2, 0, toys.WHOLE)
    one, other = (SmoothGrad(classifier, seed=seed) for seed in (0, 1))
    noise, again, theirs = (i.points(x).at(x, 3) - x for i in (one, one, other))
    assert torch.equal(noise, again)
    torch.testing.assert_close(noise[0], noise[1], rtol=0, atol=1e-6)
    assert not torch.allclose(noise, theirs)
    guessed = one.guessed(x)
    assert not torch.allclose(guessed.at(x, 3) - x, noise)
    assert not torch.allclose(guessed.at(x, 3), guessed.at(x, 3))


def test_a_baseline_can_be_a_picture(tmp_path: Path) -> None:
    classifier, x = toys.whole(), toys.pictures(2, 0, toys.WHOLE)
    path = tmp_path / "grey.png"
    Image.fromarray(np.full((toys.WHOLE, toys.WHOLE, 3), 51, np.uint8)).save(path)
    one = registry.build_interpreter("ig", classifier, {"steps": 4, "baseline": str(path)})
    wanted = IntegratedGradients(classifier.logits).attribute(
        x, baselines=0.2, target=Y[:2], n_steps=4, method="riemann_middle"
    )
    torch.testing.assert_close(one.explain(x, Y[:2]), pooled(wanted.sum(1).abs()), rtol=0, atol=1e-6)
    assert len(one.digest.split()[-1]) == 64


def test_a_baseline_is_read_as_photos_are(tmp_path: Path) -> None:
    side = 32
    plain = np.random.default_rng(0).integers(256, size=(side, side, 3), dtype=np.uint8)
    clear = np.dstack([plain, np.zeros((side, side), np.uint8)])
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down
    Image.fromarray(plain).save(tmp_path / "plain.png")
    Image.fromarray(plain).save(tmp_path / "turned.png", exif=turned)
    Image.fromarray(clear).save(tmp_path / "clear.png")
    Image.fromarray(np.full((side, side), 51 * 257, np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.full((side, side), 0.2, np.float32)).save(tmp_path / "float.tiff")
    grey, white = np.full_like(plain, 51), np.full_like(plain, 255)
    wanted = {"plain.png": plain, "turned.png": plain[::-1, ::-1], "clear.png": white, "deep.png": grey}
    for name, levels in (wanted | {"float.tiff": grey}).items():
        start, digest = baseline_of(str(tmp_path / name), side)
        assert np.array_equal((start[0].permute(1, 2, 0) * 255).round().byte().numpy(), levels), name
        assert (len(digest) == 64) == (name == "plain.png")  # what was right keeps its key


def test_a_baseline_that_does_not_suit_is_refused(tmp_path: Path) -> None:
    classifier, path = toys.whole(), tmp_path / "small.png"
    Image.new("RGB", (20, 10)).save(path)
    (tmp_path / "torn.png").write_bytes(path.read_bytes()[:30])
    for baseline, error, word in (
        (str(path), MismatchError, "20×10"),
        ("blakc", UnknownNameError, "'black'"),
        (str(tmp_path / "none.png"), NotFoundError, "none.png"),
        (str(tmp_path / "torn.png"), UnderfireError, r"baseline for ig .*torn\.png"),
    ):
        with pytest.raises(error, match=word):
            registry.build_interpreter("ig", classifier, {"baseline": baseline})


@pytest.mark.parametrize(("name", "options"), [("ig", {"steps": 8}), ("inputxgrad", {}), ("smoothgrad", {"n": 8})])
def test_the_attack_brings_the_map_back(name: str, options: dict[str, Any]) -> None:
    x = toys.pictures(3, 0, toys.SMALL)
    one = registry.build_interpreter(name, toys.small(), options)
    assert distance(adv2.make("fast", name, 16), one, x) < 0.7 * distance(pgd.make("fast", None, 16), one, x)


@pytest.mark.parametrize(("name", "options"), [("ig", {"steps": 6}), ("smoothgrad", {"n": 6})])
def test_an_attacker_who_looks_at_all_of_the_victims_points_sees_the_victims_map(
    name: str, options: dict[str, Any]
) -> None:
    x = toys.pictures(2, 0, toys.SMALL)
    one: Any = registry.build_interpreter(name, toys.small(), options)
    goal = goal_of(one, x)
    wanted = one.explain(x, goal.labels)
    start = x.clone().requires_grad_()

    def shown(**more: Any) -> torch.Tensor:
        surrogate = one.surrogate(x, goal, draws=6, tau=1e-7, **more)
        found: torch.Tensor = surrogate.terms(start).twin.detach()
        return found

    torch.testing.assert_close(shown(), wanted, rtol=0, atol=1e-4)
    guessed = float((shown(known=False) - wanted).abs().amax())
    assert (guessed > 1e-2) == (name == "smoothgrad")


def test_the_latest_gradients_are_kept() -> None:
    x = toys.pictures(2, 0, toys.SMALL)
    one: Any = registry.build_interpreter("ig", toys.small(), {"steps": 8})
    surrogate = one.surrogate(x, goal_of(one, x), draws=2, memory=5)
    seen = []
    for _ in range(4):
        surrogate.terms(x.clone().requires_grad_())
        seen.append(list(surrogate.last))
    assert [len(kept) for kept in seen] == [2, 4, 5, 5]
    assert sorted({k for kept in seen for k in kept[-2:]}) == list(range(8))  # all points come in turn
    surrogate.select(torch.tensor([True, False]))
    assert {len(g) for g in surrogate.last.values()} == {1}
