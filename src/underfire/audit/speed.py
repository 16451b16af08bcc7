"""The precision and the batch size of an audit that leaves them open, measured on its own network and photos.

The precision is the fastest that agrees with float32. A step of the search is the sign of a gradient g. Along another
precision's signs s it goes down by ε Σ g·s of the ε Σ |g| that float32's own signs go down, so

    kept = Σ g · s / Σ |g|

is the share of the first-order descent that is kept. The signs of pixels with hardly any gradient weigh nothing in it.
It is measured at the start of the search, on prediction and map by themselves, and the losses are compared too. A map
has to be matched to the last decision about a pixel's level: where bfloat16 keeps less than nearly all of the descent,
a search against a map takes its last third in float32. What the limits come to in success and L1 is measured in
docs/speed.md.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

from underfire.audit.batch import dearest, measured_batch
from underfire.audit.steps import Step, Steps, TakenStep, first_photos
from underfire.core import FAILURES, Cell, UnderfireError
from underfire.core.precision import FULL, SETTLED, phases, searching
from underfire.executors.process import prepare
from underfire.plan.device import devices
from underfire.plan.make import make_plan
from underfire.plan.settings import Settings
from underfire.plan.units import Plan
from underfire.registry import VICTIMS
from underfire.trial.system import System

KEPT = 0.5
"""Share of the descent that must be kept."""
NEARLY_ALL = 0.9
"""Share of the descent of prediction and map from which on a map is searched for in bfloat16 to the end."""
ENOUGH = 0.3
"""Share of the descent that must be kept where a search ends in float32, which mends what bfloat16 has missed."""
GAIN = 1.25
"""Speed-up from which on another precision is worth it: less is the machine's mood."""
SAME, LITTLE = 0.99, 1.1
"""Share of the descent from which on another layout of float32 does the same, and the speed-up that it then needs."""
SHORTEST = 60.0
"""Seconds at most in float32 up to which an audit keeps what is usual: measuring would cost more than it saves."""
ROUNDS = 2
"""Times that each step is timed, after once that does not count: what is compiled is compiled then."""
CANDIDATES = ("bf16-last", "fp32-last")
"""What may be faster than float32; with the channels first, bfloat16 never was the fastest."""
SLOW = 2.0
"""A step that takes so many times as long as another is not timed again: some processors emulate bfloat16."""
OPEN = ("precision", "batch_size")
"""The settings that are measured where nobody says them."""


@dataclass(frozen=True)
class ChosenSpeed:
    """What was chosen for the search.

    Args:
        precision: as a plan has it; None: as the plan has it already.
        batch_size: likewise.
        facts: what was measured, and the reason, by name, as plan.yaml and the page show them.
    """

    precision: str | None = None
    batch_size: int | None = None
    facts: Mapping[str, str] = field(default_factory=dict)

    def only(self, names: frozenset[str]) -> ChosenSpeed:
        """Keep what was chosen of some settings, and what was measured for them."""
        own = {name: getattr(self, name) if name in names else None for name in OPEN}
        facts = {k: v for k, v in self.facts.items() if k != "batch" or "batch_size" in names}
        return replace(self, **own, facts=facts)


def plan_of(settings: Settings, stored: Settings | None) -> Plan:
    """Make the plan of an audit, and choose what is open and no earlier plan says."""
    plan = make_plan(settings, VICTIMS, stored)
    left = open_in(settings, stored)
    return with_speed(plan, choose([plan], left)) if left else plan


def open_in(settings: Settings, stored: Settings | None) -> frozenset[str]:
    """List what nobody has said yet, of `OPEN`."""
    plans = [settings] if stored is None else [settings, stored]
    return frozenset(name for name in OPEN if all(getattr(one, name) is None for one in plans))


def with_speed(plan: Plan, choice: ChosenSpeed) -> Plan:
    """Give the plan another precision and batch size; where they were measured, the plan says so."""
    own = {name: value for name in OPEN if (value := getattr(choice, name)) is not None}
    settings = plan.settings.model_copy(update=own)
    shown = {**plan.shown, "speed": dict(choice.facts)}
    size = settings.batch_size or 1
    lanes = tuple(replace(lane, batch=min(size, lane.largest(plan.unit_passes))) for lane in plan.lanes)
    job = replace(plan.job, precision=settings.precision or FULL)
    return replace(plan, settings=settings, job=job, shown=shown, lanes=lanes)


def choose(plans: Sequence[Plan], left: frozenset[str]) -> ChosenSpeed:
    """Choose what is open of audits of one classifier, which shall have the same.

    A classifier that cannot be asked here, or photos that cannot be read, keep what is usual: their errors come later.
    """
    job = plans[0].job
    if devices(plans[0].settings)[1] != job.device:
        return ChosenSpeed(facts={"why": "this machine has no such device to measure on"})
    prepare(job.threads)
    try:
        system = System.of_job(replace(job, interpreters=(), interpreter_options={}, cells=()))
        return _chosen(plans, left, Steps(system, first_photos(plans[0], system)))
    except (UnderfireError, *FAILURES):  # the audit meets it too, and says what it is
        return ChosenSpeed(facts={"why": "it could not be measured"})


