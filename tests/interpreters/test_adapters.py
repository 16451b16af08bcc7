"""Explanations of Captum and grad-cam as judges."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from captum.attr import Saliency

from support import toys
from support.attacked import goal_of, pooled
from underfire import registry
from underfire.core import UnderfireError, UnknownNameError, UnsuitableError
from underfire.images import maps
from underfire.interpreters.checked import explain

Y = torch.tensor([2, 0, 1])


def made(name: str, **options: Any) -> tuple[Any, torch.Tensor]:
    return registry.build_interpreter(name, toys.whole(), options), toys.pictures(3, 0, toys.WHOLE)


def test_saliency_is_captums() -> None:
    one, x = made("captum:Saliency")
    wanted = Saliency(one.classifier.logits).attribute(x.clone().requires_grad_(), target=Y)
    torch.testing.assert_close(one.explain(x, Y), pooled(wanted.sum(1).abs()), rtol=0, atol=1e-9)
    assert (one.name, one.map_passes) == ("captum:Saliency", 3.0)


def test_the_same_map_comes_of_our_own_and_of_the_library() -> None:
    ours, x = made("ig", steps=8)
    library, _ = made("captum:IntegratedGradients", n_steps=8, method="riemann_middle")
    torch.testing.assert_close(library.explain(x, Y), ours.explain(x, Y), rtol=0, atol=1e-6)


def test_grad_cams_grad_cam_is_ours_enlarged() -> None:
    ours, x = made("gradcam")
    library, _ = made("grad-cam:GradCAM")
    small, none = explain(ours, x, Y)
    large, nothing = explain(library, x, Y)
    assert none.keys() == nothing.keys()
    for row in {0, 1, 2} - none.keys():
        same = maps.resize(small[row : row + 1], (24, 24))[0]
        assert torch.corrcoef(torch.stack([same.flatten(), large[row].flatten()]))[0, 1] > 0.95


@pytest.mark.parametrize(
    "name", ["captum:GradientShap", "captum:FeatureAblation", "captum:Occlusion", "grad-cam:EigenCAM"]
)
def test_a_map_is_a_function_of_the_image(name: str) -> None:
    one, x = made(name)
    both, alone = one.explain(x[:2], Y[:2]), one.explain(x[1:2], Y[1:2])
    state = torch.random.get_rng_state()
    torch.testing.assert_close(one.explain(x[:2], Y[:2]), both, rtol=0, atol=1e-9)
    torch.testing.assert_close(both[1:], alone, rtol=0, atol=1e-9)
    assert torch.equal(state, torch.random.get_rng_state())


def test_lists_as_yaml_gives_them_are_the_tuples_that_a_library_asks_for() -> None:
    (listed, x), (tupled, _) = (
        made("captum:Occlusion", strides=kind((3, 24, 24)), sliding_window_shapes=kind((3, 48, 48)))
        for kind in (list, tuple)
    )
    assert torch.equal(listed.explain(x, Y), tupled.explain(x, Y))
    assert listed.digest == tupled.digest


def test_what_a_library_asks_for_is_said_in_its_own_words() -> None:
    with pytest.raises(UnsuitableError, match=r"captum:NoiseTunnel.*does not explain 'whole'"):
        made("captum:NoiseTunnel")


@pytest.mark.parametrize(("name", "near"), [("captum:Salency", "Saliency"), ("grad-cam:GradCam", "GradCAM")])
def test_an_unknown_explanation_is_refused_with_the_nearest(name: str, near: str) -> None:
    with pytest.raises(UnknownNameError, match=f"Did you mean '{near}'"):
        made(name)


def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(UnderfireError, match=r"captum.*underfire\[explain\]"):
        made("captum:Saliency")


def test_a_judge_is_not_attacked() -> None:
    one, x = made("captum:Saliency")
    with pytest.raises(UnsuitableError, match="captum:Saliency"):
        one.surrogate(x, goal_of(one, x))
