"""The numbers of a study as Markdown tables with 95 % intervals: benchmarks/study.py puts them into docs/results.

python benchmarks/study_tables.py OUT       prints those of a study's folder
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from underfire.metrics.estimate import Estimate
from underfire.report.text import interval, number, percent, pretty, share, share_interval
from underfire.study import numbers, results
from underfire.study.budget import budget
from underfire.study.controls import controls
from underfire.study.expectations import expectations
from underfire.study.matrix import matrix
from underfire.study.numbers import Effectiveness
from underfire.study.results import StudyResults, SubjectResults
from underfire.study.soundness import soundness
from underfire.study.verdicts import findings

BEGIN, END = "<!-- numbers of {}: written by benchmarks/study.py -->", "<!-- end of numbers -->"
NONE = "–"


def write_tables(out: Path, page: Path, name: str) -> None:
    """Replace what stands between the marks of a study on a page."""
    begin = BEGIN.format(name)
    before, found, rest = page.read_text(encoding="utf-8").partition(begin)
    if not found:
        raise SystemExit(f"{page} has no line {begin}")
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{begin}\n\n{tables(results.load(out))}\n{END}{after}", encoding="utf-8")


def tables(study: StudyResults) -> str:
    """Write all tables."""
    parts = [_findings(study), _sound(study)]
    for subject in study.subjects:
        parts += [_cells(subject), _transfer(subject), _budget(subject), _controls(subject)]
    return "\n".join(part for part in parts if part)


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return f"### {title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) if rows else ""


def _mean(e: Estimate) -> str:
    around = interval(e, low=0, high=1)
    return NONE if e.value is None else number(e.value) + (f" ({around})" if around else "")


def _both(plain: Estimate, joint: Estimate) -> str:
    return NONE if joint.value is None else f"{_mean(plain)} → {_mean(joint)}"


def _rate(e: Estimate) -> str:
    return NONE if e.value is None else f"{share(e)} ({share_interval(e)}), n = {e.n}"


def _forged(cell: Effectiveness) -> str:
    power = "" if cell.power is None else f"; power {percent(cell.power, 100)}"
    return cell.in_place or _rate(cell.forged) + power


def _gap(e: Estimate) -> str:
    around = interval(e)
    return NONE if e.value is None else number(e.value) + (f" ({around})" if around else "")


def _findings(study: StudyResults) -> str:
    rows = [[one.claim, one.number, f"**{one.verdict}**"] for one in findings(study)]
    found = expectations(study)
    met, missed = (sum(one.met is wanted for one in found) for wanted in (True, False))
    left = len(found) - met - missed
    tail = f"\nOf {len(found)} expected numbers {met} are reached, {missed} missed, {left} not resolved.\n"
    return _table("The paper's findings", ("finding", "number", "verdict"), rows) + tail


def _sound(study: StudyResults) -> str:
    said = {True: "yes", False: "**no**", None: NONE}
    rows = [[one.subject.label, c.claim, c.found, said[c.passed]] for one in soundness(study) for c in one.checks]
    return _table("Is the attack sound?", ("classifier", "what a sound attack does", "found", "passed"), rows)


def _cells(subject: SubjectResults) -> str:
    names = subject.interpreters
    found = [(what, [values[name] for name in names]) for what, values in _lines(subject)]
    rows = [[what, *cells] for what, cells in found if set(cells) != {NONE}]
    return _table(subject.label, ("", *map(pretty, names)), rows)


def _lines(subject: SubjectResults) -> Iterator[tuple[str, dict[str, str]]]:
    cells, names = numbers.effectiveness(subject), subject.interpreters
    gaps = {name: numbers.random_class(subject, name) for name in names}
    far = {(a, name): numbers.distance(subject, a, name) for a in results.ATTACKS for name in names}
    yield "PGD: success", dict.fromkeys(names, _rate(cells["pgd", None].success))
    for attack, plain in (("adv2", "pgd"), ("adv2-stadv", "stadv")):
        yield f"{pretty(attack)}: success", {name: _rate(cells[attack, name].success) for name in names}
        yield "its confidence", {name: _mean(cells[attack, name].confidence) for name in names}
        for column in ("l1", "iou"):
            yield (
                f"map {column.replace('l1', 'L1').replace('iou', 'IoU')} to benign, {pretty(plain)} → {pretty(attack)}",
                {name: _both(getattr(far[plain, name], column), getattr(far[attack, name], column)) for name in names},
            )
        yield "forged", {name: _forged(cells[attack, name]) for name in names}
    yield "mean flow of ADV²-StAdv, px", {name: _gap(cells["adv2-stadv", name].flow) for name in names}
    yield "random class: success", {name: _rate(gaps[name].success) for name in names}
    alike = "none: the maps of both classes are alike"
    yield "random class: the gap", {name: alike if gaps[name].near else _gap(gaps[name].gap) for name in names}
    yield "random class: PGD's gap", {name: NONE if gaps[name].near else _gap(gaps[name].pgd_gap) for name in names}


def _transfer(subject: SubjectResults) -> str:
    cells, names = matrix(subject), subject.interpreters
    shown = {key: NONE if c.relative is None else f"{number(c.relative)}, n = {c.n}" for key, c in cells.items()}
    rows = [[f"made against {pretty(a)}", *(shown[a, judge] for judge in names)] for a in names]
    return _table(
        f"{subject.label}: L1 over PGD's, judged by",
        ("", *map(pretty, names)),
        rows if any(c.n for c in cells.values()) else [],
    )


def _budget(subject: SubjectResults) -> str:
    rows = [
        [
            pretty(name),
            f"{eps}",
            _rate(cell.success),
            _mean(far.l1),
            _forged(cell),
            f"{found.count(eps)}" if found.smallest else "–",
        ]
        for name in subject.interpreters
        if (found := budget(subject, name)) is not None
        for eps, (cell, far) in found.cells.items()
    ]
    head = ("interpreter", "ε", "success", "map L1", "forged", "photos for which this is the smallest")
    return _table(f"{subject.label}: budgets", head, rows)


def _controls(subject: SubjectResults) -> str:
    found = [one for name in subject.interpreters if (one := controls(subject, name)) is not None]
    rows = [
        [pretty(c.interpreter), f"{c.adv2.n}", *map(_mean, (c.adv2, c.without, c.pgd, c.noise, c.rerun))] for c in found
    ]
    head = ("interpreter", "photos", "ADV²", "λ = 0", "PGD", "noise", "rerun: difference")
    return _table(f"{subject.label}: controls, map L1", head, rows)


if __name__ == "__main__":
    print(tables(results.load(Path(sys.argv[1]))))
