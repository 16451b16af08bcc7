"""The cost of an image in passes and memory, and the interpreters that share units because of it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

from underfire.core import FAILURES, Cell, Classifier, Interpreter, refused
from underfire.plan.settings import UNIT_ROWS

FIRST_ORDER = 3.0
"""F of a step that takes first derivatives only."""
SMALLEST_SEARCHES = 3.0
"""What the smallest budget costs at most, in searches at the largest one (trial/smallest)."""
MEMORY_SHARE = 4
"""A batch may take one quarter of the memory."""
SPLIT = 0.1
"""An interpreter gets units of its own where this costs at most this share more.

There the attacks on the prediction are forged again.
"""
UNIT_IMAGES = {"cpu": 8, "mps": 16, "cuda": 64}
"""Images that share a batch where the cost allows it: a CPU gains nothing beyond 8 (on EfficientNet-Lite0)."""
UNIT_PASSES = {"cpu": 40_000, "mps": 200_000, "cuda": 1_500_000}
"""F that a unit should cost at most. A kill loses one unit: some ten minutes on two CPU cores, or on one GPU."""


def lanes_of(
    cells: tuple[Cell, ...],
    interpreters: Mapping[str, Interpreter],
    batch_size: int,
    unit_passes: float,
    goal_maps: int,
    alarm_passes: float,
) -> Iterator[Lane]:
    """Yield the lane of the interpreters that share units, then those of interpreters with units of their own.

    Args:
        cells: the attacks.
        interpreters: the judges, by name.
        batch_size: photos that share a batch, at most.
        unit_passes: F that a unit costs at most.
        goal_maps: maps of each interpreter before the attack: the benign one, and a target map if it is another one.
        alarm_passes: F of asking the alarm about one image.
    """
    alone = [bound_of(cell, FIRST_ORDER) for cell in cells if cell.against is None]
    shared = 1 + sum(alone)
    own = {name: _own_passes(cells, i, len(alone), goal_maps) for name, i in interpreters.items()}
    costly = [name for name in interpreters if shared <= SPLIT * own[name]]
    together = tuple(name for name in interpreters if name not in costly)
    for names in ([together] if together else []) + [(name,) for name in costly]:
        chosen = tuple(cell for cell in cells if cell.against is None or cell.against in names)
        rows = len(alone) * len(names) + len(chosen) - len(alone)
        passes = shared + sum(own[name] for name in names) + alarm_passes * (1 + len(chosen))
        lane = Lane(names, chosen, passes, rows, batch_size)
        yield dataclasses.replace(lane, batch=min(batch_size, lane.largest(unit_passes)))


def _own_passes(cells: tuple[Cell, ...], interpreter: Interpreter, alone: int, goal_maps: int) -> float:
    """Compute the F of an image for one interpreter alone: its clean maps, its attacks, its judgements."""
    judged = 1 + interpreter.map_passes
    against = [bound_of(cell, interpreter.step_passes) for cell in cells if cell.against == interpreter.name]
    return goal_maps * interpreter.map_passes + judged * (alone + len(against)) + sum(against)


def bound_of(cell: Cell, step_passes: float) -> float:
    """Compute the most F that an image can cost in a cell: the smallest budget costs up to three searches."""
    return cell.attack.bound(step_passes) * (SMALLEST_SEARCHES if cell.smallest else 1)


def batch_that_fits(classifier: Classifier, device: str, workers: int, step_passes: float) -> int:
    """Estimate how many images a step can take together within a quarter of the memory.

    A first-order step holds 1.5 times what the forward saves for its backward; a second-order step, three times as
    much (measured on EfficientNet-Lite0: 69 and 172 MB for each image).

    Args:
        classifier: the classifier, on its device.
        device: where it computes.
        workers: processes that share the memory.
        step_passes: F of a step; more than 3 means a second-order step.
    """
    import torch  # noqa: PLC0415

    saved = 0

    def count(t: torch.Tensor) -> torch.Tensor:
        nonlocal saved
        saved += t.numel() * t.element_size()
        return t

    shape = classifier.preprocess.shape
    with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
        try:
            classifier.logits(torch.zeros(1, *shape, device=device, requires_grad=True))
        except FAILURES as e:
            raise refused(classifier.name, shape[1:], e) from e
    weights = sum(p.numel() * p.element_size() for p in _parameters(classifier))  # saved too, but once for all images
    image = max(1, saved - weights) * (1.5 if step_passes <= FIRST_ORDER else 4.5)
    return max(1, int(_memory(device) / MEMORY_SHARE / workers / image))


def _parameters(classifier: Classifier) -> Iterator[Any]:
    module: Any = getattr(classifier, "module", None)
    return iter(module.parameters()) if module is not None else iter(())


def _memory(device: str) -> int:
    import torch  # noqa: PLC0415

    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def by_device(table: Mapping[str, float], device: str) -> float:
    """Look up the kind of a device in a table; a kind that is not in it counts as a CPU."""
    return table.get(device.partition(":")[0], table["cpu"])


@dataclasses.dataclass(frozen=True)
class Lane:
    """Interpreters whose work is cut into units together: they share clean predictions and forged images.

    An image costs a hundred times more under MASK than under CAM. In one unit with MASK, CAM would be cut as small.

    Args:
        interpreters: their names.
        cells: the attacks.
        passes: F of an image at most.
        rows: judgements of an image.
        batch: images that share a batch.
    """

    interpreters: tuple[str, ...]
    cells: tuple[Cell, ...]
    passes: float
    rows: int
    batch: int

    def largest(self, unit_passes: float) -> int:
        """Give the largest batch that a unit can have, by its cost and its rows.

        Args:
            unit_passes: F that a unit costs at most.
        """
        return max(1, min(int(unit_passes / self.passes), UNIT_ROWS // max(1, self.rows)))