def _chosen(plans: Sequence[Plan], left: frozenset[str], steps: Steps) -> ChosenSpeed:
    passes = sum(plan.image_passes * plan.attacked for plan in plans)
    whole = steps.take(steps.on_prediction(), FULL).seconds / (3 * len(steps.x)) * passes
    if whole < SHORTEST:
        return ChosenSpeed(facts={"why": f"float32 takes {whole:.0f} s at most: too little to measure for"})
    cells = [(plan, cell) for plan in plans for cell in plan.job.cells]
    facts: dict[str, str] = {}
    words = None
    if "precision" in left:
        words = Precisions(steps, facts).choice(cells)
    batch = None
    if "batch_size" in left:
        usual, most = dearest(cells)[0].settings.batch_size or 1, max(len(plan.photos) for plan in plans)
        if most < usual:
            facts["batch"] = f"{usual}: {most} at most share one, so none was measured"
        else:
            batch = measured_batch(steps, cells, words or plans[0].job.precision, whole)
            facts["batch"] = "it could not be measured" if batch is None else batch.said
    return ChosenSpeed(words, batch.size if batch else None, facts)


class Against(NamedTuple):
    """How many times as fast as float32 a precision is, and the share of float32's descent that it keeps."""

    gain: float
    kept: float

    def serves(self, word: str) -> bool:
        """Tell whether it is worth while, and good enough."""
        alike = word.startswith(FULL) and self.kept >= SAME
        return self.kept >= (ENOUGH if word == SETTLED else KEPT) and self.gain >= (LITTLE if alike else GAIN)


def _fastest(found: Mapping[str, Against]) -> str:
    """Find the fastest that serves; float32 where none does."""
    serving = {word: one.gain for word, one in found.items() if one.serves(word)}
    return max(serving, key=lambda word: serving[word], default=FULL)


def _settled(on_map: Mapping[str, Against], on_prediction: Mapping[str, Against]) -> dict[str, Against]:
    """Give what serves a search against a map: where bfloat16 keeps too little, one that ends in float32 instead."""
    found, half = dict(on_map), "bf16-last"
    if not on_map or min(on_map[half].kept, on_prediction[half].kept if on_prediction else 0.0) >= NEARLY_ALL:
        return found
    first, last = found.pop(half), found["fp32-last"]
    if first.gain and last.gain and last.kept >= SAME:
        time_of_both = sum(share / on_map[word].gain for word, share in phases(SETTLED))
        found[SETTLED] = Against(1 / time_of_both, first.kept)
    return found


class Precisions:
    """The choice of a precision.

    Args:
        steps: on the audits' photos.
        facts: what is measured is written into it.
    """

    def __init__(self, steps: Steps, facts: dict[str, str]) -> None:
        self.steps, self.facts = steps, facts

    def choice(self, cells: Sequence[tuple[Plan, Cell]]) -> str:
        """Choose for attacks on the prediction, then for those on each interpreter."""
        found = self._against_float32(self.steps.on_prediction, "prediction")
        usual, own = _fastest(found), {}
        for plan, cell in cells:
            if cell.against is not None and cell.against not in own:
                step = partial(self.steps.on_map, plan, cell)
                on_map = self._against_float32(step, cell.against)
                own[cell.against] = _fastest(_settled(on_map, found))
        self.facts["why"] = f"the fastest that keeps {KEPT:.0%} of the descent"
        if SETTLED in own.values():
            self.facts["why"] += f"; against a map {NEARLY_ALL:.0%}, or {ENOUGH:.0%} with the last third in float32"
        return ",".join([usual, *(f"{name}:{word}" for name, word in own.items() if word != usual)])

    def _against_float32(self, step: Callable[[], Step], name: str) -> dict[str, Against]:
        """Measure how fast a step is in each other precision, and how much of float32's descent that keeps."""
        taken = dict(self._measured(step, [FULL, *CANDIDATES]))
        if FULL not in taken:
            self.facts[name] = "float32 could not be measured"
            return {}
        full, found = taken.pop(FULL), {}
        for word in CANDIDATES:
            one = taken.get(word)
            found[word] = Against(full.seconds / one.seconds, full.kept(one)) if one else Against(0.0, 0.0)
            self.facts[f"{name}, {word}"] = (
                f"{found[word].gain:.2f} times as fast, {found[word].kept:.0%} of the descent"
            )
        return found

    def _measured(self, step: Callable[[], Step], words: Sequence[str]) -> Iterator[tuple[str, TakenStep]]:
        """Take the steps in turn, so that the machine's mood meets all of them; each one's fastest counts."""
        steps: dict[str, Step] = {}
        times: dict[str, list[TakenStep]] = {word: [] for word in words}
        for _ in range(ROUNDS + 1):
            for word, taken in times.items():
                others = [one[1].seconds for one in times.values() if len(one) > 1]
                slow = len(taken) > 1 and taken[1].seconds > SLOW * min(others)
                if slow and word != FULL:  # float32 is what the others are held against
                    continue
                with contextlib.suppress(*FAILURES, UnderfireError), searching(word):
                    if word not in steps:
                        steps[word] = step()
                    taken.append(self.steps.take(steps[word], word))
        for word, taken in times.items():
            if len(taken) == ROUNDS + 1:
                yield word, replace(taken[-1], seconds=min(one.seconds for one in taken[1:]))
