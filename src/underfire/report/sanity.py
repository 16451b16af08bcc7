"""What the sanity checks of the attack say: OUT/sanity/NAME, small audits (audit/sanity), as a table. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from underfire.core import LEVELS
from underfire.core.place import Place
from underfire.report.text import number
from underfire.store import open_results

FOLDER = "sanity"
Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Check:
    """A property that every sound attack has.

    Args:
        claim: what should be so.
        found: what was seen.
        passed: whether it is so; None where nothing was measured.
    """

    claim: str
    found: str
    passed: bool | None


def sanity(out: Place) -> list[Check]:
    """Read the checks of an audit; empty where none were run."""
    where = out / FOLDER
    of = {name: _rows(where / name) for name in ("step", "longer")}
    plan = {f"eps-{eps}": _rows(where / f"eps-{eps}") for eps in range(1, LEVELS + 1) if _begun(where / f"eps-{eps}")}
    if not plan:
        return []
    budgets = [(int(name.removeprefix("eps-")), rows) for name, rows in plan.items()]
    own = {row["eps"] for row in of["longer"]}  # the audit's own ε; others may be smaller
    usual = next((rows for eps, rows in budgets if eps in own), budgets[0][1])
    return [
        _unbounded(budgets),
        _rises(budgets),
        _longer(usual, of["longer"]),
        *_beats(usual, of["step"]),
    ]


def checked_photos(out: Place) -> int:
    """Count the photos of the checks."""
    return len({row["image"] for row in _rows(out / FOLDER / "step")})


def _begun(folder: Place) -> bool:
    return (folder / "plan.yaml").is_file()


def _rows(folder: Place) -> Rows:
    return [row for row in open_results(folder).rows() if row["error"] is None] if _begun(folder) else []


def _of(rows: Rows, attack: str) -> Rows:
    return [row for row in rows if row["attack"] == attack]


def _hits(rows: Rows, attack: str = "pgd") -> int:
    return sum(bool(row["success"]) for row in _of(rows, attack))


def _said(rows: Rows, attack: str = "pgd") -> str:
    return f"{_hits(rows, attack)} of {len(_of(rows, attack))}"


def _unbounded(budgets: Sequence[tuple[int, Rows]]) -> Check:
    eps, rows = budgets[-1]
    n = len(_of(rows, "pgd"))
    passed = _hits(rows) == n if n and eps == LEVELS else None
    return Check("Without a bound the attack always reaches its class.", f"{_said(rows)} at ε = {eps}/255", passed)


def _rises(budgets: Sequence[tuple[int, Rows]]) -> Check:
    hits = [_hits(rows) for _, rows in budgets]
    said = ", ".join(f"{_said(rows)} at {eps}" for eps, rows in budgets)
    sizes = {len(_of(rows, "pgd")) for _, rows in budgets}
    passed = hits == sorted(hits) if len(sizes) == 1 and len(hits) > 1 and 0 not in sizes else None
    return Check("Success never falls as ε grows.", said, passed)


def _longer(usual: Rows, longer: Rows) -> Check:
    there = len(_of(usual, "pgd")) == len(_of(longer, "pgd")) > 0
    found = f"{_said(longer)} with four times the steps, {_said(usual)} as usual"
    return Check("More steps never hurt.", found, _hits(longer) >= _hits(usual) if there else None)


def _beats(usual: Rows, step: Rows) -> list[Check]:
    noise = len(_of(usual, "noise"))
    gains = _gains(step)
    won = sum(gained > chance for gained, chance in gains)
    mean = [sum(column) / len(gains) for column in zip(*gains, strict=True)] if gains else [None, None]
    return [
        Check(
            "The attack beats random noise of the same size.",
            f"{_said(usual)} reach the class, {_said(usual, 'noise')} by noise",
            _hits(usual) > _hits(usual, "noise") if noise else None,
        ),
        Check(
            "The gradient shows the way: it is not masked.",
            f"one step of one level along the gradient raises the class’s probability more than noise of one level on "
            f"{won} of {len(gains)} photos (mean {number(mean[0])}, noise {number(mean[1])})",
            2 * won > len(gains) if gains else None,
        ),
    ]


def _gains(rows: Rows) -> list[tuple[float, float]]:
    """Probability of the target class after one step along the gradient, and after noise, for each photo."""
    chance = {row["image"]: row["confidence"] for row in _of(rows, "noise")}
    return [(row["confidence"], chance[row["image"]]) for row in _of(rows, "pgd") if row["image"] in chance]
