"""Check an interpreter: its maps, and what an attacker differentiates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from underfire.core import Classifier, Goal, Images, Interpreter, Labels, Maps, Surrogate, Terms
from underfire.heads import head_of
from underfire.testing.contract import SLACK, allowed, largest, pictures_for, require, spent

STEPS = {torch.float64: 1e-6, torch.float32: 1e-3}
"""Of the finite differences, in units of a pixel in [0, 1]: where rounding and curvature err least."""
CLOSE = {torch.float64: 1e-3, torch.float32: 0.05}
"""How far a slope may be from its finite difference, as a share of the batch's longest gradient."""

ESTIMATE = 0.1
"""How far, as a share, a map may stay below its `map_passes`: less was spent, or was not counted."""


def check_interpreter(
    interpreter: Interpreter,
    classifier: Classifier,
    x: Images | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    smooth: bool = True,
    tolerance: float | None = None,
) -> None:
    """Hold an interpreter against its protocol.

    Args:
        interpreter: one that is built for ``classifier``.
        classifier: what is explained; a small one with smooth activations says most in the shortest time.
        x: (N, 3, H, W) images in [0, 1], two or more; by default three soft random pictures in float32. In
            float64, with a classifier that is, an error of the gradient is found from a thousandth on, else from a
            twentieth.
        options: of the surrogate, as an attack's preset gives them.
        smooth: whether ℓ_int has the slope of its value. False for a surrogate that puts other slopes in its place, as
            GRAD's does where the network has kinks: then the gradient shall be finite and not zero.
        tolerance: how far numbers of one image may differ between batches; by default 1e-9 in float64, else 1e-4.

    Raises:
        ContractError: for the first rule that is broken: 'shape', 'type', 'range', 'repeat' and 'batch' for the maps;
            'logits', 'loss', 'shown', 'gradient' and 'select' for the surrogate; 'metered' and 'cost' for both.

    Example:
        >>> classifier = underfire.classifier("efficientnet-lite0")
        >>> check_interpreter(underfire.interpreter("cam", classifier), classifier)
    """
    x = pictures_for(classifier) if x is None else x
    order = classifier.logits(x).detach().argsort(1, descending=True)
    m = _check_maps(interpreter, classifier, x, order[:, 1], tolerance)
    goal = Goal(order[:, 1], order[:, 0], {interpreter.name: interpreter.explain(x, order[:, 0]).detach()})
    near = (x + 0.02 * (x.flip(3) - 0.5)).clamp(0, 1)
    case = Case(interpreter, classifier, x, goal, near, dict(options or {}), allowed(m, tolerance))
    _check_terms(case)
    _check_gradient(case, smooth)
    _check_select(case)
    _check_step(case)


def _check_maps(
    interpreter: Interpreter, classifier: Classifier, x: Images, y: Labels, tolerance: float | None
) -> Maps:
    """Check maps (N, h, w) of ``x`` for classes ``y``, and give them."""
    name, found = interpreter.name, []
    passes = spent(name, classifier, len(x), lambda: found.append(interpreter.explain(x, y)))
    m = found[0]
    cost = f"a map took {passes:g} F, and map_passes says {interpreter.map_passes:g}"
    require(m.dim() == 3 and len(m) == len(x), name, "shape", f"{len(x)} images have maps {tuple(m.shape)}")
    is_plain = m.is_floating_point() and not m.requires_grad
    require(is_plain, name, "type", f"its maps are {m.dtype}, with a graph: {m.requires_grad}")
    low, high = float(m.min()), float(m.max())
    require(low >= -SLACK and high <= 1 + SLACK, name, "range", f"its maps go from {low:g} to {high:g}, not 0 to 1")
    again = largest(interpreter.explain(x, y) - m)
    require(again == 0, name, "repeat", f"asked twice, its maps differ by {again:g}")
    alone = torch.cat([interpreter.explain(x[n : n + 1], y[n : n + 1]) for n in range(len(x))])
    apart, most = largest(alone - m), allowed(m, tolerance)
    require(apart <= most, name, "batch", f"alone and in a batch, a map differs by {apart:g}; {most:g} is allowed")
    as_told = (1 - ESTIMATE) * interpreter.map_passes <= passes <= interpreter.map_passes * (1 + SLACK)
    require(as_told, name, "cost", cost)
    return m


