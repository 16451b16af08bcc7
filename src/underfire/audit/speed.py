"""The precision of an audit that leaves it open: the fastest that agrees with float32, on its own network and photos.

A step of the search is the sign of a gradient g. Along another precision's signs s it goes down by ε Σ g·s of the
ε Σ |g| that float32's own signs go down, so

    kept = Σ g · s / Σ |g|

is the share of the first-order descent that is kept. The signs of pixels with hardly any gradient weigh nothing in it.
It is measured at the start of the search, on prediction and map by themselves, and the losses are compared too. What
the limit of one half comes to in success and L1 is measured in docs/speed.md.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from underfire.core import FAILURES, Cell, Goal, Images, PerImage, UnderfireError
from underfire.core.precision import FULL, judging, searching
from underfire.executors.process import prepare
from underfire.heads import head_of
from underfire.images import pixels
from underfire.images.photos import Folder, planned
from underfire.plan.device import devices
from underfire.plan.make import make_plan
from underfire.plan.settings import Settings
from underfire.plan.units import Plan
from underfire.registry import VICTIMS
from underfire.trial.load import load
from underfire.trial.system import System

KEPT, LOSS = 0.5, 0.05
"""Share of the descent that must be kept, and difference of the losses at most, as a share of float32's and 0.1."""
GAIN = 1.25
"""Speed-up from which on another precision is worth it: less is the machine's mood."""
SAME, LITTLE = 0.99, 1.1
"""Share of the descent from which on another layout of float32 does the same, and the speed-up that it then needs."""
SHORTEST = 60.0
"""Seconds at most in float32 up to which an audit keeps it: measuring would cost more than it saves."""
PHOTOS, ROUNDS = 2, 2
"""Photos that are asked, and times that each step is timed, after once that does not count."""
CANDIDATES = ("bf16-last", "fp32-last")
"""What may be faster than float32; with the channels first, bfloat16 never was the fastest."""
SLOW = 2.0
"""A first step that takes so many times as long as another is not repeated: some processors emulate bfloat16."""
COSTLY = 50.0
"""F of a map from which on it is not asked for: the surrogates of such interpreters need none to start."""

Step = Callable[[Images], PerImage]


@dataclass(frozen=True)
class ChosenPrecision:
    """The precision of a search.

    Args:
        words: as a plan has it.
        facts: what was measured, and the reason, by name, as plan.yaml and the page show them.
    """

    words: str = FULL
    facts: Mapping[str, str] = field(default_factory=dict)


def plan_of(settings: Settings, stored: Settings | None) -> Plan:
    """Make the plan of an audit, and choose its precision where that is open and no earlier plan says it."""
    plan = make_plan(settings, VICTIMS, stored)
    return with_precision(plan, choose([plan])) if is_open(settings, stored) else plan


def is_open(settings: Settings, stored: Settings | None) -> bool:
    """Tell whether nobody has said the precision yet."""
    return settings.precision is None and (stored is None or stored.precision is None)


def with_precision(plan: Plan, choice: ChosenPrecision) -> Plan:
    """Give the plan another precision; where it was measured, the plan says so."""
    settings = plan.settings.model_copy(update={"precision": choice.words})
    shown = {**plan.shown, "speed": dict(choice.facts)}
    return replace(plan, settings=settings, job=replace(plan.job, precision=choice.words), shown=shown)


def choose(plans: Sequence[Plan]) -> ChosenPrecision:
    """Choose the precision of audits of one classifier, which shall have the same.

    A classifier that cannot be asked here, or photos that cannot be read, keep float32: their errors come later.
    """
    job = plans[0].job
    if devices(plans[0].settings)[1] != job.device:
        return ChosenPrecision(facts={"why": "this machine has no such device to measure on"})
    prepare(job.threads)
    try:
        system = System.of_job(replace(job, interpreters=(), interpreter_options={}, cells=()))
        x = _photos(plans[0], system)
        passes = sum(plan.image_passes * plan.attacked for plan in plans)
        return _Timing(system, x, passes).choice([(plan, cell) for plan in plans for cell in plan.job.cells])
    except (UnderfireError, *FAILURES):  # the audit meets it too, and says what it is
        return ChosenPrecision(facts={"why": "it could not be measured"})


