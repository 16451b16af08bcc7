"""One unit in a worker: build the victim, forge, save as a PNG, read back, judge -> Records.

    images -> goal (clean prediction and map) -> forge -> 8-bit PNG -> read back -> judge -> Records

Nothing here trusts an attack: what it returns is rounded, held against its budget, encoded, decoded and measured with
the real interpreter in float32.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import io
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from underfire import images, maps, registry
from underfire.core import (
    Cell,
    Classifier,
    Goal,
    ImageErrors,
    Images,
    Interpreter,
    Job,
    Maps,
    Outcome,
    Photo,
    UnderfireError,
    Unit,
    Victim,
)
from underfire.record import Record, Scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Levels = NDArray[np.uint8]


def run_unit(unit: Unit) -> Outcome:
    """What a worker does with a unit."""
    start = time.perf_counter()
    prepare(unit.job.threads)
    folder = images.Folder(unit.job.source)
    system = System.of_job(unit.job)
    levels, errors = _load(folder, unit.photos, system.classifier)
    if unit.stage == "scale":
        rows: list[Any] = measure_scale(system, unit.photos, levels, errors)
        return Outcome(unit, rows, {}, time.perf_counter() - start)
    trial = Trial(system, unit.job, unit.name, unit.photos, levels, errors)
    trial.run()
    return Outcome(unit, trial.records, trial.files, time.perf_counter() - start)


def prepare(threads: int) -> None:
    """Set up this process: exactly ``threads`` CPU threads, and an allocator that keeps its pages."""
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    _prepare_once()


@functools.cache
def _prepare_once() -> None:
    """Deterministic kernels, and an allocator that keeps its pages.

    glibc gives large blocks back to the system after each use; every step of a search then pays for the same pages
    again (measured: 15 % of EfficientNet-Lite0's forward and backward).
    """
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "gnu_get_libc_version"):
            m_mmap_threshold, m_trim_threshold = -3, -1  # from glibc's malloc.h
            libc.mallopt(m_mmap_threshold, 1 << 30)
            libc.mallopt(m_trim_threshold, (1 << 31) - 1)


@dataclass
class System:
    """The classifier and the interpreters of one audit, built."""

    classifier: Classifier
    interpreters: Mapping[str, Interpreter]
    device: str = "cpu"

    @classmethod
    def of_job(cls, job: Job) -> System:
        """Built once a process."""
        return _system(json.dumps(job.interpreter_options, sort_keys=True, default=str), *_identity(job))


def _identity(job: Job) -> tuple[Any, ...]:
    own = [path for path in (job.options.weights, job.options.classes) if path is not None]
    stamps = tuple(Path(path).stat().st_mtime_ns for path in own if Path(path).is_file())  # same name, other weights
    return job.classifier, job.options, job.interpreters, job.device, stamps


@functools.lru_cache(maxsize=2)
def _system(
    interpreter_options: str,
    name: str,
    options: Any,
    interpreters: tuple[str, ...],
    device: str,
    _stamps: tuple[int, ...],
) -> System:
    kind, _, variant = name.partition(":")
    classifier = registry.maker("classifiers", kind)(variant, options)
    classifier.to(device)
    chosen = json.loads(interpreter_options)
    built = {i: registry.maker("interpreters", i)(classifier, **chosen.get(i, {})) for i in interpreters}
    return System(classifier, built, device)


def _load(
    folder: images.Folder, photos: Sequence[Photo], classifier: Classifier
) -> tuple[dict[int, Levels], dict[int, str]]:
    levels, errors = {}, {}
    for i, photo in enumerate(photos):
        try:
            levels[i] = images.load(folder.bytes(photo.path), photo.path, classifier.preprocess)
        except UnderfireError as e:
            errors[i] = str(e)
    return levels, errors


def measure_scale(
    system: System, photos: Sequence[Photo], levels: Mapping[int, Levels], errors: Mapping[int, str]
) -> list[Scale]:
    """What JPEG quality 90 does to each clean photo's map, by interpreter (method, section 5.5)."""
    rows = []
    for name, interpreter in system.interpreters.items():
        found: dict[int, float] = {}
        failed = dict(errors)
        if levels:
            index = list(levels)
            x = images.to_tensor([levels[i] for i in index]).to(system.device)
            x_jpeg = images.to_tensor([images.jpeg(levels[i]) for i in index]).to(system.device)
            with torch.no_grad():
                source = system.classifier.logits(x).argmax(1)
            before, bad_before = explain(interpreter, x, source)
            after, bad_after = explain(interpreter, x_jpeg, source)
            for row, i in enumerate(index):
                bad = bad_before.get(row) or bad_after.get(row)
                if bad:
                    failed[i] = bad
                else:
                    found[i] = float((before[row] - after[row]).abs().mean())
        rows += [Scale(p.path, p.sha256, name, found.get(i), failed.get(i)) for i, p in enumerate(photos)]
    return rows


def explain(interpreter: Interpreter, x: Images, y: Tensor) -> tuple[dict[int, Tensor], dict[int, str]]:
    """Maps by row in float64 on the CPU, and why others have none; checked, whoever wrote the interpreter."""
    rows = torch.arange(len(x), device=x.device)
    errors: dict[int, str] = {}
    found: dict[int, Tensor] = {}
    while len(rows):
        try:
            m = interpreter.explain(x[rows], y[rows])
        except ImageErrors as e:
            if not e.by_row:
                raise
            errors |= {int(rows[row]): reason for row, reason in e.by_row.items()}
            rows = torch.tensor([r for r in rows.tolist() if r not in errors], device=x.device, dtype=torch.int64)
            continue
        _check_maps(interpreter.name, m, len(rows))
        for row, one in zip(rows.tolist(), m.detach().double().cpu(), strict=True):
            if bool(one.isfinite().all()):
                found[row] = one
            else:
                errors[row] = f"{interpreter.name} gave a map that is not finite for this image."
        break
    return found, errors


def _check_maps(name: str, m: Maps, n: int) -> None:
    if m.dim() != 3 or len(m) != n:
        raise UnderfireError(f"Interpreter '{name}' returned {tuple(m.shape)} for {n} images: it must be (N, h, w).")
    finite = m[m.isfinite()]
    if len(finite) and (float(finite.min()) < -1e-6 or float(finite.max()) > 1 + 1e-6):
        raise UnderfireError(f"Interpreter '{name}' returned values outside [0, 1]: scale its maps (maps.unit_scale).")


@dataclass
class Clean:
    """What is known of one clean image."""

    row: int
    photo: Photo
    levels: Levels
    x: Tensor
    source: int
    confidence: float
    target: int
    prediction_passes: float
    maps: dict[str, Tensor] = field(default_factory=dict)
    map_passes: dict[str, float] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


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
    ) -> None:
        self.system, self.job, self.unit, self.photos = system, job, unit, photos
        self.errors = dict(errors)
        self.records: list[Record] = []
        self.files: dict[str, bytes] = {}
        self.forged: dict[tuple[str, str | None], dict[int, Levels]] = {}
        self.clean = self._clean(levels)

    # -- the clean side -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _clean(self, levels: Mapping[int, Levels]) -> list[Clean]:
        if not levels:
            return []
        classifier, rows = self.system.classifier, list(levels)
        x = images.to_tensor([levels[i] for i in rows]).to(self.system.device)
        classifier.meter.open(len(rows))
        z = classifier.logits(x)
        passes = classifier.meter.close()
        clean = []
        for n, i in enumerate(rows):
            if not bool(z[n].isfinite().all()):
                self.errors[i] = f"The classifier's scores of '{self.photos[i].path}' are not finite."
                continue
            source = int(z[n].argmax())
            target = self._target(self.photos[i], z[n], source)
            if target == source:
                name = classifier.classes.names[source]
                self.errors[i] = (
                    f"'{self.photos[i].path}' is already classified as {name} ({source}): give another --target."
                )
                continue
            p = float(z[n].softmax(0)[source])
            clean.append(Clean(i, self.photos[i], levels[i], x[n], source, p, target, passes[n]))
        for name, interpreter in self.system.interpreters.items():
            self._clean_maps(name, interpreter, clean)
        return clean

    def _clean_maps(self, name: str, interpreter: Interpreter, clean: Sequence[Clean]) -> None:
        if not clean:
            return
        meter = self.system.classifier.meter
        meter.open(len(clean))
        x, source = torch.stack([c.x for c in clean]), self._labels([c.source for c in clean])
        found, errors = explain(interpreter, x, source)
        for n, (c, passes) in enumerate(zip(clean, meter.close(), strict=True)):
            c.map_passes[name] = passes
            if n in errors:
                c.errors[name] = f"'{c.photo.path}': {errors[n]}"
            else:
                c.maps[name] = found[n]
                self.files[f"{self._stem(c)}.clean.{name}.npy"] = _npy(found[n])
            self.files[f"{self._stem(c)}.clean.png"] = images.encode_png(c.levels)

    def _target(self, photo: Photo, z: Tensor, source: int) -> int:
        if isinstance(self.job.target, int):
            return self.job.target
        if self.job.target == "least-likely":
            return int(z.argmin())
        k = int(np.random.default_rng(seed_of(self.job.seed, photo, "target")).integers(len(z) - 1))
        return k + (k >= source)

    # -- forge and judge ------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Every attack of the job, judged by every interpreter that it concerns."""
        for cell in self.job.cells:
            judges = self.system.interpreters if cell.against is None else [cell.against]
            self._run_cell(cell, list(judges))

    def _run_cell(self, cell: Cell, judges: Sequence[str]) -> None:
        able = [c for c in self.clean if cell.against is None or cell.against in c.maps]
        failed = {c.row: c.errors[cell.against] for c in self.clean if cell.against in c.errors if cell.against}
        start = time.perf_counter()
        forged, errors = self._forge(cell, able)
        forge_seconds = (time.perf_counter() - start) / max(1, len(able))
        failed |= errors
        self.forged[cell.attack.name, cell.against] = {row: f.levels for row, f in forged.items()}
        for name in judges:
            start = time.perf_counter()
            rows = [c for c in able if c.row in forged and name in c.maps]
            judged, bad = self._judge(cell, name, rows, forged)
            seconds = forge_seconds + (time.perf_counter() - start) / max(1, len(rows))
            why = self.errors | {c.row: c.errors[name] for c in self.clean if name in c.errors} | failed | bad
            clean = {c.row: c for c in self.clean}
            for i, photo in enumerate(self.photos):
                good = i in judged
                values = judged[i] | self._clean_columns(clean[i]) | {"seconds": seconds} if good else {"error": why[i]}
                self.records.append(Record(**self._identity(cell, name, photo), **values))

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
                return {}, errors | {c.row: f"'{cell.attack.name}' failed: {type(e).__name__}: {e}" for c in able}
        return {}, errors

    def _attack(self, cell: Cell, able: Sequence[Clean]) -> dict[int, Forged]:
        classifier = self.system.classifier
        against = () if cell.against is None else (self.system.interpreters[cell.against],)
        x = torch.stack([c.x for c in able])
        goal = Goal(
            self._labels([c.target for c in able]),
            self._labels([c.source for c in able]),
            {i.name: torch.stack([c.maps[i.name] for c in able]).to(x) for i in against},
        )
        seeds = [seed_of(self.job.seed, c.photo, cell.attack.name) for c in able]
        classifier.meter.open(len(able))
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.job.precision == "bf16"):
            found = cell.attack.run(Victim(classifier, against), x, goal, seeds)
        passes = classifier.meter.close()
        png = [images.encode_png(levels) for levels in images.to_levels(found.images)]
        forged = {}
        for n, c in enumerate(able):
            levels = images.decode_png(png[n])
            linf = images.linf_levels(levels, c.levels)
            if cell.attack.eps is not None and linf > cell.attack.eps:
                raise ImageErrors({n: f"{cell.attack.name} left its budget: {linf} of {cell.attack.eps} levels."})
            name = f"{self._stem(c)}.{_cell_name(cell)}.png"
            self.files[name] = png[n]
            forged[c.row] = Forged(levels, name, linf, int(found.steps[n]), passes[n])
        return forged

    @torch.no_grad()
    def _judge(
        self, cell: Cell, name: str, rows: Sequence[Clean], forged: Mapping[int, Forged]
    ) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
        if not rows:
            return {}, {}
        classifier = self.system.classifier
        x = images.to_tensor([forged[c.row].levels for c in rows]).to(self.system.device)
        classifier.meter.open(len(rows))
        z = classifier.logits(x).double()
        found, bad = explain(self.system.interpreters[name], x, self._labels([c.target for c in rows]))
        passes = classifier.meter.close()
        judged = {}
        for n, c in enumerate(rows):
            if n in bad:
                continue
            f = forged[c.row]
            file = f"{self._stem(c)}.{_cell_name(cell)}.{name}.npy"
            self.files[file] = _npy(found[n])
            judged[c.row] = {
                **self._verdict(name, c, z[n], found[n].numpy()),
                "linf_levels": f.linf,
                "steps": f.steps,
                "goal_passes": c.prediction_passes + c.map_passes[name],
                "passes": f.passes,
                "judge_passes": passes[n],
                "clean": self._path(f"{self._stem(c)}.clean.png"),
                "adversarial": self._path(f.file),
                "clean_map": self._path(f"{self._stem(c)}.clean.{name}.npy"),
                "adversarial_map": self._path(file),
            }
        return judged, {rows[n].row: f"'{rows[n].photo.path}': {reason}" for n, reason in bad.items()}

    def _verdict(self, name: str, c: Clean, z: Tensor, m: NDArray[np.float64]) -> dict[str, Any]:
        wanted = c.maps[name].numpy()
        predicted = int(z.argmax())
        success = predicted == c.target
        l1 = float(np.abs(m - wanted).mean())
        scale = self.job.scale.get(name)
        untouched = None if scale is None else l1 <= scale
        p = z.softmax(0)
        return {
            "predicted_class": predicted,
            "predicted_class_name": self.system.classifier.classes.names[predicted],
            "predicted_confidence": float(p[predicted]),
            "success": success,
            "confidence": float(p[c.target]),
            "map_l1": l1,
            "map_iou": maps.iou(m, wanted),
            "map_rank": maps.rank(m, wanted),
            "iou_curve": maps.iou_curve(m, wanted),
            "untouched_l1": scale,
            "untouched": untouched,
            "forged": None if untouched is None else success and untouched,
        }

    # -- names ----------------------------------------------------------------------------------------------------

    def _identity(self, cell: Cell, judge: str, photo: Photo) -> dict[str, Any]:
        return {
            "image": photo.path,
            "image_sha256": photo.sha256,
            "classifier": self.system.classifier.name,
            "against": cell.against,
            "attack": cell.attack.name,
            "preset": self.job.preset,
            "judge_classifier": self.system.classifier.name,
            "interpreter": judge,
            "defense": "none",
            "seed": self.job.seed,
            "eps": self.job.eps,
        }

    def _clean_columns(self, c: Clean) -> dict[str, Any]:
        names = self.system.classifier.classes.names
        return {
            "source_class": c.source,
            "source_class_name": names[c.source],
            "target_class": c.target,
            "target_class_name": names[c.target],
            "clean_confidence": c.confidence,
        }

    def _labels(self, labels: Sequence[int]) -> Tensor:
        return torch.tensor(labels, dtype=torch.int64, device=self.system.device)

    def _stem(self, c: Clean) -> str:
        return f"{c.row:03d}-{slug(c.photo.path)}"

    def _path(self, file: str) -> str:
        return f"images/{self.unit}/{file}"


@dataclass(frozen=True)
class Forged:
    """One adversarial image as read back from its PNG."""

    levels: Levels
    file: str
    linf: int
    steps: int
    passes: float


def seed_of(seed: int, photo: Photo, purpose: str) -> int:
    """A seed that depends on (seed, image digest) and on what it is for, never on the batch."""
    digest = hashlib.sha256(f"{seed}/{photo.sha256}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def slug(path: str) -> str:
    """The readable part of an output file's name: ASCII, at most 40 characters."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", PurePosixPath(path).stem).strip("-")[:40] or "image"


def _cell_name(cell: Cell) -> str:
    return cell.attack.name if cell.against is None else f"{cell.attack.name}-{cell.against}"


def _npy(m: Tensor) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, m.numpy().astype(np.float16))
    return buffer.getvalue()
