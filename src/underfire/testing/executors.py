"""Check an executor: every unit comes back once, with its own outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from underfire.core import ClassifierOptions, Executor, ForgeUnit, Job, Outcome, Photo, Unit
from underfire.testing.contract import require

UNITS = 20
ROUNDS = 2
"""So often `map` is called: workers stay from one call to the next."""


def check_executor(executor: Executor) -> None:
    """Hold an executor against its protocol, with work that takes no time and needs no classifier.

    Args:
        executor: closed afterwards by whoever made it.

    Raises:
        ContractError: for the first rule that is broken: 'lazy' (`map` draws units as workers become free), 'once' or
            'error'.

    Example:
        >>> with contextlib.closing(MyExecutor(Workplace(workers=2))) as executor:
        ...     check_executor(executor)
    """
    name = type(executor).__name__
    for _ in range(ROUNDS):
        drawn: list[str] = []
        outcomes: list[Outcome] = []
        for outcome in executor.map(Outcome, _units(drawn)):
            if not outcomes:
                told = f"it took all {UNITS} units before it gave the first outcome"
                require(len(drawn) < UNITS, name, "lazy", told)
            outcomes.append(outcome)
        require(len(drawn) == UNITS, name, "once", f"it ended after it had drawn {len(drawn)} of {UNITS} units")
        times = Counter(outcome.unit.name for outcome in outcomes)
        wrong = {unit: times[unit] for unit in [*drawn, *times] if times[unit] != 1 or unit not in drawn}
        require(not wrong, name, "once", f"these units came back so many times: {wrong}")
        bad = [outcome for outcome in outcomes if outcome.error is not None]
        require(not bad, name, "error", f"work that cannot fail came back with an error: {bad[0].error if bad else ''}")


def _units(drawn: list[str]) -> Iterator[Unit]:
    """Give the units, and note which of them were drawn."""
    job = Job("", "none", ClassifierOptions(), (), {}, (), "fast", 8, "random", 0, 1, "fp32", "cpu")
    for i in range(UNITS):
        drawn.append(f"{i:06d}")
        yield ForgeUnit(f"{i:06d}", (Photo(f"{i}.png", str(i)),), job, 1)
