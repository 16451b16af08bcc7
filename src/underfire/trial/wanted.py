"""Goal maps: the benign map of each photo under an interpreter, and the map that is wanted in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from underfire.core import Interpreter, Job, Maps, Photo
from underfire.images import targets
from underfire.interpreters.checked import benign, explain, spread
from underfire.trial.batch import Batch, GoalMaps
from underfire.trial.system import System


def goal_maps(system: System, job: Job, batch: Batch, interpreter: Interpreter) -> GoalMaps:
    """Find the benign and the target maps of a batch, and say which of its photos lack one."""
    with system.classifier.meter.counting(len(batch)) as spent:
        own, lacking = benign(interpreter, batch.x, batch.source)
    lost = {} if batch.reference is None else batch.reference.errors
    maps = GoalMaps(own, own, spent.passes, {**lost, **batch.told(lacking)})
    keep = batch.outside(maps.errors)
    if job.target_map.kind == "benign" or not bool(keep.any()):
        return maps
    known = batch.select(keep)
    if known.reference is None:
        drawn = _drawn(job, known.photos, (own.shape[1], own.shape[2]))
        return replace(maps, wanted=spread(drawn, keep, len(batch)))
    with system.classifier.meter.counting(len(known)) as more:
        found, lacking = explain(interpreter, known.reference.x, known.reference.y)
    passes = maps.passes + torch.zeros_like(maps.passes).masked_scatter(keep, more.passes)
    errors = {**maps.errors, **known.told(lacking, "its target map: ")}
    return GoalMaps(own, spread(found, keep, len(batch)), passes, errors)


def _drawn(job: Job, photos: Sequence[Photo], size: tuple[int, int]) -> Maps:
    """Draw target maps (N, h, w) that are no map of anything: a shape at a place of each photo's own, or a file."""
    target = job.target_map
    if target.kind == "shape":
        return torch.from_numpy(np.stack([targets.draw_shape(str(target.value), job.seed, p, size) for p in photos]))
    return torch.from_numpy(targets.read_map(target, size)).expand(len(photos), -1, -1)
