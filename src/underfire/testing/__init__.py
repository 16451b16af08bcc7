"""Checks for parts of one's own: each holds a part against its protocol and says which rule it breaks.

    from underfire import testing

    def test_energy() -> None:
        classifier = underfire.classifier("efficientnet-lite0")
        testing.check_interpreter(Energy(classifier), classifier)

underfire's own parts pass the same checks (tests/testing/test_parts.py).
"""

from __future__ import annotations

from underfire.testing.attacks import check_attack
from underfire.testing.classifiers import check_classifier
from underfire.testing.contract import ContractError, pictures
from underfire.testing.defenses import check_defense
from underfire.testing.detectors import check_detector
from underfire.testing.executors import check_executor
from underfire.testing.interpreters import check_interpreter

__all__ = [
    "ContractError",
    "check_attack",
    "check_classifier",
    "check_defense",
    "check_detector",
    "check_executor",
    "check_interpreter",
    "pictures",
]
