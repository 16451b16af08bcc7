"""Cost: what an image takes in passes and memory, and which interpreters share units."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from typing import Any

from underfire.core import FAILURES, Cell, Classifier, Interpreter, refused
from underfire.plan.settings import UNIT_ROWS

FIRST_ORDER = 3.0
"""F of a step that takes first derivatives only."""
MEMORY_SHARE = 4
"""A batch may take one part in so many of the memory."""
SPLIT = 0.1
"""An interpreter gets units of its own where forging the attacks on the prediction again adds at most this share."""
UNIT_PASSES = {"cpu": 40_000, "mps": 200_000, "cuda": 1_500_000}
"""F that a unit should cost at most (some ten minutes on two CPU cores, or on one GPU): what a kill loses."""


def lanes_of(
    cells: tuple[Cell, ...],
    interpreters: Mapping[str, Interpreter],
    batch_size: int,
    device: str,
    goal_maps: int,
    alarm_passes: float,
) -> Iterator[Lane]:
    """The interpreters that share units, then those that have units of their own."""
    alone = [cell.attack.bound(FIRST_ORDER) for cell in cells if cell.against is None]
    shared = 1 + sum(alone)
    own = {name: _own_passes(cells, i, len(alone), goal_maps) for name, i in interpreters.items()}
    costly = [name for name in interpreters if shared <= SPLIT * own[name]]
    together = tuple(name for name in interpreters if name not in costly)
    for names in ([together] if together else []) + [(name,) for name in costly]:
        chosen = tuple(cell for cell in cells if cell.against is None or cell.against in names)
        rows = len(alone) * len(names) + len(chosen) - len(alone)
        passes = shared + sum(own[name] for name in names) + alarm_passes * (1 + len(chosen))
        by_cost = min(int(by_device(UNIT_PASSES, device) / passes), UNIT_ROWS // max(1, rows))
        yield Lane(names, chosen, passes, rows, max(1, min(batch_size, by_cost)))


def _own_passes(cells: tuple[Cell, ...], interpreter: Interpreter, alone: int, goal_maps: int) -> float:
    """F of an image for what concerns this interpreter only: its clean maps, its attacks, its judgements."""
    judged = 1 + interpreter.map_passes
    against = [cell.attack.bound(interpreter.step_passes) for cell in cells if cell.against == interpreter.name]
    return goal_maps * interpreter.map_passes + judged * (alone + len(against)) + sum(against)


def batch_that_fits(classifier: Classifier, device: str, workers: int, step_passes: float) -> int:
    """Images whose step takes at most a quarter of the memory that there is.

    A first-order step holds what the forward saves for its backward, once more while it runs; a second-order one three
    times as much (measured on EfficientNet-Lite0: 69 and 172 MB an image).
    """
    import torch  # noqa: PLC0415

    saved = 0

    def count(t: torch.Tensor) -> torch.Tensor:
        nonlocal saved
        saved += t.numel() * t.element_size()
        return t

    size = classifier.preprocess.input_size
    with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
        try:
            classifier.logits(torch.zeros(1, 3, size, size, device=device, requires_grad=True))
        except FAILURES as e:
            raise refused(classifier.name, size, e) from e
    weights = sum(p.numel() * p.element_size() for p in _parameters(classifier))  # saved too, but once for a batch
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
    """Look a device's kind up in a table; a kind that is not there counts as a CPU."""
    return table.get(device.partition(":")[0], table["cpu"])


@dataclasses.dataclass(frozen=True)
class Lane:
    """Interpreters whose work is cut into units together, since they share what is forged and what is clean.

    A MASK image costs a hundred times what a CAM one does: in one unit with it, CAM would be cut as fine as MASK.
    """

    interpreters: tuple[str, ...]
    cells: tuple[Cell, ...]
    passes: float
    """F an image costs at most."""
    rows: int
    """Judgements an image gets."""
    batch: int
    """Images that share a batch."""
