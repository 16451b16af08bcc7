"""underfire puts interpretable deep learning systems under fire.

    import underfire

    classifier = underfire.classifier("efficientnet-lite0")        # or underfire.wrap(my_module, ...)
    result = underfire.attack(classifier, "cam", ["photo.jpg"])    # ADV²: new prediction, same explanation
    result.images, result.records

Importing this package does not import torch.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from underfire.api import alarm, attack, classifier, interpreter
    from underfire.audit.insight import inspect
    from underfire.audit.run import Audit, run
    from underfire.classifiers.base import wrap
    from underfire.core import Classifier, Interpreter, Record, UnderfireError
    from underfire.defenses.calibrate import calibrate
    from underfire.defenses.check import check
    from underfire.gating import gate
    from underfire.notebook.result import Result
    from underfire.plan.make import make_plan
    from underfire.plan.settings import Settings
    from underfire.report.page import write_report
    from underfire.store import Results, open_results
    from underfire.study.run import run_study
    from underfire.train import train_rts

# OpenMP threads that spin while they wait make a run on a busy machine nine times slower (measured with two threads on
# two cores that other work used too). Threads that never do are woken hundreds of times a pass, and then a single photo
# is no faster on two cores than on one. So they spin for some 40 µs (docs/speed.md). OpenMP reads this when torch is
# loaded, and the workers inherit it.
_SPINS = 3000
_told = os.environ.get("GOMP_SPINCOUNT", "")
_passive = os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive"
_seldom = _told.isdigit() and int(_told) <= 10 * _SPINS if _told else _passive
OPENMP_SPINS = "torch" in sys.modules and not _seldom
"""Whether it is too late for that: torch was loaded before."""
if os.environ.setdefault("OMP_WAIT_POLICY", "passive").lower() == "passive":
    os.environ.setdefault("GOMP_SPINCOUNT", str(_SPINS))

_HOME = {  # module of each name; it is imported when the name is used
    "Audit": "audit.run",
    "Classifier": "core",
    "Interpreter": "core",
    "Record": "core",
    "Result": "notebook.result",
    "Settings": "plan.settings",
    "UnderfireError": "core",
    "alarm": "api",
    "attack": "api",
    "classifier": "api",
    "inspect": "audit.insight",
    "interpreter": "api",
    "open_results": "store",
    "Results": "store",
    "run": "audit.run",
    "calibrate": "defenses.calibrate",
    "check": "defenses.check",
    "gate": "gating",
    "make_plan": "plan.make",
    "run_study": "study.run",
    "train_rts": "train",
    "wrap": "classifiers.base",
    "write_report": "report.page",
}

__all__ = [
    "Audit",
    "Classifier",
    "Interpreter",
    "Record",
    "Result",
    "Results",
    "Settings",
    "UnderfireError",
    "alarm",
    "attack",
    "calibrate",
    "check",
    "classifier",
    "gate",
    "inspect",
    "interpreter",
    "make_plan",
    "open_results",
    "run",
    "run_study",
    "train_rts",
    "wrap",
    "write_report",
]


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 (it takes longer than all else here)

    try:
        return version("underfire")
    except PackageNotFoundError:  # a source tree that is not installed
        return "0"


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _HOME:
        raise AttributeError(f"module 'underfire' has no attribute '{name}'")
    return getattr(import_module(f"underfire.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
