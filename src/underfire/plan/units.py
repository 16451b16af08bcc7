"""The plan of an audit, and the units that are cut from it alone.

Two runs with the same plan have the same units with the same names. A name has a key: the digest of everything that
changes a number (weights, photos, filled-in settings, seed, threads, schema), and of nothing that does not (name of the
device, number of workers, order).
"""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import yaml

from underfire.core import (
    NUMBERS_VERSION,
    ForgeUnit,
    Job,
    Photo,
    ScaleUnit,
    Unit,
    evenly,
)
from underfire.core.hashing import digest_of, spell
from underfire.core.precision import FULL
from underfire.images import targets
from underfire.metrics.yardstick_file import YardstickFile
from underfire.plan.cost import UNIT_PASSES, Lane
from underfire.plan.keys import key_settings, settings_digest
from underfire.plan.settings import UNIT_ROWS, Settings

UNIT_PHOTOS = {ForgeUnit.stage: 64, ScaleUnit.stage: UNIT_ROWS}
"""Photos of one unit at most: a worker holds their PNGs and maps in memory (some 0.3 MB for each photo)."""
SHARES = 256
"""Number of units of a large audit at least, so that as many workers have something to do."""
TAPER = 16
"""The last sixteenth of an audit is cut into units of a quarter: workers that finish early still find some."""
SCALE_PHOTOS = {"mask": 16}
"""Photos that clean maps are measured on, where not on all: a MASK map costs 900 F (method, section 5.5)."""
CUT = 2
"""Version of the rule by which units are cut. It is part of the key."""
SEARCH = 2
"""Version of what a search computes in a precision other than float32; rounding alone is no other version."""
WALK = 2
"""Version of how a search walks in the pixels of files; one more where the walk begins anew with the map."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan of an audit: everything that its units follow from.

    Args:
        settings: the settings, filled in.
        job: what all units share.
        photos: the photos that are attacked.
        weights_digest: digest of the victim's weights.
        classes_digest: digest of the names of the classes.
        cell_passes: F of an image at most for each of the job's cells: the search and its judgements.
        lanes: the interpreters that share units.
        scale_passes: F of a photo for two clean maps, under all interpreters: by it the units of clean maps are cut.
        defense_digest: digest of the defense's file; '' without one.
    """

    settings: Settings
    job: Job
    photos: tuple[Photo, ...]
    weights_digest: str
    classes_digest: str
    cell_passes: tuple[float, ...]
    lanes: tuple[Lane, ...]
    scale_passes: float
    defense_digest: str = ""
    left_out: tuple[str, ...] = ()
    """What looks like photos and is not taken: a sentence for each reason."""
    targets: tuple[str | int, ...] = ()
    """The targets of each photo, where there are several; else the job's."""
    shown: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """How photos become the classifier's input, which weights of its file it has, and what was found in the file: what
    its digest stands for."""
    yardsticks: Mapping[str, YardstickFile] = dataclasses.field(default_factory=dict)
    """Interpreter -> what its maps are judged with on reading. It changes no unit."""
    unit_passes: float = UNIT_PASSES["cpu"]
    """F that a unit costs at most: those of the device that the audit was begun on, whoever goes on with it."""

    @property
    def image_passes(self) -> float:
        """F of an image at most, clean maps and judgements included."""
        return sum(lane.passes for lane in self.lanes)

    @property
    def rows(self) -> int:
        """Number of judgements of the whole audit."""
        return self.attacked * sum(lane.rows for lane in self.lanes)

    @property
    def attacked(self) -> int:
        """Number of attacks of each kind: photos times trials."""
        return len(self.photos) * len(self.trials)

    @cached_property
    def trials(self) -> tuple[Job, ...]:
        """The job with each target and each seed.

        A target that is not drawn gets further seeds only if some attack draws: the others would do the same again.
        """
        first, more = self.job.seed, self.settings.seeds or 1
        drawn = self.job.target_map.value == "random" or self.job.target_map.kind == "shape"
        drawn = drawn or any(getattr(cell.attack, "draws", True) for cell in self.job.cells)
        return tuple(
            dataclasses.replace(self.job, target=target, seed=first + i)
            for target in self.targets or (self.job.target,)
            for i in range(more if drawn or target == "random" else 1)
        )

    def all_units(self) -> Iterator[Unit]:
        """Yield all units, the short ones first."""
        yield from self.scale_units()
        yield from self.units()

    def units(self) -> Iterator[ForgeUnit]:
        """Yield the units that forge and judge, mixed so that at any time all lanes have come equally far."""
        cuts = [self._shares(lane, trial) for trial in self.trials for lane in self.lanes]
        for i, (_, _, lane, trial, photos) in enumerate(heapq.merge(*cuts, key=lambda cut: cut[:2])):
            job = dataclasses.replace(trial, interpreters=lane.interpreters, cells=lane.cells)
            name = f"{i:06d}-{self._key(ForgeUnit.stage, photos, job)}"
            yield ForgeUnit(name, photos, job, lane.batch, self._references(photos, job))

    def _shares(self, lane: Lane, trial: Job) -> Iterator[tuple[float, float, Lane, Job, tuple[Photo, ...]]]:
        """Yield a lane's units with their order: the share of photos before a unit, then the costlier lane first."""
        done, n = 0, len(self.photos)
        for size in unit_sizes(n, lane.batch, self._most(ForgeUnit.stage, lane.passes)):
            yield done / n, -lane.passes, lane, trial, self.photos[done : done + size]
            done += size

    def _most(self, stage: str, passes: float) -> int:
        return min(UNIT_PHOTOS[stage], int(self.unit_passes / max(1.0, passes)))

    def scale_units(self) -> Iterator[ScaleUnit]:
        """Yield the units that measure clean maps and their natural copies, for interpreters without a yardstick."""
        for name in (one for one in self.job.interpreters if one not in self.yardsticks):
            photos = evenly(self.photos, SCALE_PHOTOS.get(name))
            job = dataclasses.replace(self.job, interpreters=(name,), cells=())
            batch = next(lane.batch for lane in self.lanes if name in lane.interpreters)
            done = 0
            for i, size in enumerate(unit_sizes(len(photos), batch, self._most(ScaleUnit.stage, self.scale_passes))):
                part = photos[done : done + size]
                done += size
                yield ScaleUnit(f"{i:06d}-{name}-{self._key(ScaleUnit.stage, part, job)}", part, job, batch)

    def _references(self, photos: tuple[Photo, ...], job: Job) -> tuple[Photo, ...]:
        """Find the photos whose maps are the target maps; none where the target maps are no maps of photos."""
        target = self.job.target_map
        if target.kind != "image":
            return ()
        if target.value == "random":
            return tuple(targets.draw_photo(job.seed, photo, self.photos) for photo in photos)
        return (Photo(str(target.value), target.digest),) * len(photos)

    def _key(self, stage: str, photos: tuple[Photo, ...], job: Job) -> str:
        content = {
            "schema": NUMBERS_VERSION,
            "stage": stage,
            "audit": self.digest,
            "interpreters": job.interpreters,
            "photos": [(photo.path, photo.sha256) for photo in photos],
        }
        if stage == ForgeUnit.stage and len(self.trials) > 1:
            content["trial"] = (job.target, job.seed)
        return digest_of(content)[:16]

    @cached_property
    def digest(self) -> str:
        """The digest of everything that changes a number."""
        content = {
            "settings": self.key_settings(),
            "weights": self.weights_digest,
            "photos": self.photos_digest,
            "classes": self.classes_digest,
            "target_map": self.job.target_map.key,
            "defense": self.defense_digest,
            "attacks": [(spell(cell.attack), cell.against) for cell in self.job.cells],
            "units": [(lane.interpreters, lane.batch) for lane in self.lanes],
            "cut": CUT,
        }
        if self.job.rulers:
            content["rulers"] = {name: one.name for name, one in self.job.rulers.items()}
        if self.job.precision != FULL:
            content["search"] = SEARCH
        if self.job.at == "file":
            anew = any(getattr(getattr(cell.attack, "space", None), "restarts", False) for cell in self.job.cells)
            content["walk"] = WALK + anew
        return digest_of(content)

    @cached_property
    def photos_digest(self) -> str:
        """The digest of the paths and the contents of all photos."""
        return digest_of([(photo.path, photo.sha256) for photo in self.photos])

    def key_settings(self) -> dict[str, Any]:
        """Return the settings that go into the key."""
        return key_settings(self.settings)

    def dump(self) -> str:
        """Write plan.yaml: the settings, filled in, and what they were resolved to."""
        resolved = {
            "photos": len(self.photos),
            "photos_digest": self.photos_digest,
            **self.shown,
            "weights_digest": self.weights_digest,
            "classes_digest": self.classes_digest,
            "target_map_digest": self.job.target_map.key,
            "defense_digest": self.defense_digest,
            "units": sum(1 for _ in self.units()),
            "rows": self.rows,
            "unit_passes": int(self.unit_passes),
            "scale_units": sum(1 for _ in self.scale_units()),
            "yardsticks": {name: one.digest for name, one in self.yardsticks.items()},
            "settings_digest": settings_digest(self.settings),
            "plan_digest": self.digest,
        }
        content = self.settings.model_dump(mode="json", exclude_none=True, exclude={"resolved"}) | {
            "resolved": resolved
        }
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def unit_sizes(n: int, batch: int, most: int) -> Iterator[int]:
    """Yield the sizes of the units that ``n`` photos are cut into: equal shares, with smaller ones at the end.

    The sizes do not depend on the workers.

    Args:
        n: number of photos.
        batch: photos that share a batch.
        most: photos of a unit at most, but never less than one batch.
    """
    size = batch * max(1, min(most // batch, n // (SHARES * batch)))
    tail = n // TAPER if size >= 4 else 0
    for part, largest in ((n - tail, size), (tail, max(1, size // 4))):
        parts = -(-part // largest)
        for i in range(parts):  # equal shares, so that the last unit is not a very small one
            yield (i + 1) * part // parts - i * part // parts
