"""Sample panels: benign, PGD and ADV² inputs of some photos, with predictions and maps. PIL and numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from underfire.core import evenly
from underfire.images import overlay
from underfire.report import gallery
from underfire.report.text import pretty
from underfire.study.results import Row, StudyResults, SubjectResults


def samples(study: StudyResults, count: int) -> dict[str, Any]:
    """Show up to ``count`` photos for each classifier; empty where there are none."""
    panels = []
    for subject in study.subjects if count else ():
        names = [name for name in subject.interpreters if subject.rows("main", "adv2", name)]
        shown = [r for r in _main(subject) if r["image_sha256"] in subject.shared and r["interpreter"] in names]
        chosen = evenly(sorted({r["image"] for r in shown}), count)
        if chosen:
            panels.append((subject, names, [_panel(subject, names, image) for image in chosen]))
    return {"panels": panels, "legend": overlay.legend()} if panels else {}


def _main(subject: SubjectResults) -> list[Row]:
    return [row for audit in subject.of("main") for row in audit.rows]


def _panel(subject: SubjectResults, names: Sequence[str], image: str) -> dict[str, Any]:
    """Put together one photo: lines of what, made against, predicted, confidence, input, maps by interpreter."""
    by = {(r["attack"], r["interpreter"]): r for r in _main(subject) if r["image"] == image}
    first = by[next(key for key in by if key[1] in names)]
    clean = gallery.read_photo(first["out"], first["clean"])
    benign = [_map(by.get(("adv2", name)), "clean", "clean_map") for name in names]
    rows = [("benign", None, first["source_class_name"], first["clean_confidence"], overlay.uri(clean), benign)]
    for attack in ("pgd", "adv2"):
        of = [by.get((attack, name)) for name in names]
        one = next((row for row in of if row is not None), None)
        if one is not None:
            photo = overlay.uri(gallery.read_photo(one["out"], one["adversarial"]))
            maps = [_map(row, "adversarial", "adversarial_map") for row in of]
            said = one["against"], one["predicted_class_name"], one["predicted_confidence"]
            rows.append((pretty(attack), *said, photo, maps))
    return {"image": image, "rows": rows, "target": first["target_class_name"]}


def _map(row: Row | None, photo: str, m: str) -> tuple[str | None, float | None, bool | None]:
    """Draw one map over its photo, with its L1 to benign and whether the class was reached; None for what is gone."""
    if row is None:
        return None, None, None
    found = overlay.overlay(gallery.read_photo(row["out"], row[photo]), gallery.read_map(row["out"], row[m]))
    return (found, None, None) if photo == "clean" else (found, row["map_l1"], row["success"])
