"""The section of a defense: rates with and without its alarm, ROC curves, sample verdicts. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from underfire.images.overlay import uri
from underfire.metrics.detection import auc, detection, roc
from underfire.metrics.estimate import rate
from underfire.report import charts
from underfire.report.findings import Findings, Line, select
from underfire.report.gallery import FILE, read_photo
from underfire.report.text import number, pretty

RATES = (0.05, 0.01)
"""Shares of false alarms at which detection is told, where there are enough original photos."""
KNOWING = "ensemble"
"""The interpreter that an adaptive attack is made against, whatever the defense."""
THUMBNAIL = 96
"""Side of a verdict's picture, px."""


def defended(found: Findings) -> dict[str, Any] | None:
    """Return what the section says; None where no judge was defended."""
    panels = [panel for panel in found.panels if panel.lines[0].cell["defense"] != "none"]
    rows = _with_verdict(found.table)
    if not panels or not rows.num_rows:
        return None
    benign = _benign(rows)
    lines = [line for panel in panels for line in panel.lines]
    tables = {line.key: _with_verdict(select(rows, **line.cell)) for line in lines}
    scores = {key: table["alarm_score"].to_pylist() for key, table in tables.items()}
    shown = {label: line for label, line in _by_attack(lines).items() if scores[line.key]}
    return {
        "kind": ", ".join(found.distinct("defense")),
        "threshold": rows["alarm_threshold"][0].as_py(),
        "passes": pc.mean(rows["alarm_passes"]).as_py(),
        "expected": rows["alarm_expected"][0].as_py(),
        "bound": rows["alarm_bound"][0].as_py(),
        "false_alarms": rate(benign["clean_alarm"]),
        "panels": panels,
        "rates": RATES,
        "blind": [(label, line) for label, line in shown.items() if line.cell["against"] != KNOWING],
        "knowing": [(label, line) for label, line in shown.items() if line.cell["against"] == KNOWING],
        "aim": found.plan.get("options", {}).get(KNOWING, {}).get("attack", {}).get("aim"),
        "verdicts": [v for label, line in shown.items() for v in _verdicts(found, label, tables[line.key])],
        **_detection(benign, scores, {key: table["image"].to_pylist() for key, table in tables.items()}, shown),
    }


def _detection(
    originals: Mapping[str, Sequence[Any]],
    scores: Mapping[str, Sequence[float | None]],
    photos: Mapping[str, Sequence[str]],
    shown: Mapping[str, Line],
) -> dict[str, Any]:
    """Say how well the score separates attacked photos from other photos; ``scores`` and ``photos`` by lines' keys."""
    benign, own = originals["clean_alarm_score"], originals["image"]
    aucs = {key: auc(benign, attacked, photos=(own, photos[key])) for key, attacked in scores.items()}
    curves = [roc(benign, scores[line.key]) for line in shown.values()]
    about = "; ".join(f"{label}: AUC {number(aucs[line.key].value)}" for label, line in shown.items())
    return {
        "auc": aucs,
        "detection": {
            key: [detection(benign, attacked, a, (own, photos[key])) for a in RATES] for key, attacked in scores.items()
        },
        "keys": [(label, i % charts.COLOURS) for i, label in enumerate(shown)],
        "roc": charts.roc(
            [(c.false_alarms, c.found) for c in curves],
            "defense-roc",
            f"Alarms on attacked over benign photos. {about}.",
        ),
    }


def _with_verdict(table: pa.Table) -> pa.Table:
    return table.filter(pc.is_valid(table["alarm"]))


def _benign(rows: pa.Table) -> dict[str, list[Any]]:
    """Return scores and alarms of the original photos, each photo once."""
    once = {row["image"]: row for row in rows.select(["image", "clean_alarm_score", "clean_alarm"]).to_pylist()}
    return {name: [row[name] for row in once.values()] for name in ("image", "clean_alarm_score", "clean_alarm")}


def _by_attack(lines: list[Line]) -> dict[str, Line]:
    """Take each attack's first line, by attack and what it was made against: its pictures are the same everywhere."""
    found: dict[str, Line] = {}
    for line in lines:
        against = line.cell["against"]
        label = pretty(line.cell["attack"]) + (f" against {pretty(against)}" if against else "")
        found.setdefault(label, line)
    return found


def _verdicts(found: Findings, label: str, table: pa.Table) -> list[dict[str, Any]]:
    """Pick the pictures with the lowest, the middle and the highest score, each with its score before the attack."""
    columns = ["image", "adversarial", "clean", "predicted_class_name", "alarm_score", "alarm"]
    columns += ["clean_alarm_score", "clean_alarm", "at"]
    rows = sorted(table.select(columns).to_pylist(), key=_loudness)
    picked = dict.fromkeys((0, len(rows) // 2, len(rows) - 1))
    return [
        {
            "label": label,
            "row": rows[i],
            "photo": _thumbnail(found, rows[i], "adversarial"),
            "clean": _thumbnail(found, rows[i], "clean"),
        }
        for i in picked
    ]


def _loudness(row: dict[str, Any]) -> tuple[float, str]:
    score = row["alarm_score"]
    return (float("inf") if score is None else score), row["image"]


def _thumbnail(found: Findings, row: dict[str, Any], column: str) -> str | None:
    return uri(read_photo(found.out, row[column], row["at"] == FILE), side=THUMBNAIL)
