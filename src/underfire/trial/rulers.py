"""What the maps of images given in Python are judged with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from underfire.core import Interpreter
from underfire.metrics import packaged
from underfire.metrics.verdict import Named, Ruler
from underfire.metrics.yardstick import FEWEST
from underfire.store.yardsticks import NAME_LENGTH, of_scale, pgd_of
from underfire.trial.system import System
from underfire.trial.trial import Trial
from underfire.trial.yardstick import measure_scale


def packaged_here(system: System, judge: Interpreter, plain: bool) -> dict[str, Ruler]:
    """Find the packaged yardstick of an interpreter; empty where there is none. Arguments as of `rulers_here`."""
    known = packaged.fitting(system.classifier.digest, judge.name, judge.digest, {}) if plain else None
    return {} if known is None else {judge.name: Named(known.yardstick, known.digest[:NAME_LENGTH], known.exact)}


def rulers_here(system: System, judge: Interpreter, trials: Sequence[Trial], plain: bool) -> dict[str, Ruler]:
    """Find the packaged yardstick of an interpreter, or make one from the images that were given.

    Args:
        system: the classifier.
        judge: the interpreter.
        trials: the images, attacked, batch by batch.
        plain: whether the interpreter has its default settings, which a packaged yardstick is for.

    Returns:
        Interpreter -> what its maps are judged with; empty where there are too few images.
    """
    if known := packaged_here(system, judge, plain):
        return known
    if sum(len(trial.loaded.rows) for trial in trials) < FEWEST:
        return {}
    pgd = pgd_of((asdict(record) for trial in trials for record in trial.records), judge.name)
    scale = measure_scale(system, [trial.loaded for trial in trials], trials[0].job.seed)
    own = of_scale([asdict(row) for row in scale], pgd)
    return {} if own is None else {judge.name: own}
