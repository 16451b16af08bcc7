"""The hint beside a network's own words is about what is wrong, and about nothing else."""

from __future__ import annotations

import pytest
import torch

from underfire.core import refused


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (lambda: torch.nn.Conv2d(3, 2, 3).half()(torch.zeros(1, 3, 8, 8)), "float()"),
        (lambda: torch.nn.Conv2d(3, 2, 3).bfloat16()(torch.zeros(1, 3, 8, 8)), "float()"),
        (lambda: torch.nn.Linear(192, 2)(torch.zeros(1, 108)), "--input-size"),
    ],
)
def test_the_hint_fits_the_mistake(make: object, hint: str) -> None:
    with pytest.raises(RuntimeError) as raised:
        make()  # type: ignore[operator]
    said = str(refused("mine", (8, 8), raised.value))
    assert hint in said
    assert ("--input-size" in said) == (hint == "--input-size")


def test_too_many_threads_are_no_matter_of_the_input() -> None:
    assert "--input-size" not in str(refused("mine", (8, 8), RuntimeError("OMP: cannot create 100000 threads, size")))
