"""Audits by hand, for tests of what is decided on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from support.rows import row
from underfire.core import Record, Scale
from underfire.store import Store

FAR, NEAR, JPEG = 0.2, 0.01, 0.05
"""map_l1 of a map that has moved, of one that looks untouched, and what JPEG does to the clean maps."""


def rows(forged: Sequence[bool | None], attack: str = "adv2", judge: str = "cam", **more: Any) -> list[Record]:
    """One row a photo: forged or not; None for a photo with an error."""
    return [
        row(i, attack, judge, judge, **({"error": "its map is not finite."} if yes is None else _good(i, yes)) | more)
        for i, yes in enumerate(forged)
    ]


def _good(i: int, yes: bool) -> dict[str, Any]:
    return {"map_l1": (NEAR if yes else FAR) * (1 + i / 1000), "map_iou": 0.9 if yes else 0.2 + i / 1000}


def audit(
    folder: Path, records: Sequence[Record], scale: float | None = JPEG, units: int = 1, failed: int = 0, **plan: Any
) -> Path:
    """A folder of an audit with these records.

    Args:
        folder: where it goes.
        records: its rows.
        scale: L1 of every clean map after JPEG; None where it is not measured yet.
        units: units that are planned; one is done.
        failed: units that have failed.
        plan: more settings.
    """
    judges = list(dict.fromkeys(record.interpreter for record in records))
    with Store(folder).open() as store:
        store.put("records", "000000-0123456789abcdef", records, {}, {"torch": "2.9", "timm": "1.0"})
        for i in range(failed):
            store.put_failed("records", f"{i + 1:06d}-0123456789abcdef", [], {})
        if scale is not None:
            store.put(
                "scale",
                "000000-cam-0123456789abcdef",
                [Scale(f"a/{i}&.png", f"{i:064d}", j, scale) for j in judges for i in range(5)],
                {},
                {},
            )
    content = {"images": "photos", "classifier": "toynet", "resolved": {"units": units, "scale_units": 1}, **plan}
    (folder / "plan.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


def shares(yes: int, n: int) -> list[bool | None]:
    """``yes`` photos that are forged, of ``n``."""
    return [i < yes for i in range(n)]
