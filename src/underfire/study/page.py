"""A study's folder -> OUT/study.html: one self-contained page with the paper's tables and figures. No torch.

A section is one function here (what to say) and one macro of the same name in templates/study.html.j2 (how to show it).
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underfire.core import IOU_THRESHOLDS, evenly
from underfire.images import overlay
from underfire.report import gallery
from underfire.report.bars import bars
from underfire.report.charts import overlap
from underfire.report.html import fill, write
from underfire.report.published import printed, published
from underfire.report.text import number, pretty
from underfire.study import matrix, numbers, results, verdicts
from underfire.study.results import StudyNumbers, Subject

PAGE = "study.html"


@dataclass(frozen=True)
class StudyContext:
    """What a section may use: the numbers, and the page's own options."""

    study: StudyNumbers
    samples: int


def write_study(out: Path, samples: int = 2) -> Path:
    """Write OUT/study.html; the same records give the same bytes.

    Args:
        out: the folder of a study, finished or not.
        samples: photos shown for each classifier; 0 for a page without pictures.

    Raises:
        UnderfireError: no such folder, nothing in it yet, or it cannot be written.
    """
    return write(out / PAGE, render(results.load(out), samples))


def render(study: StudyNumbers, samples: int) -> str:
    """The page as text."""
    context = StudyContext(study, samples)
    sections = [(n, build.__name__, title, build(context)) for n, (build, title) in enumerate(SECTIONS, 1)]
    return fill(
        "study.html.j2",
        sections=[s for s in sections if s[3]],
        subjects=study.subjects,
        plan=study.plan,
        resolved={"failed": [], **study.resolved},
        source=published()["source"],
        failed=sorted(study.failed.items()),
        unfinished=study.unfinished,
        seconds=study.seconds,
        version="; ".join(study.made_with("underfire_version")),
        hardware="; ".join(study.made_with("hardware")),
    )


# --- sections, in the order of the page


def effectiveness(context: StudyContext) -> dict[str, Any]:
    """Success (confidence) of every attack, beside the published cells where those may stand beside them."""
    networks = published()["networks"]
    tables = []
    for subject in context.study.subjects:
        cells = numbers.effectiveness(subject)
        rows = []
        for attack in results.ATTACKS:
            own = [None] if attack in results.PLAIN else list(subject.interpreters)
            if any(cells[attack, name].success.n for name in own):
                rows.append((attack, [(name, cells[attack, name]) for name in own]))
        tables.append((subject, rows))
    columns = list(dict.fromkeys(name for s in context.study.subjects for name in s.interpreters))
    theirs = [
        (attack, network, [printed(attack, name, network) for name in ([None] if attack == "pgd" else columns)])
        for network in networks
        for attack in ("pgd", "adv2")
    ]
    return {"tables": tables, "published": theirs, "columns": columns, "setting": published()["setting"]}


def misinterpretation(context: StudyContext) -> dict[str, Any]:
    """L1 and IoU against benign as bars, IoU over thresholds as curves, and both as a table."""
    charts = []
    for i, subject in enumerate(context.study.subjects):
        for joint in ("adv2", "adv2-stadv"):
            plain = "pgd" if joint == "adv2" else "stadv"
            lines = [[numbers.distance(subject, a, name) for a in (plain, joint)] for name in subject.interpreters]
            lines = [pair for pair in lines if pair[1].l1.n]
            if lines:
                charts.append(_chart(subject, lines, f"m{i}-{joint}"))
    return {"charts": charts}


def _chart(subject: Subject, lines: Sequence[Sequence[numbers.Distance]], key: str) -> dict[str, Any]:
    def said(column: str) -> str:
        return "; ".join(
            f"{pretty(d.interpreter)}, {pretty(d.attack)}: {number(getattr(d, column).value)}"
            for pair in lines
            for d in pair
        )

    curves = [
        (
            pretty(pair[0].interpreter),
            overlap(
                [d.curve for d in pair],
                IOU_THRESHOLDS,
                f"{key}-{pair[0].interpreter}-c",
                f"Mean IoU under {pretty(pair[0].interpreter)} at thresholds 0.1 to 0.9. "
                + "; ".join(f"{pretty(d.attack)}: " + ", ".join(number(v) for v in d.curve) for d in pair),
            ),
        )
        for pair in lines
    ]
    return {
        "subject": subject,
        "keys": [pretty(d.attack) for d in lines[0]],
        "lines": [(pair, numbers.nearer(pair[0].l1, pair[1].l1)) for pair in lines],
        "l1": bars([(pretty(p[0].interpreter), [d.l1 for d in p]) for p in lines], "mean L1", f"{key}-l1", said("l1")),
        "iou": bars(
            [(pretty(p[0].interpreter), [d.iou for d in p]) for p in lines],
            "mean IoU of the brightest fifth",
            f"{key}-iou",
            said("iou"),
            top=1.0,
        ),
        "curves": curves,
    }


