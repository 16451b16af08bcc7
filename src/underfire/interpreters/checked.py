"""Ask an interpreter for maps and check them, whoever wrote it; one image's error does not stop the others."""

from __future__ import annotations

import torch
from torch import Tensor

from underfire.core import ImageErrors, Images, Interpreter, Maps, UnderfireError


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
