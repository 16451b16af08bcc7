"""Formulas agree with their slow replicas on random arguments (tests/support/replicas)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from support.replicas import REPLICAS, Replica, flow, interpreters, maps, mask, numbers, train

MODULES = (flow, interpreters, maps, mask, train)
"""Importing them attaches their replicas."""


@pytest.mark.parametrize("replica", REPLICAS, ids=str)
def test_a_formula_agrees_with_its_slow_replica(replica: Replica) -> None:
    @settings(max_examples=replica.examples)
    @given(replica.arguments)
    def agree(arguments: tuple[object, ...]) -> None:
        found, wanted = (list(numbers(of(*arguments))) for of in (replica.formula, replica.slow))
        assert found == [v if v is None else pytest.approx(v, rel=replica.rtol, abs=replica.atol) for v in wanted]

    agree()


def test_no_formula_has_two_replicas() -> None:
    names = [str(replica) for replica in REPLICAS]
    assert len(set(names)) == len(names)
