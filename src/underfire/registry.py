"""Name -> maker, for everything that can be added to.

A part registers itself with a decorator where it is defined; the modules of underfire's folders are found by looking
into the folders, other packages' parts by their entry points (groups ``underfire.interpreters`` and so on).
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from typing import Any, TypeVar

from underfire.core import UnderfireError

LISTED = 30
"""Known names that an error spells out."""
KINDS = ("classifiers", "interpreters", "attacks", "defenses", "executors")
_makers: dict[str, dict[str, Callable[..., Any]]] = {kind: {} for kind in KINDS}
_imported: set[str] = set()
M = TypeVar("M", bound=Callable[..., Any])


def register(kind: str, name: str) -> Callable[[M], M]:
    """Decorator that makes a class or function the maker of ``name`` among the ``kind``."""

    def add(maker: M) -> M:
        _makers[kind][name] = maker
        return maker

    return add


def names(kind: str) -> list[str]:
    """Every name of a kind, ours and third parties', sorted."""
    _import_folder(kind)
    return sorted({*_makers[kind], *(point.name for point in entry_points(group=f"underfire.{kind}"))})


def maker(kind: str, name: str) -> Callable[..., Any]:
    """The maker registered under ``name``.

    Raises:
        UnderfireError: for an unknown name, with the nearest known ones.
    """
    _import_folder(kind)
    if name in _makers[kind]:
        return _makers[kind][name]
    for point in entry_points(group=f"underfire.{kind}", name=name):
        loaded: Callable[..., Any] = point.load()
        return loaded
    raise unknown(kind.removesuffix("s"), name, names(kind))


def unknown(what: str, word: str, known: Iterable[str]) -> UnderfireError:
    """The error for a word that is none of the ``known`` ones, naming the nearest."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    listed = ", ".join(known[:LISTED]) + (f" and {len(known) - LISTED} more" if len(known) > LISTED else "")
    return UnderfireError(f"There is no {what} '{word}'.{hint} Known: {listed or 'none'}.")


def _import_folder(kind: str) -> None:
    if kind in _imported:
        return
    package = importlib.import_module(f"underfire.{kind}")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"underfire.{kind}.{module.name}")
    _imported.add(kind)
