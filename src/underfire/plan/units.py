"""The plan and its units, cut from it alone.

Two runs with the same plan have the same units with the same names. A name carries a key: the digest of all that
changes numbers (weights, image digests, filled-in settings, seed, threads, schema) and of nothing that does not (device
name, worker count, order).
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
from underfire.images import targets
from underfire.plan.cost import UNIT_PASSES, Lane, by_device
from underfire.plan.settings import UNIT_ROWS, Settings, key_settings

UNIT_PHOTOS = {ForgeUnit.stage: 64, ScaleUnit.stage: UNIT_ROWS}
"""At most so many photos in one unit: a worker holds their PNGs and maps in memory (some 0.3 MB a photo)."""
SHARES = 256
"""A large audit is cut into at least so many units, so that as many workers have something to do."""
TAPER = 16
"""The last of so many parts of an audit is cut into quarters of units: workers that end early have something left."""
SCALE_PHOTOS = {"mask": 16}
"""Photos that the untouched scale is measured on, where not all of them: one MASK map costs 900 F (method, 5.5)."""
CUT = 2
"""Version of the rule that units are cut by: units of another rule are other units."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """An audit, filled in: everything that the units follow from."""

    settings: Settings
    job: Job
    photos: tuple[Photo, ...]
    weights_digest: str
    classes_digest: str
    cell_passes: tuple[float, ...]
    """F an image costs at most for each of the job's cells: the search and its judgements."""
    lanes: tuple[Lane, ...]
    scale_passes: float
    defense_digest: str = ""
    shown: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """How photos become the classifier's input, and which weights of its file it has: what its digest stands for."""

    @property
    def image_passes(self) -> float:
        """F an image costs at most, clean maps and judgements included."""
        return sum(lane.passes for lane in self.lanes)

    @property
    def rows(self) -> int:
        """Judgements of the whole audit."""
        return len(self.photos) * sum(lane.rows for lane in self.lanes)

    def all_units(self) -> Iterator[Unit]:
        """Everything that there is to do, the short units first."""
        yield from self.scale_units()
        yield from self.units()

    def units(self) -> Iterator[ForgeUnit]:
        """The forge-and-judge units, interleaved so that at any time each lane has come equally far."""
        cuts = [self._shares(lane) for lane in self.lanes]
        for i, (_, _, lane, photos) in enumerate(heapq.merge(*cuts, key=lambda cut: cut[:2])):
            job = dataclasses.replace(self.job, interpreters=lane.interpreters, cells=lane.cells)
            name = f"{i:06d}-{self._key(ForgeUnit.stage, photos, job)}"
            yield ForgeUnit(name, photos, job, lane.batch, self._partners(photos))

    def _shares(self, lane: Lane) -> Iterator[tuple[float, float, Lane, tuple[Photo, ...]]]:
        """The lane's units with the share of the photos that comes before each; where equal, the costly lane first."""
        done, n = 0, len(self.photos)
        for size in unit_sizes(n, lane.batch, self._most(ForgeUnit.stage, lane.passes)):
            yield done / n, -lane.passes, lane, self.photos[done : done + size]
            done += size

    def _most(self, stage: str, passes: float) -> int:
        return min(UNIT_PHOTOS[stage], int(by_device(UNIT_PASSES, self.job.device) / max(1.0, passes)))

    def scale_units(self) -> Iterator[ScaleUnit]:
        """The units that measure what JPEG does to clean maps."""
        for name in self.job.interpreters:
            photos = evenly(self.photos, SCALE_PHOTOS.get(name))
            job = dataclasses.replace(self.job, interpreters=(name,), cells=())
            batch = next(lane.batch for lane in self.lanes if name in lane.interpreters)
            done = 0
            for i, size in enumerate(unit_sizes(len(photos), batch, self._most(ScaleUnit.stage, self.scale_passes))):
                part = photos[done : done + size]
                done += size
                yield ScaleUnit(f"{i:06d}-{name}-{self._key(ScaleUnit.stage, part, job)}", part, job, batch)

    def _partners(self, photos: tuple[Photo, ...]) -> tuple[Photo, ...]:
        """The photos whose maps are wanted, where target maps come from photos."""
        target = self.job.target_map
        if target.kind != "image":
            return ()
        if target.value == "random":
            return tuple(targets.draw_photo(self.job.seed, photo, self.photos) for photo in photos)
        return (Photo(str(target.value), target.digest),) * len(photos)

    def _key(self, stage: str, photos: tuple[Photo, ...], job: Job) -> str:
        content = {
            "schema": NUMBERS_VERSION,
            "stage": stage,
            "audit": self.digest,
            "interpreters": job.interpreters,
            "photos": [(photo.path, photo.sha256) for photo in photos],
        }
        return digest_of(content)[:16]

    @cached_property
    def digest(self) -> str:
        """Of all that changes numbers."""
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
        return digest_of(content)

    @cached_property
    def photos_digest(self) -> str:
        """Of all photos' paths and contents."""
        return digest_of([(photo.path, photo.sha256) for photo in self.photos])

    def key_settings(self) -> dict[str, Any]:
        """The settings that change numbers."""
        return key_settings(self.settings)

    def dump(self) -> str:
        """plan.yaml: the settings filled in, and what they were resolved to."""
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
            "scale_units": sum(1 for _ in self.scale_units()),
            "plan_digest": self.digest,
        }
        content = self.settings.model_dump(mode="json", exclude_none=True, exclude={"resolved"}) | {
            "resolved": resolved
        }
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def unit_sizes(n: int, batch: int, most: int) -> Iterator[int]:
    """Cut ``n`` photos into units of whole batches, equal but for smaller ones at the end, whatever the workers are.

    Args:
        n: photos.
        batch: photos that share a batch.
        most: photos that a unit should hold at most; one batch in any case.
    """
    size = batch * max(1, min(most // batch, n // (SHARES * batch)))
    tail = n // TAPER if size >= 4 else 0
    for part, largest in ((n - tail, size), (tail, max(1, size // 4))):
        parts = -(-part // largest)
        for i in range(parts):  # equal shares: the last batch is no straggler
            yield (i + 1) * part // parts - i * part // parts