def _photos(plan: Plan, system: System) -> Images:
    """Load the first photos that can be read; on a GPU again and again, as many as a batch has."""
    job = plan.job
    content = partial(planned, Folder(job.source, job.limits))
    loaded = load(plan.photos[:PHOTOS], content, system.door, system.classifier.preprocess, 0, job.limits)
    if not len(loaded.levels):
        raise UnderfireError("No photo can be read.")
    x = pixels.to_tensor(loaded.levels).to(job.device)
    return x if job.device == "cpu" else x.repeat(-(-max(lane.batch for lane in plan.lanes) // len(x)), 1, 1, 1)


@dataclass(frozen=True)
class _Step:
    """What a step has come to: seconds, loss (N,) and gradient (N, C, H, W)."""

    seconds: float
    loss: PerImage
    gradient: Tensor

    def kept(self, other: _Step) -> float:
        """Compute the share of this step's descent that another one's signs keep, on the worst image; 0 to 1."""
        g, s = self.gradient.double(), other.gradient.sign().double()
        if not bool(s.isfinite().all()) or not bool((self.loss - other.loss).abs().le(self._slack).all()):
            return 0.0
        down, all_of_it = (g * s).flatten(1).sum(1), g.abs().flatten(1).sum(1)
        return float((down / all_of_it.clamp_min(1e-300)).min().clamp_min(0))

    @property
    def _slack(self) -> Tensor:
        return LOSS * self.loss.abs() + LOSS * 2


class _Timing:
    def __init__(self, system: System, x: Images, passes: float) -> None:
        self.system, self.x, self.passes = system, x, passes
        self.facts: dict[str, str] = {}
        with torch.no_grad():
            top = system.classifier.logits(x).topk(2).indices
        self.source, self.aim = top[:, 0], top[:, 1]

    def choice(self, cells: Sequence[tuple[Plan, Cell]]) -> ChosenPrecision:
        """Choose for attacks on the prediction, then for those on each interpreter."""
        step = self._on_prediction
        full = self._asked(step(), FULL)
        seconds = full.seconds / (3 * len(self.x)) * self.passes
        if seconds < SHORTEST:
            return ChosenPrecision(facts={"why": f"float32 takes {seconds:.0f} s at most: too little to measure for"})
        usual = self._best(step, "prediction", CANDIDATES)
        own = {}
        for plan, cell in cells:
            if cell.against is not None and cell.against not in own:
                step = partial(self._on_map, plan, cell)
                own[cell.against] = self._best(step, cell.against, [usual] if usual != FULL else [])
        words = ",".join([usual, *(f"{name}:{word}" for name, word in own.items() if word != usual)])
        return ChosenPrecision(words, {**self.facts, "why": f"the fastest that keeps {KEPT:.0%} of the descent"})

    def _best(self, step: Callable[[], Step], name: str, words: Sequence[str]) -> str:
        """Find the fastest of some precisions that agrees, float32 where none gains."""
        if not words:
            return FULL
        found = dict(self._measured(step, [FULL, *words]))
        best, gained = FULL, 1.0
        if FULL not in found:
            self.facts[name] = "float32 could not be measured"
            return FULL
        for word in words:
            kept = found[FULL].kept(found[word]) if word in found else 0.0
            gain = found[FULL].seconds / found[word].seconds if word in found else 0.0
            self.facts[f"{name}, {word}"] = f"{gain:.2f} times as fast, {kept:.0%} of the descent"
            if kept >= KEPT and gain >= (LITTLE if word.startswith(FULL) and kept >= SAME else GAIN) and gain > gained:
                best, gained = word, gain
        return best

    def _measured(self, step: Callable[[], Step], words: Sequence[str]) -> Iterator[tuple[str, _Step]]:
        """Take the steps in turn, so that the machine's mood meets all of them; each one's fastest counts."""
        steps: dict[str, Step] = {}
        times: dict[str, list[_Step]] = {word: [] for word in words}
        for count in range(ROUNDS + 1):
            for word, taken in times.items():
                slow = taken and taken[0].seconds > SLOW * min(one[0].seconds for one in times.values() if one)
                if count and slow and word != FULL:  # float32 is what the others are held against
                    continue
                with contextlib.suppress(*FAILURES, UnderfireError), searching(word):
                    if word not in steps:
                        steps[word] = step()
                    taken.append(self._asked(steps[word], word))
        for word, taken in times.items():
            if len(taken) == ROUNDS + 1:
                yield word, replace(taken[-1], seconds=min(one.seconds for one in taken[1:]))

    def _asked(self, step: Step, word: str) -> _Step:
        start = self._clock()
        with searching(word), torch.enable_grad():
            leaf = self.x.clone().requires_grad_()
            loss = step(leaf)
            gradient = torch.autograd.grad(loss.sum(), leaf)[0]
        loss = loss.detach().cpu().double()  # on a GPU this waits for it
        return _Step(self._clock() - start, loss, gradient)

    def _clock(self) -> float:
        """Read a clock; on a CPU that of this process, so that others on the machine do not count."""
        own = self.system.device == "cpu"
        return time.process_time() / torch.get_num_threads() if own else time.perf_counter()

    def _on_prediction(self) -> Step:
        classifier = self.system.classifier
        head = head_of(classifier)
        return lambda x: head.loss(classifier.logits(x), self.aim, self.source)

    def _on_map(self, plan: Plan, cell: Cell) -> Step:
        """Make the step on the map alone, with the attack's own surrogate, made as cheap as the interpreter can."""
        name, classifier = str(cell.against), self.system.classifier
        interpreter = VICTIMS.interpreter(classifier, name, plan.job.interpreter_options.get(name, {}))
        objective: Any = getattr(cell.attack, "objective", None)
        options = {**dict(getattr(objective, "surrogate", ())), **getattr(interpreter, "quick", {})}
        maps = {}
        if interpreter.map_passes <= COSTLY:
            with judging():
                maps = {name: interpreter.explain(self.x, self.source)}
        surrogate = interpreter.surrogate(self.x, Goal(self.aim, self.source, maps), **options)
        return lambda x: surrogate.terms(x).loss
