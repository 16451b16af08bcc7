"""The gate as a function, for pytest: it returns what it found, or fails with a text that reads well."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from underfire.core.place import Place, Remote, place
from underfire.gating.decide import ruling
from underfire.gating.markdown import plain_text
from underfire.gating.policy import Policy
from underfire.gating.policy_file import read_policy
from underfire.gating.ruling import Ruling


class HasOut(Protocol):
    """An audit: anything that says in which folder its results are."""

    @property
    def out(self) -> Place:
        """The folder."""


class GateFailedError(AssertionError):
    """A gate that is not passed.

    Args:
        ruling: all that the gate found.
    """

    def __init__(self, ruling: Ruling) -> None:
        self.ruling = ruling
        super().__init__(plain_text(ruling))


def gate(
    audit: str | Place | HasOut,
    policy: str | Path | Mapping[str, Any] | Policy,
    baseline: str | Place | HasOut | None = None,
    undecided: Literal["pass", "fail"] | None = None,
) -> Ruling:
    """Hold an audit against a policy; what does not pass is an AssertionError that says why, and names the photos.

    Example:
        ``underfire.gate("underfire-out/demo-1a2b3c4d", {"rules": [{"measure": "forged", "max": 0.1}]})``

    Args:
        audit: what `underfire.run` returned, or the folder of an audit.
        policy: a file, or its content as plain values.
        baseline: an earlier audit, for bounds such as ``increase``.
        undecided: 'pass' lets rules pass that the photos do not decide. Otherwise they fail, in words of their own.

    Raises:
        GateFailedError: a rule fails or is undecided, or the audit is not complete.
        UnderfireError: a mistake in the policy, or no such audit.
    """
    __tracebackhide__ = True
    found = ruling(_folder(audit), read_policy(policy), None if baseline is None else _folder(baseline), undecided)
    if found.verdict != "pass":
        raise GateFailedError(found)
    return found


def _folder(given: str | Place | HasOut) -> Place:
    if isinstance(given, str):
        return place(given)
    return given if isinstance(given, Path | Remote) else given.out
