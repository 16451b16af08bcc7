"""Slow, obvious replicas of formulas, attached to them by name (after zennit's tests).

@replicates(maps.l2, two_stacks)
def l2(a, b): ...                                  # the same number again, with loops

`tests/test_replicas.py` runs every pair on random arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from hypothesis import strategies as st

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Replica:
    """A formula and the slow one that must agree with it.

    Args:
        formula: of the package.
        slow: of the tests; takes the same arguments, and gives numbers, lists or tensors.
        arguments: draws them.
        rtol: how far numbers may be apart, as a share of their size.
        atol: likewise, whatever their size.
        examples: how many arguments are drawn; few where the loops are long.
    """

    formula: Callable[..., Any]
    slow: Callable[..., Any]
    arguments: st.SearchStrategy[tuple[Any, ...]]
    rtol: float
    atol: float
    examples: int

    def __str__(self) -> str:
        return f"{self.formula.__module__.removeprefix('underfire.')}.{self.formula.__qualname__}"


REPLICAS: list[Replica] = []


def replicates(
    formula: Callable[..., Any],
    arguments: st.SearchStrategy[tuple[Any, ...]],
    *,
    rtol: float = 1e-6,
    atol: float = 1e-9,
    examples: int = 40,
) -> Callable[[F], F]:
    """Attach a slow replica to a formula (a decorator)."""

    def attach(slow: F) -> F:
        REPLICAS.append(Replica(formula, slow, arguments, rtol, atol, examples))
        return slow

    return attach


def drawn(make: Callable[[torch.Generator], tuple[Any, ...]]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Arguments that a function makes from a generator of random numbers."""
    return st.integers(0, 2**31).map(lambda seed: make(torch.Generator().manual_seed(seed)))


def normal(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def uniform(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """Numbers in [0, 1) in float64."""
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def numbers(value: Any) -> Iterator[float | None]:
    """Every number of a value, in order; of a mapping by its names."""
    if isinstance(value, dict):
        value = [value[key] for key in sorted(value)]
    if isinstance(value, list | tuple):
        for one in value:
            yield from numbers(one)
    else:
        yield from [None] if value is None else torch.as_tensor(value).detach().double().flatten().tolist()
