"""Single steps of a search, taken and timed on an audit's own network and photos before it begins."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from underfire.core import Cell, Goal, Images, PerImage, UnderfireError
from underfire.core.precision import judging, searching
from underfire.heads import head_of
from underfire.images import pixels
from underfire.images.photos import Folder, planned
from underfire.plan.units import Plan
from underfire.registry import VICTIMS
from underfire.trial.load import load
from underfire.trial.system import System

LOSS = 0.05
"""Difference of two losses at most, as a share of float32's and 0.1, where they count as the same."""
PHOTOS = 2
"""Photos that are asked."""
COSTLY = 50.0
"""F of a map from which on it is asked for only where the surrogate needs one to start, and of one photo."""

Step = Callable[[Images], PerImage]
"""Pixels -> loss; one step of a search is its gradient."""


def first_photos(plan: Plan, system: System) -> Images:
    """Load the first photos that can be read; on a GPU again and again, as many as a batch has.

    Raises:
        UnderfireError: none of them can be read.
    """
    job = plan.job
    content = partial(planned, Folder(job.source, job.limits))
    loaded = load(plan.photos[:PHOTOS], content, system.door, system.classifier.preprocess, 0, job.limits)
    if not len(loaded.levels):
        raise UnderfireError("No photo can be read.")
    x = pixels.to_tensor(loaded.levels).to(job.device)
    return x if job.device == "cpu" else repeated(x, max(lane.batch for lane in plan.lanes))


def repeated(x: Images, n: int) -> Images:
    """Repeat images until there are ``n``."""
    return x.repeat(-(-n // len(x)), 1, 1, 1)[:n]


@dataclass(frozen=True)
class TakenStep:
    """What a step has come to: seconds, loss (N,) and gradient (N, C, H, W)."""

    seconds: float
    loss: PerImage
    gradient: Tensor

    def kept(self, other: TakenStep) -> float:
        """Compute the share of this step's descent that another one's signs keep, on the worst image; 0 to 1."""
        g, s = self.gradient.double(), other.gradient.sign().double()
        if not bool(s.isfinite().all()) or not bool((self.loss - other.loss).abs().le(self._slack).all()):
            return 0.0
        down, all_of_it = (g * s).flatten(1).sum(1), g.abs().flatten(1).sum(1)
        return float((down / all_of_it.clamp_min(1e-300)).min().clamp_min(0))

    @property
    def _slack(self) -> Tensor:
        return LOSS * self.loss.abs() + LOSS * 2


class Steps:
    """The steps of attacks on some images, which want the runner-up's class.

    Args:
        system: the classifier.
        x: the images (N, C, H, W) in [0, 1], on its device.
    """

    def __init__(self, system: System, x: Images) -> None:
        self.system, self.x = system, x
        with torch.no_grad():
            top = system.classifier.logits(x).topk(2).indices
        self.source, self.aim = top[:, 0], top[:, 1]

    def own_time(self) -> float:
        """Read a clock; on a CPU that of this process, so that others on the machine do not count."""
        own = self.system.device == "cpu"
        return time.process_time() / torch.get_num_threads() if own else time.perf_counter()

    def take(self, step: Step, word: str, clock: Callable[[], float] | None = None) -> TakenStep:
        """Take a step in a precision; by default `own_time` is the clock."""
        clock = clock or self.own_time
        start = clock()
        with searching(word), torch.enable_grad():
            leaf = self.x.clone().requires_grad_()
            loss = step(leaf)
            gradient = torch.autograd.grad(loss.sum(), leaf)[0]
        loss = loss.detach().cpu().double()  # on a GPU this waits for it
        return TakenStep(clock() - start, loss, gradient)

    def step_of(self, plan: Plan, cell: Cell) -> Step:
        """Make the step of an attack: that on the map, where it attacks one."""
        return self.on_prediction() if cell.against is None else self.on_map(plan, cell)

    def on_prediction(self) -> Step:
        """Make the step on the prediction alone."""
        classifier = self.system.classifier
        head = head_of(classifier)
        return lambda x: head.loss(classifier.logits(x), self.aim, self.source)

    def on_map(self, plan: Plan, cell: Cell) -> Step:
        """Make the step on the map alone, with the attack's own surrogate, made as cheap as the interpreter can."""
        name, classifier = str(cell.against), self.system.classifier
        interpreter = VICTIMS.interpreter(classifier, name, plan.job.interpreter_options.get(name, {}))
        objective: Any = getattr(cell.attack, "objective", None)
        options = {**dict(getattr(objective, "surrogate", ())), **getattr(interpreter, "quick", {})}
        maps = {}
        if interpreter.map_passes <= COSTLY:
            with judging():
                maps = {name: interpreter.explain(self.x, self.source)}
        elif options.get("kind") == "map":  # any map will do to time a step towards it
            with judging():
                maps = {name: interpreter.explain(self.x[:1], self.source[:1]).expand(len(self.x), -1, -1)}
        surrogate = interpreter.surrogate(self.x, Goal(self.aim, self.source, maps), **options)
        return lambda x: surrogate.terms(x).loss
