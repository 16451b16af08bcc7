"""What the tests of a study share: a toy's agenda, and study folders whose rows are written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from support.e2e import extended
from underfire.core import Record, Scale
from underfire.store import Store
from underfire.study.agenda import Agenda, make_agenda
from underfire.study.plan import Study

TOY: dict[str, Any] = {"classifier": "toy", "images": "photos", "trained_on": "nothing", "interpreter": ["grad", "cam"]}
"""A classifier of milliseconds."""


def agenda(**values: Any) -> Agenda:
    """The agenda of a study with these words, the extension package at hand."""
    with extended():
        return make_agenda(Study.parse(values))


def row(photo: int, attack: str, against: str | None, judge: str, **more: Any) -> Record:
    """A judgement of one photo."""
    values: dict[str, Any] = {
        "preset": "fast",
        "judge_classifier": "net",
        "defense": "none",
        "seed": 0,
        "eps": 8,
        "success": True,
        "confidence": 0.9,
        "map_iou": 0.5,
        "source_class": 1,
        "target_class": 2,
        "source_class_name": "fox",
        "target_class_name": "hen",
        "predicted_class_name": "hen",
        "predicted_confidence": 0.9,
        "clean_confidence": 0.8,
    }
    fixed: dict[str, Any] = {"image": f"{photo}.png", "image_sha256": f"{photo:064d}", "classifier": "net"}
    return Record(**fixed, attack=attack, against=against, interpreter=judge, **values | more)


def put(out: Path, stage: str, rows: list[Record], scale: float | None = 0.05) -> None:
    """Store rows as one unit; with records come a plan and the scale of their interpreters."""
    with Store(out).open() as store:
        if stage == "records":
            store.write("plan.yaml", b"images: photos")
            judges = sorted({row.interpreter for row in rows}) if scale is not None else []
            store.put(
                "scale", "000000-cam-0123456789abcdef", [Scale("0.png", "0", judge, scale) for judge in judges], {}, {}
            )
        made = {"seconds": "45.5", "hardware": "2 × abacus", "underfire_version": f"0.1.0, commit {stage}"}
        made["written"] = "2026-01-02" if stage == "records" else "2026-01-01"
        store.put(stage, f"000000-{stage}-0123456789abcdef", rows, {}, made)


def audit(experiment: str, folder: str, interpreters: list[str], eps: int = 8, subject: int = 0) -> dict[str, Any]:
    """An audit as study.yaml lists it."""
    return {
        "experiment": experiment,
        "folder": folder,
        "subject": subject,
        "interpreter": interpreters,
        "photos": 9,
        "eps": eps,
    }


def noted(out: Path, audits: list[dict[str, Any]], trained_on: tuple[str, ...] = ("ImageNet",)) -> Path:
    """Write study.yaml into ``out``."""
    resolved = {
        "parts": audits,
        "trained_on": list(trained_on),
        "left_out": [],
    }
    settings = {"preset": "fast", "eps": 8, "max_shift": 2.0, "seed": 0}
    out.mkdir(parents=True, exist_ok=True)
    (out / "study.yaml").write_text(yaml.safe_dump(settings | {"resolved": resolved}), encoding="utf-8")
    return out


def write_by_hand(out: Path) -> Path:
    """Write a study of two interpreters: cam on photos 0, 1, 2 and grad on 0, 1."""
    cam = [row(i, "pgd", None, "cam", map_l1=[0.4, 0.2, 0.9][i]) for i in range(3)]
    cam += [row(i, "adv2", "cam", "cam", map_l1=[0.02, 0.04, 0.5][i], map_iou=1.0, success=i < 2) for i in range(3)]
    grad = [row(i, "pgd", None, "grad", map_l1=0.1) for i in range(2)]
    grad += [row(i, "adv2", "grad", "grad", map_l1=[0.03, 0.05][i], map_iou=0.8) for i in range(2)]
    put(out / "cam", "records", cam)
    put(out / "grad", "records", grad)
    # cam's pictures under grad; photo 2 is not among the shared ones and must not count
    put(out / "cam", "transfer", [row(i, "adv2", "cam", "grad", map_l1=[0.08, 0.1, 9.0][i]) for i in range(3)])
    put(out / "grad", "transfer", [row(i, "adv2", "grad", "cam", map_l1=[0.3, 0.3][i]) for i in range(2)])
    wanted = [(0.1, 0.4), (0.1, 0.2), (0.3, 0.0)]  # the last photo's wanted map is its benign one
    put(
        out / "random",
        "records",
        [row(i, "adv2", "cam", "cam", map_l1=a, target_l1=b, success=i > 0) for i, (a, b) in enumerate(wanted)]
        + [row(i, "pgd", None, "cam", map_l1=0.6, target_l1=b) for i, (_, b) in enumerate(wanted)],
    )
    put(out / "eps1", "records", [row(i, "adv2", "cam", "cam", eps=1, map_l1=[0.3, 0.04, 0.6][i]) for i in range(3)])
    put(out / "eps2", "records", [row(i, "adv2", "cam", "cam", eps=2, map_l1=[0.05, 0.2, 0.6][i]) for i in range(3)])
    return noted(
        out,
        [
            audit("main", "cam", ["cam"]),
            audit("main", "grad", ["grad"]),
            audit("random", "random", ["cam"]),
            audit("budget", "eps1", ["cam"], 1),
            audit("budget", "eps2", ["cam"], 2),
        ],
    )
