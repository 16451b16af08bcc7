"""The yardsticks that come with the installation: numbers only, measured by `benchmarks/yardstick.py`. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from underfire.core.hashing import digest_of
from underfire.metrics.yardstick_file import YardstickFile, parse


@cache
def packaged() -> tuple[YardstickFile, ...]:
    """Read all packaged yardsticks."""
    folder = resources.files("underfire.metrics") / "yardsticks"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
    return tuple(parse(file.read_bytes(), file.name) for file in files)


def fitting(
    classifier_digest: str, interpreter: str, interpreter_digest: str, options: Mapping[str, Any]
) -> YardstickFile | None:
    """Find the packaged yardstick of a classifier and an interpreter; None where there is none.

    Args:
        classifier_digest: digest of the classifier's weights and input policy.
        interpreter: name of the interpreter.
        interpreter_digest: digest of what its maps depend on beside the classifier.
        options: its options.
    """
    known = (one for one in packaged() if one.fits(classifier_digest, interpreter, interpreter_digest, options))
    return next(known, None)


def of_plan(plan: Mapping[str, Any]) -> dict[str, YardstickFile]:
    """Find the packaged yardsticks of an audit from before there were any, by its plan.yaml: interpreter -> yardstick.

    Such a plan has one digest for the classifier and all interpreters with weights of their own.
    """
    resolved, options = plan.get("resolved") or {}, plan.get("options") or {}
    names = plan.get("interpreter") or ()
    names = (names,) if isinstance(names, str) else names
    for digest in {one.classifier_digest for one in packaged()}:
        mine = {one.interpreter: one for one in packaged() if one.classifier_digest == digest}
        trained = {name: mine[name].interpreter_digest for name in names if name in mine}
        trained = {name: own for name, own in trained.items() if own}
        if resolved.get("weights_digest") == (digest_of([digest, trained]) if trained else digest):
            found = {name: mine[name] for name in names if name in mine}
            return {
                name: one
                for name, one in found.items()
                if one.fits(digest, name, one.interpreter_digest, options.get(name, {}))
            }
    return {}
