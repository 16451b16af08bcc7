"""What the fuzzers share: bytes that are damaged at random, values of any kind, and what counts as an answer."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from underfire.core import UnderfireError

SLOWEST = 10.0
"""Seconds that one input may take."""
Mutation = list[tuple[int, int, int, bytes]]
"""What is done to some bytes: a kind, a place, a length, and what is put there."""
mutations = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 1 << 20), st.integers(0, 64), st.binary(max_size=12)),
    min_size=1,
    max_size=6,
)


def mutated(content: bytes, how: Mutation) -> bytes:
    """Some bytes flipped, replaced, cut out, put in, doubled or cut off."""
    made = bytearray(content)
    for kind, where, n, new in how:
        at = where % (len(made) + 1)
        if kind == 0 and at < len(made):
            made[at] ^= 1 << n % 8
        elif kind == 1:
            made[at : at + len(new)] = new
        elif kind == 2:
            del made[at : at + n]
        elif kind == 3:
            made[at:at] = new
        elif kind == 4:
            made[at:at] = made[at : at + n]
        elif n < 8:  # most of what is cut off says nothing more than that
            del made[at:]
    return bytes(made)


def fuzzed(n: int) -> list[Any]:
    """A short share for every day, and a long one."""
    share = functools.partial(settings, deadline=None, suppress_health_check=list(HealthCheck))
    return [share(max_examples=n), share(max_examples=100 * n)]


def answers(ask: Callable[[], object]) -> None:
    """A result or a sentence of bounded length, in bounded time; anything else is the test's failure."""
    start = time.monotonic()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            ask()
        except UnderfireError as e:
            assert 0 < len(str(e)) < 2000
    assert time.monotonic() - start < SLOWEST


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates(),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), below, max_size=3),
    max_leaves=6,
)