@dataclass(frozen=True)
class Case:
    """One interpreter under a check.

    Args:
        interpreter: who is checked.
        classifier: what is explained.
        x: clean images, where the surrogates start.
        goal: the runner-up classes, and the maps for the predictions.
        near: images a little away from ``x``, where the surrogates are asked.
        options: of the surrogate.
        tolerance: between batches.
    """

    interpreter: Interpreter
    classifier: Classifier
    x: Images
    goal: Goal
    near: Images
    options: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-4

    @property
    def name(self) -> str:
        """The interpreter's."""
        return self.interpreter.name

    def fresh(self) -> Surrogate:
        """Make a surrogate that nobody has asked yet: some answer from an inner state that each look moves."""
        return self.interpreter.surrogate(self.x, self.goal, **self.options)

    def terms(self, v: Images) -> Terms:
        """Ask a fresh surrogate."""
        return self.fresh().terms(_leaf(v))


def _leaf(v: Images) -> Images:
    return v.detach().clone().requires_grad_()


def _check_terms(case: Case) -> None:
    name, n = case.name, len(case.x)
    surrogate = case.fresh()
    shows = surrogate.shows
    terms = surrogate.terms(_leaf(case.near))
    wrong = largest(terms.logits - case.classifier.logits(case.near))
    size = largest(terms.logits)
    require(wrong <= 1e-4 * size, name, "logits", f"its logits are {wrong:g} away from the classifier's, of {size:g}")
    require(terms.loss.shape == (n,), name, "loss", f"ℓ_int of {n} images has the shape {tuple(terms.loss.shape)}")
    require(bool(terms.loss.isfinite().all()), name, "loss", f"ℓ_int is {terms.loss.tolist()}")
    require(not shows or terms.maps is not None, name, "shown", "it says that it shows the real maps, and gives none")
    if terms.maps is not None:
        apart = largest(terms.maps - case.interpreter.explain(case.near, case.goal.labels))
        found = f"the maps that it shows are {apart:g} away from the interpreter's own"
        require(apart <= max(case.tolerance, 1e-6), name, "shown", found)


def _check_gradient(case: Case, smooth: bool) -> None:
    """Hold the slope of ℓ_int along a random direction against the difference of two values."""
    leaf = _leaf(case.near)
    loss = case.fresh().terms(leaf).loss
    (gradient,) = torch.autograd.grad(loss.sum(), leaf)
    usable = bool(gradient.isfinite().all()) and bool(gradient.any())
    require(usable, case.name, "gradient", "the gradient of ℓ_int is zero everywhere, or not finite")
    if not smooth:
        return
    step = STEPS[loss.dtype]
    direction = torch.randn(leaf.shape, dtype=leaf.dtype, generator=torch.Generator().manual_seed(5)).to(leaf)
    up, down = (case.terms(case.near + sign * step * direction).loss.detach() for sign in (1, -1))
    wanted, told = (up - down) / (2 * step), (gradient * direction).sum((1, 2, 3))
    close = CLOSE[loss.dtype] * float(gradient.flatten(1).norm(dim=1).max())
    found = f"ℓ_int has the slopes {_short(told)}, and finite differences say {_short(wanted)}"
    require(largest(told - wanted) <= close, case.name, "gradient", found)


def _short(values: Tensor) -> str:
    return ", ".join(f"{v:.3g}" for v in values.tolist())


def _check_select(case: Case) -> None:
    """Compare a surrogate that keeps some rows after a step with one that keeps all."""
    keep = torch.arange(len(case.x), device=case.x.device) != 0
    whole, part = case.fresh(), case.fresh()
    for surrogate in (whole, part):
        surrogate.terms(_leaf(case.near))
        surrogate.advance(case.near, 0.5)
    part.select(keep)
    kept, all_of = part.terms(_leaf(case.near[keep])), whole.terms(_leaf(case.near))
    require(
        len(kept.loss) == int(keep.sum()), case.name, "select", f"of {int(keep.sum())} rows it has {len(kept.loss)}"
    )
    size = max(1.0, largest(all_of.loss))
    apart = largest(kept.loss - all_of.loss[keep]) / size
    found = f"with the other rows gone, ℓ_int of the rows kept differs by {apart:g}"
    require(apart <= case.tolerance, case.name, "select", found)


def _check_step(case: Case) -> None:
    """Meter a step on prediction and map that is not the first: some look at a whole map there."""
    surrogate = case.fresh()
    surrogate.terms(_leaf(case.near))

    def step() -> None:
        leaf = _leaf(case.near)
        terms = surrogate.terms(leaf)
        prediction = head_of(case.classifier).loss(terms.logits, case.goal.labels, case.goal.source)
        torch.autograd.grad(prediction.mean() + terms.loss.sum(), leaf)

    passes, most = spent(case.name, case.classifier, len(case.x), step), case.interpreter.step_passes
    require(passes <= most * (1 + SLACK), case.name, "cost", f"a step took {passes:g} F, and step_passes says {most:g}")
