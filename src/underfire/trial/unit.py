"""One unit in a worker: build the victim, forge, save as a PNG, read back, judge -> Records.

    images -> goal (clean prediction and map) -> forge -> 8-bit PNG -> read back -> judge -> Records

Nothing here trusts an attack: what it returns is rounded, held against its budget, encoded, decoded and measured with
the real interpreter in float32.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from underfire.core import (
    Cell,
    Goal,
    ImageErrors,
    Job,
    Photo,
    Record,
    UnderfireError,
    Victim,
    hashing,
)
from underfire.core.place import slug
from underfire.images import pixels
from underfire.trial.forge import Forged, _check_extras, out_of_memory
from underfire.trial.goal import Clean, Levels, labels, look
from underfire.trial.judge import ALARM, alarms, judge
from underfire.trial.rows import _cell_name, identity, npy
from underfire.trial.system import System


class Trial:
    """Forge and judge one batch; `records`, `files` and `forged` are what comes of it."""

    def __init__(
        self,
        system: System,
        job: Job,
        unit: str,
        photos: Sequence[Photo],
        levels: Mapping[int, Levels],
        errors: Mapping[int, str],
        partners: Mapping[int, tuple[Photo, Levels]] | None = None,
        first: int = 0,
    ) -> None:
        self.system, self.job, self.unit, self.photos, self.first = system, job, unit, photos, first
        self.errors = dict(errors)
        self.records: list[Record] = []
        self.files: dict[str, bytes] = {}
        self.forged: dict[tuple[str, str | None], dict[int, Levels]] = {}
        self.clean, failed = look(system, job, photos, levels, partners or {})
        self.errors |= failed
        self.clean_alarms = alarms(system, {c.row: c.levels for c in self.clean})
        for c in self.clean:
            self._keep(c)

    def _keep(self, c: Clean) -> None:
        """The clean picture and its maps, for the store."""
        self.files[f"{self._stem(c)}.clean.png"] = pixels.encode_png(c.levels)
        for name, m in c.maps.items():
            self.files[f"{self._stem(c)}.clean.{name}.npy"] = npy(m)
        if self.job.target_map.kind != "benign":
            for name, m in c.wanted.items():
                self.files[f"{self._stem(c)}.wanted.{name}.npy"] = npy(m)

    # -- forge and judge ------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Every attack of the job, judged by every interpreter that it concerns."""
        for cell in self.job.cells:
            judges = self.system.interpreters if cell.against is None else [cell.against]
            self._run_cell(cell, list(judges))

    def _run_cell(self, cell: Cell, judges: Sequence[str]) -> None:
        able = [c for c in self.clean if cell.against is None or cell.against in c.wanted]
        failed = {c.row: c.errors[cell.against] for c in self.clean if cell.against in c.errors if cell.against}
        start = time.perf_counter()
        forged, errors = self._forge(cell, able)
        alarmed = alarms(self.system, {row: f.levels for row, f in forged.items()})
        forge_seconds = (time.perf_counter() - start) / max(1, len(able))
        failed |= errors
        self.forged[cell.attack.name, cell.against] = {row: f.levels for row, f in forged.items()}
        for name in judges:
            start = time.perf_counter()
            rows = [c for c in able if c.row in forged and name in c.wanted]
            judged, bad = self._judge(cell, name, rows, forged)
            seconds = forge_seconds + (time.perf_counter() - start) / max(1, len(rows))
            why = self.errors | {c.row: c.errors[name] for c in self.clean if name in c.errors} | failed | bad
            clean = {c.row: c for c in self.clean}
            for i, photo in enumerate(self.photos):
                good = i in judged
                values = judged[i] | self._clean_columns(clean[i]) | {"seconds": seconds} if good else {"error": why[i]}
                if good and self.system.alarm is not None:
                    values |= alarmed[i] | {f"clean_{name}": self.clean_alarms[i][name] for name in ALARM}
                known = identity(self.job, self.system.classifier.name, cell, name, photo)
                self.records.append(Record(**known, **values))

    def _forge(self, cell: Cell, able: Sequence[Clean]) -> tuple[dict[int, Forged], dict[int, str]]:
        """Adversarial images by row, read back from their PNGs; images that an attack cannot work on are set aside."""
        errors: dict[int, str] = {}
        while able:
            try:
                return self._attack(cell, able), errors
            except ImageErrors as e:
                if not e.by_row:
                    raise
                errors |= {able[n].row: f"'{able[n].photo.path}': {reason}" for n, reason in e.by_row.items()}
                able = [c for c in able if c.row not in errors]
            except UnderfireError:
                raise
            except Exception as e:  # a third party's attack may raise anything; the other attacks go on
                if out_of_memory(e):  # says more of the machine than of these images: the unit is tried again
                    raise
                return {}, errors | {c.row: f"'{cell.attack.name}' failed: {type(e).__name__}: {e}" for c in able}
        return {}, errors

    def _attack(self, cell: Cell, able: Sequence[Clean]) -> dict[int, Forged]:
        classifier = self.system.classifier
        against = () if cell.against is None else (self.system.interpreters[cell.against],)
        x = torch.stack([c.x for c in able])
        goal = Goal(
            labels(self.system, [c.target for c in able]),
            labels(self.system, [c.source for c in able]),
            {i.name: torch.stack([c.wanted[i.name] for c in able]).to(x) for i in against},
            self._models(able),
            self.job.target_map.drawn,
        )
        seeds = [hashing.seed_of(self.job.seed, c.photo, cell.attack.name) for c in able]
        classifier.meter.open(len(able))
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.job.precision == "bf16"):
            found = cell.attack.run(Victim(classifier, against), x, goal, seeds)
        passes = classifier.meter.close()
        _check_extras(cell, found)
        note = f"{cell.attack.name} against {cell.against or 'the prediction'}"
        png = [pixels.encode_png(levels, note) for levels in pixels.to_levels(found.images)]
        forged = {}
        for n, c in enumerate(able):
            levels = pixels.decode_png(png[n])
            linf = pixels.linf_levels(levels, c.levels)
            if cell.attack.eps is not None and linf > cell.attack.eps:
                raise ImageErrors({n: f"{cell.attack.name} left its budget: {linf} of {cell.attack.eps} levels."})
            name = f"{self._stem(c)}.{_cell_name(cell)}.png"
            self.files[name] = png[n]
            extras = {column: float(values[n]) for column, values in found.extras.items()}
            forged[c.row] = Forged(levels, name, linf, int(found.steps[n]), passes[n], extras)
        return forged

    def _models(self, able: Sequence[Clean]) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The images and classes whose maps are wanted; none where they are the images' own."""
        models = [c.model for c in able if c.model is not None]
        if len(models) < len(able) or not able:
            return None
        return torch.stack([x for x, _ in models]), labels(self.system, [y for _, y in models])

    def _judge(
        self, cell: Cell, name: str, rows: Sequence[Clean], forged: Mapping[int, Forged]
    ) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
        found, bad = judge(
            self.system,
            name,
            [forged[c.row].levels for c in rows],
            [c.target for c in rows],
            [c.wanted[name] for c in rows],
            [c.maps[name] for c in rows],
        )
        judged = {}
        for n, (columns, m) in found.items():
            c, f = rows[n], forged[rows[n].row]
            clean_map, file = f"{self._stem(c)}.clean.{name}.npy", f"{self._stem(c)}.{_cell_name(cell)}.{name}.npy"
            wanted_map = clean_map if self.job.target_map.kind == "benign" else f"{self._stem(c)}.wanted.{name}.npy"
            self.files[file] = npy(m)
            judged[c.row] = columns | {
                "target_map_of": c.wanted_of,
                "linf_levels": f.linf,
                "steps": f.steps,
                "goal_passes": c.prediction_passes + c.map_passes[name],
                "passes": f.passes,
                **f.extras,
                "clean": self._path(f"{self._stem(c)}.clean.png"),
                "adversarial": self._path(f.file),
                "clean_map": self._path(clean_map),
                "wanted_map": self._path(wanted_map),
                "adversarial_map": self._path(file),
            }
        return judged, {rows[n].row: f"'{rows[n].photo.path}': {reason}" for n, reason in bad.items()}

    # -- names ----------------------------------------------------------------------------------------------------

    def _clean_columns(self, c: Clean) -> dict[str, Any]:
        names = self.system.classifier.classes.names
        return {
            "source_class": c.source,
            "source_class_name": names[c.source],
            "target_class": c.target,
            "target_class_name": names[c.target],
            "clean_confidence": c.confidence,
        }

    def _stem(self, c: Clean) -> str:
        return f"{self.first + c.row:03d}-{slug(c.photo.path)}"

    def _path(self, file: str) -> str:
        return f"images/{self.unit}/{file}"