def samples(context: StudyContext) -> dict[str, Any]:
    """The panel: benign, PGD and ADV² inputs, predictions and maps, for each interpreter."""
    panels = []
    for subject in context.study.subjects if context.samples else ():
        names = [name for name in subject.interpreters if subject.rows("main", "adv2", name)]
        shown = [r for r in _main(subject) if r["image_sha256"] in subject.shared and r["interpreter"] in names]
        chosen = evenly(sorted({r["image"] for r in shown}), context.samples)
        if chosen:
            panels.append((subject, names, [_panel(subject, names, image) for image in chosen]))
    return {"panels": panels, "legend": overlay.legend()} if panels else {}


def _main(subject: Subject) -> list[results.Row]:
    return [row for part in subject.of("main") for row in part.rows]


def _panel(subject: Subject, names: Sequence[str], image: str) -> dict[str, Any]:
    """One photo: rows of (what, made against, predicted, confidence, input, maps by interpreter)."""
    by = {(r["attack"], r["interpreter"]): r for r in _main(subject) if r["image"] == image}
    shown = [key for key in by if key[1] in names]
    first = by[shown[0]]
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


def _map(row: results.Row | None, photo: str, m: str) -> tuple[str | None, float | None, bool | None]:
    """Overlay, L1 to benign and whether the class was reached, of one map."""
    if row is None:
        return None, None, None
    found = overlay.overlay(gallery.read_photo(row["out"], row[photo]), gallery.read_map(row["out"], row[m]))
    return (found, None, None) if photo == "clean" else (found, row["map_l1"], row["success"])


def random_class(context: StudyContext) -> dict[str, Any]:
    """The prediction–interpretation gap, with a number."""
    lines = [
        (subject, gap)
        for subject in context.study.subjects
        for name in subject.interpreters
        if (gap := numbers.random_class(subject, name)).success.n
    ]
    if not lines:
        return {}
    names = list(dict.fromkeys(subject.told for subject, _ in lines))
    many, letters = len(names) > 1, dict(zip(names, string.ascii_lowercase, strict=False))
    groups = [
        (pretty(g.interpreter), [g.gap]) if not many else (f"{pretty(g.interpreter)} {letters[s.told]}", [g.gap])
        for s, g in lines
    ]
    about = "; ".join(f"{pretty(g.interpreter)} on {s.name}: {number(g.gap.value)}" for s, g in lines)
    chart = bars(groups, "share of the way to a random class’s map", "gap", about, top=1.0)
    return {"lines": lines, "chart": chart, "letters": letters if many else {}}


def transfer(context: StudyContext) -> dict[str, Any]:
    """The matrices, and what travels between classifiers."""
    matrices = []
    for subject in context.study.subjects:
        if len(subject.interpreters) > 1:
            cells = matrix.matrix(subject)
            rows = [(a, [cells[a, judge] for judge in subject.interpreters]) for a in subject.interpreters]
            if any(c.n for _, of in rows for c in of):
                matrices.append((subject, rows))
    pairs = [(a, b) for a in context.study.subjects for b in context.study.subjects if a is not b]
    across = [line for a, b in pairs for line in matrix.across(a, b)]
    columns = [check for check in verdicts.checks(context.study) if check.wanted == verdicts.DIAGONAL]
    exceptions = [check for check in columns if not check.met]
    known = len(columns) == sum(len(subject.interpreters) for subject, _ in matrices)
    data = {"matrices": matrices, "across": across, "exceptions": exceptions, "known": known}
    return data if matrices or across else {}


def budget(context: StudyContext) -> dict[str, Any]:
    """Success and maps over ε, and the smallest ε that forges each photo."""
    tables = [
        (subject, found)
        for subject in context.study.subjects
        for name in subject.interpreters
        if (found := numbers.budget(subject, name)) is not None
    ]
    return {"tables": tables} if tables else {}


def findings(context: StudyContext) -> dict[str, Any]:
    """The paper's three, and what was asked of this study."""
    checks = verdicts.checks(context.study)
    return {
        "verdicts": verdicts.findings(context.study),
        "checks": checks,
        "met": sum(check.met is True for check in checks),
        "missed": sum(check.met is False for check in checks),
        "open": sum(check.met is None for check in checks),
    }


SECTIONS: tuple[tuple[Callable[[StudyContext], Mapping[str, Any]], str], ...] = (
    (effectiveness, "Effectiveness"),
    (misinterpretation, "Misinterpretation"),
    (samples, "Samples"),
    (random_class, "Random-class interpretation"),
    (transfer, "Transfer"),
    (budget, "Budget"),
    (findings, "Findings"),
)
