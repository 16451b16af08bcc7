"""Again: a forged file of an audit, given to the classifier's front door once more and held against its record.

Nothing but the bytes of the file is judged. A batch of another size than the audit's may change float32's last digits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from underfire.audit.survive import LARGEST, Judges, map_of, measured, victim_of
from underfire.core import UnderfireError
from underfire.core.place import Place, place
from underfire.heads import head_of
from underfire.images import pixels
from underfire.interpreters.checked import explain
from underfire.store import open_results

NEAR = 1e-3
"""Probabilities and map distances up to so far apart are the same number."""


@dataclass(frozen=True)
class Again:
    """One judgement of a forged file, now and in its record.

    Args:
        image: the file, as the user wrote it.
        attack, interpreter: who made it, and who explains it.
        prediction: the classifier's, by name.
        confidence, recorded_confidence: probability of the target class.
        map_l1, recorded_map_l1: distance of the map from the wanted one; None where the audit kept no map.
    """

    image: str
    attack: str
    interpreter: str
    prediction: str
    confidence: float
    recorded_confidence: float
    map_l1: float | None
    recorded_map_l1: float | None

    @property
    def same(self) -> bool:
        """Whether the record is what the file gives."""
        pairs = [(self.confidence, self.recorded_confidence), (self.map_l1, self.recorded_map_l1)]
        return all(abs(a - b) <= NEAR for a, b in pairs if a is not None and b is not None)


class Recheck:
    """Judges forged files again; an audit's classifier is built once."""

    def __init__(self) -> None:
        self._victims: dict[str, Judges] = {}

    def of(self, image: str) -> list[Again]:
        """Judge one file, for each interpreter that judged it in its audit.

        Raises:
            UnderfireError: no file, or no forged file of an audit.
        """
        path = Path(image).expanduser()
        if not path.is_file():
            raise UnderfireError(f"There is no image '{image}' to check.")
        content = path.read_bytes()
        out = _audit_of(path, image)
        sha256 = hashlib.sha256(content).hexdigest()
        rows = [row for row in open_results(out).rows() if row["file_sha256"] == sha256 and row["error"] is None]
        if not rows:
            raise UnderfireError(
                f"'{image}' is none of the forged files that the records of '{out}' name (clean, changed since, or "
                "forged with --at input): give --defense FILE to ask an alarm about it."
            )
        if str(out) not in self._victims:
            self._victims[str(out)] = victim_of(out)
        return [_judged(image, content, out, self._victims[str(out)], row) for row in rows]


def _audit_of(path: Path, image: str) -> Place:
    for folder in path.resolve().parents:
        if (folder / "plan.yaml").is_file() and (folder / "records").is_dir():
            return place(str(folder))
    raise UnderfireError(
        f"'{image}' lies in no audit's folder, so there is no record to hold it against: give --defense FILE to ask an "
        "alarm about it, or the path of a forged file where underfire run left it."
    )


def _judged(image: str, content: bytes, out: Place, victim: Judges, row: Mapping[str, Any]) -> Again:
    shown = victim.door.open(content, image, LARGEST)
    x = pixels.to_tensor(np.stack([shown])).to(getattr(victim.classifier, "device", "cpu"))
    target = torch.tensor([row["target_class"]], device=x.device)
    with torch.no_grad():
        z = victim.classifier.logits(x).double()
        maps, lacking = explain(victim.interpreters[row["interpreter"]], x, target)
    if lacking:
        raise UnderfireError(f"'{image}' has no map: {next(iter(lacking.values()))}")
    p = float(head_of(victim.classifier).probabilities(z)[0, row["target_class"]])
    found = measured(maps[0], map_of(out, row["wanted_map"]))["map_l1"] if row["wanted_map"] else None
    which = (image, row["attack"], row["interpreter"])
    first = int(z[0].argmax())
    name = str(row["predicted_class_name"]) if first == row["predicted_class"] else f"class {first}"
    return Again(*which, name, p, row["confidence"], found, row["map_l1"])
