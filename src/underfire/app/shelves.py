"""What can be browsed: the audit of a folder, or all audits of a study's folder, which may still be written."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa

from underfire.app.browse import Shelf
from underfire.core import NotFoundError, UnderfireError
from underfire.core.place import Place
from underfire.metrics.summary import Summary
from underfire.report.findings import panels
from underfire.report.text import share
from underfire.study.results import FILE, read

EXPERIMENTS = {
    "main": "the prediction alone, and with its map",
    "bends": "the same by bending",
    "random": "towards another class’s map",
    "budget": "a smaller ε",
    "trained": "an explanation trained against it",
    "noise": "noise alone",
    "control": "controls",
    "rerun": "one photo at a time",
    "sanity": "checks of the attack",
}
"""Experiments of a study, in words of a table."""


@dataclass(frozen=True)
class AuditFinding:
    """What an audit found under one judge.

    Args:
        judge: the judge, as the report calls it.
        attack: its strongest attack.
        said: how often that forged, or why nobody can say.
        bad: whether it forged at least once.
    """

    judge: str
    attack: str
    said: str
    bad: bool


@dataclass(frozen=True)
class ListedAudit:
    """An audit of a study, as the list shows it.

    Args:
        folder: below the study's; the name by which its pages are asked for.
        kind: which experiment it is, in words.
        settings: what study.yaml says of it: interpreter, photos, eps.
        units, planned: units that are finished, and in all; 0 before it has begun.
        rows: judgements so far.
        findings: by judge.
        why: what was in the way; '' where nothing was.
    """

    folder: str
    kind: str
    settings: dict[str, Any]
    units: int = 0
    planned: int = 0
    rows: int = 0
    findings: tuple[AuditFinding, ...] = ()
    why: str = ""

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it by itself."""
        return bool(self.why) or 0 < self.planned <= self.units


class Shelves:
    """The audits of a folder.

    Args:
        out: the folder of an audit, or of a study.

    Raises:
        UnderfireError: it is neither.
    """

    def __init__(self, out: Place) -> None:
        self.out = out
        self._shelves: dict[str, Shelf] = {}
        self._known: dict[str, tuple[pa.Table, tuple[AuditFinding, ...]]] = {}
        self._lock = threading.Lock()
        if self.is_study:
            read(out)
        elif not (out / "plan.yaml").exists():
            raise NotFoundError(
                f"'{out}' is no folder of an underfire audit or study (it has neither plan.yaml nor {FILE}): give the "
                "folder named by --out."
            )
        else:
            self.shelf("")

    @cached_property
    def is_study(self) -> bool:
        """Whether it holds a study."""
        return not (self.out / "plan.yaml").exists() and (self.out / FILE).exists()

    def shelf(self, folder: str) -> Shelf:
        """Find the table of an audit.

        Args:
            folder: below the study's; '' for the audit itself, where the folder holds no study.

        Raises:
            UnderfireError: there is no such audit, or it has not begun.
        """
        if folder not in (self._folders if self.is_study else ("",)):
            raise NotFoundError(f"There is no audit '{folder}' here.")
        return self._shelf(folder)

    def _shelf(self, folder: str) -> Shelf:
        with self._lock:
            if folder not in self._shelves:
                self._shelves[folder] = Shelf(self.out / folder if folder else self.out)
            return self._shelves[folder]

    @property
    def _folders(self) -> list[str]:
        return [str(one["folder"]) for one in read(self.out)["resolved"]["parts"]]

    def audits(self) -> list[ListedAudit]:
        """List the audits of a study as they are now; raises UnderfireError where its study.yaml cannot be read."""
        resolved = read(self.out)["resolved"]
        if any(not {"experiment", "interpreter", "eps", "photos"} <= set(one) for one in resolved["parts"]):
            raise UnderfireError(f"'{self.out / FILE}' does not say what its audits try: run the study again.")
        stopped = {str(name): str(why) for name, why in resolved.get("failed", [])}
        return [self._listed(one, stopped.get(str(one["folder"]), "")) for one in resolved["parts"]]

    def _listed(self, part: dict[str, Any], why: str) -> ListedAudit:
        folder, kind = str(part["folder"]), str(part["experiment"])
        kind = EXPERIMENTS.get(kind, kind)
        try:
            shelf = self._shelf(folder)
            table = shelf.table()
            found = self._findings(folder, shelf, table)
        except NotFoundError:
            return ListedAudit(folder, kind, part, why=why)
        except UnderfireError as e:  # the others can still be read
            return ListedAudit(folder, kind, part, why=why or str(e))
        return ListedAudit(folder, kind, part, shelf.units, shelf.planned or 0, len(table), found, why)

    def _findings(self, folder: str, shelf: Shelf, table: pa.Table) -> tuple[AuditFinding, ...]:
        """Find what an audit has found; anew only where rows have come since."""
        before = self._known.get(folder)
        if before is None or before[0] is not table:
            before = table, tuple(_finding(one) for one in panels(shelf.plan, table, shelf.rulers))
            self._known[folder] = before
        return before[1]


def _finding(panel: Any) -> AuditFinding:
    line = panel.strongest
    summary: Summary = line.summary
    if summary.in_place or summary.forged.value is None:
        return AuditFinding(panel.title, line.label, summary.in_place or "no result", False)
    return AuditFinding(panel.title, line.label, f"forged {share(summary.forged, 'photos')}", summary.forged.value > 0)
