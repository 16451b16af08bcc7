"""Heads by name, and the head of a classifier."""

from __future__ import annotations

from underfire.core import HEADS, Classifier, unknown
from underfire.core.protocols import kind_of
from underfire.heads.head import Head
from underfire.heads.multilabel import MultiLabel
from underfire.heads.softmax import Softmax

_MADE: dict[str, Head] = {"softmax": Softmax(), "binary": Softmax(), "multilabel": MultiLabel()}


def head_named(kind: str) -> Head:
    """Give the head of a kind.

    Args:
        kind: 'softmax', 'binary' or 'multilabel'.

    Raises:
        UnderfireError: there is no such kind.
    """
    if kind not in _MADE:
        raise unknown("head", kind, HEADS)
    return _MADE[kind]


def head_of(classifier: Classifier) -> Head:
    """Give the head of a classifier."""
    return head_named(kind_of(classifier))
