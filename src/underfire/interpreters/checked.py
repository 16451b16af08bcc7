"""Maps of an interpreter, checked, whoever wrote it; a bad image does not stop the others."""

from __future__ import annotations

import torch
from torch import Tensor

from underfire.core import ImageErrors, Images, Interpreter, Labels, Maps, UnderfireError
from underfire.core.precision import judging
from underfire.images.maps import flat


def explain(interpreter: Interpreter, x: Images, y: Labels) -> tuple[Maps, dict[int, str]]:
    """Ask an interpreter for maps, and check them.

    Args:
        interpreter: any interpreter.
        x: images (N, 3, H, W).
        y: classes (N,).

    Returns:
        Maps (N, h, w) in float64 on the CPU, NaN where an image has none; and by row, why it has none.

    Raises:
        UnderfireError: the interpreter returns another shape, or values outside [0, 1].
    """
    rows, errors = torch.arange(len(x), device=x.device), dict[int, str]()
    found = torch.zeros(0, 0, 0, dtype=torch.float64)
    while len(rows):
        try:
            found = _asked(interpreter, x[rows], y[rows])
            break
        except ImageErrors as e:
            if not e.by_row:
                raise
            errors |= {int(rows[row]): reason for row, reason in e.by_row.items()}
            rows = torch.tensor([r for r in rows.tolist() if r not in errors], device=x.device, dtype=torch.int64)
    m = spread(found, rows.cpu(), len(x))
    for row in rows.tolist():
        if not bool(m[row].isfinite().all()):
            errors[row] = f"{interpreter.name} gave a map that is not finite for this image."
    return m, errors


def benign(interpreter: Interpreter, x: Images, y: Labels) -> tuple[Maps, dict[int, str]]:
    """Ask for maps of clean images, as `explain` does; a map that is the same everywhere is an error too."""
    m, errors = explain(interpreter, x, y)
    for row in flat(m).nonzero()[:, 0].tolist():
        errors.setdefault(row, f"{interpreter.name}'s map is the same everywhere, so there is nothing to keep or move.")
    return m, errors


def spread(maps: Maps, keep: Tensor, n: int) -> Maps:
    """Spread maps over ``n`` rows: the rows ``keep`` (bool (n,) or int indices) get them, the others NaN."""
    m = maps.new_full((n, *maps.shape[1:]), torch.nan)
    m[keep] = maps
    return m


def _asked(interpreter: Interpreter, x: Images, y: Labels) -> Maps:
    with judging(), torch.autocast(x.device.type, enabled=False):  # float32, also in somebody's own autocast
        m = interpreter.explain(x, y)
    if m.dim() != 3 or len(m) != len(x):
        raise UnderfireError(
            f"Interpreter '{interpreter.name}' returned {tuple(m.shape)} for {len(x)} images: it must be (N, h, w)."
        )
    finite = m[m.isfinite()]
    if len(finite) and (float(finite.min()) < -1e-6 or float(finite.max()) > 1 + 1e-6):
        raise UnderfireError(
            f"Interpreter '{interpreter.name}' returned values outside [0, 1]: scale its maps (maps.unit_scale)."
        )
    return m.detach().double().cpu()
