"""One call of `underfire.attack`: its arguments become a trial, and what comes of it a result."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from underfire import registry
from underfire.core import LEVELS, Cell, ClassifierOptions, Interpreter, Job, Photo, TargetMap, UnderfireError
from underfire.core.naming import DEMO
from underfire.core.precision import FULL, named_in
from underfire.core.watch import Watcher
from underfire.doors.platforms import habits
from underfire.images import pixels, targets
from underfire.images.saving import check_format
from underfire.metrics.verdict import Ruler
from underfire.notebook.progress import StepBar, someone_looks
from underfire.notebook.result import Result
from underfire.plan.attacks import attack_of, check_surrogate, is_searched, taken
from underfire.plan.cost import UNIT_IMAGES, batch_that_fits, by_device
from underfire.plan.files import FILE, INPUT, refuse_unable
from underfire.plan.settings import Settings
from underfire.plan.targets import class_of, refuse_own, target_map_of
from underfire.plan.values import is_smallest
from underfire.trial.given import load_given
from underfire.trial.load import Loaded, load
from underfire.trial.rulers import packaged_here, rulers_here
from underfire.trial.system import System
from underfire.trial.trial import Trial


def searched(**budget: Any) -> Any:
    """Read a budget that may be 'smallest'; others are left to whoever takes them."""
    ((name, value),) = budget.items()
    return getattr(Settings.parse({"images": DEMO, name: value}), name) if isinstance(value, str) else value


@dataclass(frozen=True)
class Wish:
    """The arguments of `underfire.attack` that say what the attack shall do."""

    attack: str
    preset: str
    eps: Any
    target: str | int
    target_map: str
    seed: int
    options: Mapping[str, Any]
    by_name: bool = True  # so the interpreter has its default settings
    at: Literal["file", "input"] | None = None
    save_as: str = "png"
    through: str = ""
    progress: bool | Watcher | None = None
    precision: str = FULL

    def __post_init__(self) -> None:
        if Settings.parse({"images": DEMO, "precision": self.precision}).precision is None:
            raise UnderfireError(
                f"precision={self.precision!r} is measured where an audit is planned: name one, as 'bf16-last'."
            )
        check_format(self.save_as)
        habits(self.through)
        if self.at not in (None, FILE, INPUT):
            raise UnderfireError(f"at='{self.at}': give 'file' or 'input'.")
        if self.progress is not None and not isinstance(self.progress, bool) and not hasattr(self.progress, "see"):
            raise UnderfireError(f"progress={self.progress!r}: give True, False or a watcher, which has `see`.")
        if isinstance(self.eps, bool) or not isinstance(self.eps, int) or not 1 <= self.eps <= LEVELS:
            raise UnderfireError(f"eps={self.eps}: the budget must be a whole number of levels, from 1 to {LEVELS}.")


def run_wish(system: System, images: Any, wish: Wish) -> Result:
    """Attack images with one interpreter; arguments and errors as in `underfire.attack`."""
    classifier, (judge,) = system.classifier, system.interpreters.values()
    for name in named_in(wish.precision):
        if name != judge.name:
            registry.maker("interpreters", name)  # a name with a mistake would have no precision of its own
    wanted = target_map_of(wish.target_map, classifier)
    refuse_own([str(wish.target)], [wish.attack])
    cell = _cell(wish, judge, wanted)
    loaded = load_given(images, system, None if wish.at == INPUT else wish.save_as)
    if wish.at == FILE and loaded.rows and not loaded.files:
        raise UnderfireError("at='file': a tensor is no file. Give paths, arrays or Pillow images, or at='input'.")
    if loaded.files:
        refuse_unable(cell)
    job = _job(system, cell, wish, wanted, FILE if loaded.files else INPUT)
    if cell.smallest and cell.against:
        job = replace(job, rulers=packaged_here(system, judge, wish.by_name))
    references, given = _references(wanted, wish.seed, loaded, system), len(loaded.given)
    trials = []
    for start, stop in _batches(given, system, judge):
        part = loaded.part(start, stop)
        with ExitStack() as stack:
            name = f"{wish.attack} on {judge.name}" + (
                f", {start + 1} to {stop} of {given}" if part.given != loaded.given else ""
            )
            watched = replace(system, watcher=_watcher(wish, name, len(part.rows), stack))
            trial = Trial(watched, job, "notebook", part, references and references.part(start, stop))
            trial.run()
        trials.append(trial)
    return _result(trials, judge, system, rulers_here(system, judge, trials, wish.by_name))


def _batches(n: int, system: System, judge: Interpreter) -> list[tuple[int, int]]:
    """Cut many images into batches of about one size, which fit the memory: first and behind the last of each."""
    size = int(by_device(UNIT_IMAGES, system.device))
    if n > size:  # a few are known to fit, and need no look
        size = min(size, batch_that_fits(system.classifier, system.device, 1, judge.step_passes))
    count = -(-n // size)
    ends = [i * n // count for i in range(count + 1)]
    return list(itertools.pairwise(ends))


def _watcher(wish: Wish, name: str, n: int, stack: ExitStack) -> Watcher | None:
    """Choose who watches the search: the user's own watcher, a bar, or nobody."""
    if not isinstance(wish.progress, bool | None):
        return wish.progress
    if not (someone_looks() if wish.progress is None else wish.progress):
        return None
    return stack.enter_context(StepBar(name, n))


