"""A study's folder -> OUT/study.html: one self-contained page with the paper's tables and figures. No torch.

A section is one function (what to say) and one macro of the same name in templates/study.html.j2 (how to show it).
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from underfire.core import IOU_THRESHOLDS
from underfire.metrics.smallest import LEVELS
from underfire.report.charts import COLOURS, Axis, overlap, within
from underfire.report.dots import LOG_L1, UNIT, Group, dots
from underfire.report.html import fill, write
from underfire.report.published import printed, published
from underfire.report.text import budget as level
from underfire.report.text import number, pretty
from underfire.study import matrix, numbers, panels, results, verdicts
from underfire.study.budget import Budget
from underfire.study.budget import budget as budget_of
from underfire.study.controls import controls as controls_of
from underfire.study.expectations import DIAGONAL, expectations
from underfire.study.numbers import Distance
from underfire.study.results import StudyResults, SubjectResults
from underfire.study.small import few_photos
from underfire.study.soundness import soundness

PAGE = "study.html"


def write_study(out: Path, samples: int = 2) -> Path:
    """Write OUT/study.html; the same records give the same bytes.

    Args:
        out: the folder of a study, finished or not.
        samples: photos shown for each classifier; 0 for a page without pictures.

    Raises:
        UnderfireError: no such folder, nothing in it yet, or it cannot be written.
    """
    return write(out / PAGE, render(results.load(out), samples, linked=True))


def render(study: StudyResults, samples: int, linked: bool = False) -> str:
    """Render the page as text; ``linked`` to the audits' folders, where it lies beside them."""
    sections = (
        ("findings", "Findings", findings(study)),
        ("effectiveness", "Effectiveness", effectiveness(study)),
        ("misinterpretation", "Misinterpretation", misinterpretation(study)),
        ("samples", "Samples", panels.samples(study, samples)),
        ("random_class", "Random-class interpretation", random_class(study)),
        ("transfer", "Transfer", transfer(study)),
        ("budget", "Budget", budget(study)),
        ("controls", "Controls", controls(study)),
        ("sanity", "Is the attack sound?", sanity(study)),
        ("expected", "Expected numbers", expected(study)),
    )
    return fill(
        "study.html.j2",
        sections=[(n, *section) for n, section in enumerate((one for one in sections if one[2]), 1)],
        subjects=study.subjects,
        plan=study.plan,
        resolved={"failed": [], **study.resolved},
        source=published()["source"],
        few=few_photos(study.subjects),
        broken=[(one.subject, check) for one in soundness(study) for check in one.failed],
        folders=[audit["folder"] for audit in study.resolved["parts"]] if linked else [],
        failed=sorted(study.failed.items()),
        unfinished=study.unfinished,
        seconds=study.seconds,
        version="; ".join(study.made_with("underfire_version")),
        hardware="; ".join(study.made_with("hardware")),
    )


def effectiveness(study: StudyResults) -> dict[str, Any]:
    """Show success (confidence) of every attack, beside the published cells where they may stand beside them."""
    tables = []
    for subject in study.subjects:
        cells = numbers.effectiveness(subject)
        rows = []
        for attack in results.ATTACKS:
            own = [None] if attack in results.PLAIN else list(subject.interpreters)
            if any(cells[attack, name].success.n for name in own):
                rows.append((attack, [(name, cells[attack, name]) for name in own]))
        tables.append((subject, rows))
    columns = list(dict.fromkeys(name for subject in study.subjects for name in subject.interpreters))
    theirs = [
        (attack, network, [printed(attack, name, network) for name in ([None] if attack == "pgd" else columns)])
        for network in published()["networks"]
        for attack in ("pgd", "adv2")
    ]
    return {"tables": tables, "published": theirs, "columns": columns, "setting": published()["setting"]}


def misinterpretation(study: StudyResults) -> dict[str, Any]:
    """Show L1 and IoU against benign as dots, IoU over thresholds as curves, and both as a table."""
    charts = []
    for i, subject in enumerate(study.subjects):
        for plain, joint in (("pgd", "adv2"), ("stadv", "adv2-stadv")):
            pairs = [[numbers.distance(subject, a, name) for a in (plain, joint)] for name in subject.interpreters]
            pairs = [pair for pair in pairs if pair[1].l1.n]
            if pairs:
                charts.append(_distances(subject, pairs, f"m{i}-{joint}"))
    return {"charts": charts}


def _distances(subject: SubjectResults, pairs: Sequence[Sequence[Distance]], key: str) -> dict[str, Any]:
    """Chart a plain attack beside a joint one, a pair for each interpreter."""

    def plot(column: str, title: str, axis: Axis) -> str:
        groups: list[Group] = [(pretty(pair[0].interpreter), [getattr(d, column) for d in pair]) for pair in pairs]
        about = "; ".join(
            f"{pretty(d.interpreter)}, {pretty(d.attack)}: {number(getattr(d, column).value)}"
            for pair in pairs
            for d in pair
        )
        return dots(groups, title, f"{key}-{column}", about, axis)

    return {
        "subject": subject,
        "keys": [pretty(d.attack) for d in pairs[0]],
        "lines": [(pair, numbers.nearer(pair[0].l1, pair[1].l1)) for pair in pairs],
        "l1": plot("l1", "mean L1 (log scale)", LOG_L1),
        "iou": plot("iou", "mean IoU of the brightest fifth", UNIT),
        "curves": [(pretty(pair[0].interpreter), _curves(pair, key)) for pair in pairs],
    }


