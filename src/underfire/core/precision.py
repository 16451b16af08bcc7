"""The precision of the passes of a search: a word of the plan, and what is in force here and now.

    fp32        float32, as the judge computes
    bf16        convolutions and matrix products in bfloat16, all else in float32
    …-last      the same, with the channels last in memory
    bf16-fp32-last   bf16-last for the first two thirds of a search, then fp32-last: the last decisions are exact

A plan may name one for each interpreter that is attacked: ``bf16-last,grad:fp32``. The judge is always float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

FULL = "fp32"
"""The precision of the judge, and of all that says nothing else."""
SETTLED = "bf16-fp32-last"
"""The precision of a search that ends in float32."""
PRECISIONS = (FULL, "fp32-last", "bf16", "bf16-last", SETTLED)
"""What there is."""
SETTLES = 2 / 3
"""Share of a search after which it settles."""
PHASES = {SETTLED: (("bf16-last", SETTLES), ("fp32-last", 1 - SETTLES))}
"""Precision -> what a search is in, one after the other, and for which share of it; others are what they are."""
_now: ContextVar[str] = ContextVar("precision", default=FULL)


def precision() -> str:
    """Return the precision in force: `FULL`, unless this is the search of an audit that has another one.

    Where nobody says how far the search is, as in another package's attack, it is the one that the search ends in.
    """
    return phases(_now.get())[-1][0]


def whole_precision() -> str:
    """Return the precision in force with all its phases, for `settling`."""
    return _now.get()


@contextmanager
def searching(word: str) -> Iterator[None]:
    """Put a precision, one of `PRECISIONS`, in force for the time of a `with` block, in this thread."""
    token = _now.set(word)
    try:
        yield
    finally:
        _now.reset(token)


def channels_last(word: str) -> bool:
    """Tell whether a precision has the channels last in memory."""
    return word.endswith("-last")


def judging() -> AbstractContextManager[None]:
    """Put the judge's precision in force for the time of a `with` block, also in a search."""
    return searching(FULL)


def settling(word: str, progress: float) -> AbstractContextManager[None]:
    """Put what a search's precision is at ``progress`` in [0, 1] in force for the time of a `with` block."""
    first, *last = phases(word)
    return searching(last[0][0] if last and progress >= first[1] else first[0])


def phases(word: str) -> tuple[tuple[str, float], ...]:
    """List what a search in a precision is in, one after the other, and for which share of it."""
    return PHASES.get(word, ((word, 1.0),))


def precision_against(words: str, against: str | None) -> str:
    """Find the precision of the attacks against an interpreter (None: on the prediction alone).

    Example:
        ``precision_against("bf16-last,grad:fp32", "grad")`` is ``"fp32"``.
    """
    usual, own = _read(words)
    return own.get(against, usual) if against is not None else usual


def mistake_in(words: str) -> str:
    """Say what is wrong with what should be precisions, as `precision_against` reads them; '' where nothing is."""
    usual, own = _read(words)
    unknown = next((word for word in (usual, *own.values()) if word not in PRECISIONS), None)
    if unknown is None:
        return ""
    return f"There is no precision '{unknown}'. Known: auto, {', '.join(PRECISIONS)}; as in bf16-last,grad:fp32"


def named_in(words: str) -> tuple[str, ...]:
    """List the interpreters for which a precision of their own is named."""
    return tuple(_read(words)[1])


def _read(words: str) -> tuple[str, dict[str, str]]:
    usual, *more = words.split(",")
    return usual, {name: word for name, _, word in (one.partition(":") for one in more)}
