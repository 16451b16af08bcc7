"""A study of explanations -> OUT/study.html: a league table of how far each can be trusted. No torch.

A section is one function (what to say) and one macro of the same name in templates/explanations.html.j2.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from underfire.images import overlay
from underfire.report import gallery
from underfire.report.html import fill, write
from underfire.study import explanations, results
from underfire.study.families import FAMILIES
from underfire.study.matrix import matrix
from underfire.study.page import PAGE, write_study
from underfire.study.results import Row, StudyResults, SubjectResults
from underfire.study.small import few_photos

Shot = tuple[str, str | None, Row | None]
"""What a map is of, the drawn map, and the attack's row."""
SHOWN = (("clean", "clean_map"), ("adversarial", "adversarial_map"))
"""The columns of a picture and its map, before and after an attack."""


def write_page(out: Path, samples: int = 2) -> Path:
    """Write the page of a study, whichever it is; arguments and errors are those of `write_explanations`."""
    of_kind = write_explanations if results.read(out).get("explanations") else write_study
    return of_kind(out, samples)


def write_explanations(out: Path, samples: int = 2) -> Path:
    """Write OUT/study.html; the same records give the same bytes.

    Args:
        out: the folder of a study of explanations, finished or not.
        samples: 0 for a page without pictures; else one photo is shown for each classifier.

    Raises:
        UnderfireError: no such folder, nothing in it yet, or it cannot be written.
    """
    return write(out / PAGE, render(results.load(out), samples))


def render(study: StudyResults, samples: int) -> str:
    """Render the page as text."""
    tables = [(subject, explanations.league(subject)) for subject in study.subjects]
    tables = [(subject, lines) for subject, lines in tables if lines]
    sections = (
        ("league", "League table", {"tables": [(s, lines, _blind(s, lines)) for s, lines in tables]} if tables else {}),
        ("numbers", "What the attack reaches", {"tables": tables, "eps": _eps(study)} if tables else {}),
        ("noise", "Random noise says something else", noise(tables)),
        ("samples", "One photo under all explanations", pictures(study) if samples else {}),
        ("transfer", "Who else is deceived", transfer(study)),
    )
    return fill(
        "explanations.html.j2",
        sections=[(n, *section) for n, section in enumerate((s for s in sections if s[2]), 1)],
        subjects=study.subjects,
        plan=study.plan,
        resolved={"failed": [], **study.resolved},
        few=few_photos(study.subjects, "main"),
        failed=sorted(study.failed.items()),
        unfinished=study.unfinished,
        seconds=study.seconds,
        version="; ".join(study.made_with("underfire_version")),
        hardware="; ".join(study.made_with("hardware")),
    )


def _eps(study: StudyResults) -> list[int]:
    """Every ε that was tried, ascending."""
    return sorted(
        {a.eps for s in study.subjects for experiment in ("budget", "main") for a in s.of(experiment) if a.rows}
    )


def _blind(subject: SubjectResults, lines: Sequence[explanations.Trust]) -> set[str]:
    return {one.name for one in lines if explanations.blind(subject, one.name)}


def noise(tables: Sequence[tuple[SubjectResults, Sequence[explanations.Trust]]]) -> dict[str, Any]:
    """Show what noise of the same size does beside what the attack leaves, the steadiest under noise first."""
    found = []
    for subject, lines in tables:
        known = [one for one in lines if one.noise_l1.value is not None]
        if known:
            steady = sorted(known, key=lambda one: one.noise_l1.value or 0.0)
            found.append((subject, steady, explanations.agreement(known)))
    return {"tables": found} if found else {}


def transfer(study: StudyResults) -> dict[str, Any]:
    """Show the matrices of all explanations."""
    found = []
    for subject in study.subjects:
        names = _by_family(subject)
        cells = matrix(subject) if len(names) > 1 else {}
        if any(cell.n for cell in cells.values()):
            found.append((subject, names, [(a, [cells[a, judge] for judge in names]) for a in names]))
    return {"matrices": found} if found else {}


def _by_family(subject: SubjectResults) -> list[str]:
    order = [name for names in FAMILIES.values() for name in names]
    known = [name for name in order if name in subject.interpreters]
    return known + [name for name in subject.interpreters if name not in known]


def pictures(study: StudyResults) -> dict[str, Any]:
    """Show for each classifier one photo under all explanations; empty where there is none."""
    panels = [(subject, *panel) for subject in study.subjects if (panel := _panel(subject)) is not None]
    return {"panels": panels, "legend": overlay.legend()} if panels else {}


def _panel(subject: SubjectResults) -> tuple[str, str, list[tuple[str, list[Shot]]]] | None:
    """Put together the photo that most explanations have: its path, the target class, and the cards."""
    rows = [row for audit in subject.of("main") for row in audit.rows if row["attack"] in ("pgd", "adv2")]
    by: dict[str, dict[tuple[str, str], Row]] = {}
    for row in rows:
        by.setdefault(row["image"], {})[row["attack"], row["interpreter"]] = row
    if not by:
        return None
    image = max(sorted(by), key=lambda name: len(by[name]))
    cards = [(name, _card(by[image], name)) for name in _by_family(subject) if ("adv2", name) in by[image]]
    target = str(next(iter(by[image].values()))["target_class_name"])
    return (image, target, cards) if cards else None


def _card(rows: dict[tuple[str, str], Row], name: str) -> list[Shot]:
    """Draw benign, PGD's and ADV²'s map over their pictures."""
    adv2, pgd = rows["adv2", name], rows.get(("pgd", name))
    shots: list[Shot] = [("benign", _drawn(adv2, *SHOWN[0]), None)]
    shots += [("PGD", _drawn(pgd, *SHOWN[1]), pgd)] if pgd is not None else []
    return [*shots, ("ADV²", _drawn(adv2, *SHOWN[1]), adv2)]


def _drawn(row: Row, photo: str, m: str) -> str | None:
    return overlay.overlay(gallery.read_photo(row["out"], row[photo]), gallery.read_map(row["out"], row[m]))