def _curves(pair: Sequence[Distance], key: str) -> str:
    name = pair[0].interpreter
    about = f"Mean IoU under {pretty(name)} at thresholds 0.1 to 0.9. "
    about += "; ".join(f"{pretty(d.attack)}: " + ", ".join(number(v) for v in d.curve) for d in pair)
    return overlap([d.curve for d in pair], IOU_THRESHOLDS, f"{key}-{name}-c", about)


def random_class(study: StudyResults) -> dict[str, Any]:
    """Show the prediction–interpretation gap, as dots and as a table."""
    lines = [
        (subject, gap)
        for subject in study.subjects
        for name in subject.interpreters
        if (gap := numbers.random_class(subject, name)).success.n
    ]
    if not lines:
        return {}
    names = list(dict.fromkeys(subject.label for subject, _ in lines))
    letters = dict(zip(names, string.ascii_lowercase, strict=False)) if len(names) > 1 else {}
    groups = [(f"{pretty(gap.interpreter)} {letters.get(s.label, '')}".rstrip(), [gap.gap]) for s, gap in lines]
    about = "; ".join(f"{pretty(gap.interpreter)} on {s.name}: {number(gap.gap.value)}" for s, gap in lines)
    chart = dots(groups, "share of the way to a random class’s map", "gap", about)
    return {"lines": lines, "chart": chart, "letters": letters}


def controls(study: StudyResults) -> dict[str, Any]:
    """Show what noise, and ADV²'s search without its map term, do by themselves."""
    found = ((subject, controls_of(subject, name)) for subject in study.subjects for name in subject.interpreters)
    lines = [(subject, one) for subject, one in found if one is not None]
    return {"lines": lines} if lines else {}


def transfer(study: StudyResults) -> dict[str, Any]:
    """Show the matrices, and what travels between classifiers."""
    matrices = []
    for subject in study.subjects:
        if len(subject.interpreters) > 1:
            cells = matrix.matrix(subject)
            rows = [(a, [cells[a, judge] for judge in subject.interpreters]) for a in subject.interpreters]
            if any(cell.n for _, of in rows for cell in of):
                matrices.append((subject, rows))
    pairs = [(a, b) for a in study.subjects for b in study.subjects if a is not b]
    across = [line for a, b in pairs for line in matrix.across(a, b)]
    columns = [one for one in expectations(study) if one.expected == DIAGONAL]
    exceptions = [one for one in columns if one.met is False]
    unresolved = sum(one.met is None for one in columns)
    known = len(columns) == sum(len(subject.interpreters) for subject, _ in matrices)
    data = {"matrices": matrices, "across": across, "exceptions": exceptions, "known": known, "unresolved": unresolved}
    return data if matrices or across else {}


def budget(study: StudyResults) -> dict[str, Any]:
    """Show success and maps over ε, and the smallest ε that forges each photo."""
    tables = [
        (subject, found)
        for subject in study.subjects
        for name in subject.interpreters
        if (found := budget_of(subject, name)) is not None
    ]
    of = [(subject, [one for its, one in tables if its is subject and one.smallest]) for subject in study.subjects]
    plots = [(subject, *_within(subject, mine, f"smallest{n}")) for n, (subject, mine) in enumerate(of) if mine]
    return {"tables": tables, "plots": plots} if tables else {}


def _within(subject: SubjectResults, budgets: Sequence[Budget], key: str) -> tuple[Markup, list[tuple[str, int]]]:
    """Draw what share of the photos each ε forges, and name the curves."""
    told = "; ".join(f"{pretty(one.interpreter)}: median {level(one.quartiles[1])}" for one in budgets)
    curves = [(one.curve, i % COLOURS) for i, one in enumerate(budgets)]
    about = f"Share of photos forged within ε on {subject.name}. {told}"
    keys = [(pretty(one.interpreter), i % COLOURS) for i, one in enumerate(budgets)]
    return within(curves, LEVELS, key, about), keys


def findings(study: StudyResults) -> dict[str, Any]:
    """Show the paper's three findings, each with a verdict: the page begins with them."""
    return {"verdicts": verdicts.findings(study)}


def sanity(study: StudyResults) -> dict[str, Any]:
    """Say whether the attack itself is sound, classifier by classifier."""
    found = soundness(study)
    return {"subjects": found} if found else {}


def expected(study: StudyResults) -> dict[str, Any]:
    """Show what was expected of this study, and what was found."""
    found = expectations(study)
    return {
        "expectations": found,
        "met": sum(one.met is True for one in found),
        "missed": sum(one.met is False for one in found),
        "open": sum(one.met is None for one in found),
    }
