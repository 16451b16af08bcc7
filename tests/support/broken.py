"""Parts that break a rule, and what a check says of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support import toys
from underfire import testing
from underfire.core import Images

X = toys.pictures(3)
Change = Callable[..., Any]
"""What is made of a part's answer."""


def behind_the_meter(classifier: Any, x: Images) -> int:
    """0, after a forward pass that nobody counts."""
    classifier.module((x.double() - 0.5) / toys.STD)
    return 0


def counted_twice(classifier: Any, x: Images) -> int:
    """0, after a charge for nothing."""
    classifier.meter.charge(len(x))
    return 0


def told(check: Callable[[], None], part: str) -> str:
    """The rule that a check says a part breaks."""
    with pytest.raises(testing.ContractError, match=f"'{part}'") as e:
        check()
    return e.value.rule