def _cell(wish: Wish, judge: Interpreter, wanted: TargetMap) -> Cell:
    maker: Any = registry.maker("attacks", wish.attack)
    against = judge.name if maker.fools_interpreter else None
    check_surrogate(wish.attack, wish.options, [judge])
    own, options = taken(maker, drawn=wanted.drawn), dict(wish.options)
    shift = searched(max_shift=options["max_shift"]) if "max_shift" in options else 0.0
    if is_smallest(shift):
        options["max_shift"] = float(shift)
    made = attack_of(wish.attack, wish.preset, against, int(wish.eps), own, options)
    return Cell(made, against, is_searched(made, wish.eps, shift))


def _job(system: System, cell: Cell, wish: Wish, wanted: TargetMap, at: str) -> Job:
    return Job(
        source="",
        classifier=system.classifier.name,
        options=ClassifierOptions(),
        interpreters=tuple(system.interpreters),
        interpreter_options={},
        cells=(cell,),
        preset=wish.preset,
        eps=int(wish.eps),
        target=class_of(str(wish.target), system.classifier),
        target_map=wanted,
        seed=wish.seed,
        threads=torch.get_num_threads(),
        precision=wish.precision,
        device=system.device,
        at=at,
        save_as=wish.save_as,
        through=wish.through if at == FILE else "",
    )


def _references(wanted: TargetMap, seed: int, loaded: Loaded, system: System) -> Loaded | None:
    """Load the photos whose maps are the target maps, in the rows of the photos that want them; None without any."""
    if wanted.kind != "image":
        return None
    if wanted.value != "random":
        photo, content = Photo(str(wanted.value), wanted.digest), Path(str(wanted.value)).read_bytes()
        return load([photo] * len(loaded.given), lambda _: content, system.door, system.classifier.preprocess)
    index = {photo: n for n, photo in enumerate(loaded.photos)}
    drawn = [targets.draw_photo(seed, p, list(index)) if p in index else p for p in loaded.given]
    shown = [index[drawn[row]] for row in loaded.rows]
    return Loaded(tuple(drawn), loaded.first, loaded.rows, loaded.levels[shown], loaded.errors)


def _result(trials: Sequence[Trial], judge: Interpreter, system: System, rulers: Mapping[str, Ruler]) -> Result:
    records = [record for trial in trials for record in trial.records]
    seen = [(forged, judged) for trial in trials for forged, judged in trial.seen if len(judged.clean)]
    if not seen:
        raise UnderfireError(f"None of the images could be attacked: {records[0].error}")
    return Result(
        clean=torch.cat([judged.clean.x for _, judged in seen]),
        images=torch.cat([pixels.to_tensor(forged.levels) for forged, _ in seen]).to(system.device),
        clean_maps=torch.cat([judged.clean.goals[judge.name].benign for _, judged in seen]).float(),
        maps=torch.cat([judged.maps for _, judged in seen]).float(),
        records=records,
        rulers=rulers,
        files=tuple(file for forged, _ in seen for file in forged.files),
    )
