"""The yardsticks of a plan: those that the user names, and packaged ones that fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from underfire import core
from underfire.core import Cell, Classifier, Interpreter, UnderfireError
from underfire.metrics import packaged
from underfire.metrics.verdict import Named, Ruler
from underfire.metrics.yardstick_file import YardstickFile, read


def yardsticks_of(
    given: Sequence[str],
    classifier: Classifier,
    interpreters: Mapping[str, Interpreter],
    options: Mapping[str, Mapping[str, Any]],
) -> dict[str, YardstickFile]:
    """Find the yardsticks of an audit: interpreter -> yardstick; interpreters without one are left out.

    Args:
        given: the files that the user names.
        classifier: the classifier.
        interpreters: its interpreters, by name.
        options: their options, by name.

    Raises:
        UnderfireError: a file that is no yardstick, is one of another network, or of an interpreter that is not there.
    """
    found = {
        name: one
        for name, interpreter in interpreters.items()
        if (one := packaged.fitting(classifier.digest, name, interpreter.digest, options.get(name, {})))
    }
    named: dict[str, str] = {}
    for path in given:
        one = read(path)
        name = one.interpreter
        if name not in interpreters:
            raise core.unknown(f"interpreter in this plan, as --yardstick '{path}' has it:", name, interpreters)
        if name in named:
            raise UnderfireError(f"'{named[name]}' and '{path}' are both for {name}: give one --yardstick for each.")
        one.refuse_other(path, classifier.digest, interpreters[name].digest, options.get(name, {}))
        found[name], named[name] = one, path
    return found


def rulers_of(cells: Sequence[Cell], yardsticks: Mapping[str, YardstickFile]) -> dict[str, Ruler]:
    """Give what tells forged pictures while the smallest budget is searched: interpreter -> ruler; none for no search.

    An audit that has no yardstick makes its own when it is read, which is too late for the search.
    """
    against = {cell.against for cell in cells if cell.smallest}
    return {name: Named(one.yardstick, one.digest, one.exact) for name, one in yardsticks.items() if name in against}
