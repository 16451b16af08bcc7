"""Write the figures of README and docs from the committed rows: no number in their main tables is typed.

    python benchmarks/figures.py            write them into the pages
    python benchmarks/figures.py --check    say which pages have others, and change nothing

A page has a place for each table, between `<!-- figures: NAME -->` and `<!-- /figures -->`.
"""

from __future__ import annotations

import ast
import csv
import itertools
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from underfire.metrics import packaged
from underfire.metrics.estimate import Estimate, mean, rate
from underfire.metrics.summary import photos
from underfire.metrics.verdict import Named, Ruler, verdict
from underfire.report.text import interval, number, percent, pretty, share_interval

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results"
NETWORK = "efficientnet-lite0"
INTERPRETERS = ("cam", "grad", "mask", "rts")
ATTACKS = ("pgd", "adv2", "stadv", "adv2-stadv")
CASES = tuple(f"{name}-{what}" for name in INTERPRETERS for what in ("fast", "paper", "thorough"))
PLACE = re.compile(r"(<!-- figures: ([\w-]+) -->\n)(.*?)(<!-- /figures -->)", re.DOTALL)
Row = dict[str, Any]


def rows_of(case: str) -> list[Row]:
    """Read the good rows of one case, with verdicts by today's packaged yardsticks; empty where it was not measured."""
    path = RESULTS / f"{case}.csv"
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        rows = [{name: _value(word) for name, word in row.items()} for row in csv.DictReader(file)]
    good = [row | {"target_map": row.get("target_map") or "benign"} for row in rows if row["error"] is None]
    return [row | vars(verdict(row, rulers())) | {"image_sha256": row["image"]} for row in good]


def _value(word: str) -> Any:
    if word in ("", "True", "False"):
        return {"": None}.get(word, word == "True")
    try:
        return float(word)
    except ValueError:
        return word


def rulers() -> dict[str, Ruler]:
    """The packaged yardsticks of EfficientNet-Lite0, by interpreter."""
    mine = (one for one in packaged.packaged() if one.classifier == NETWORK)
    return {one.interpreter: Named(one.yardstick, one.digest[:12], one.exact) for one in mine}


def _rate(rows: list[Row], column: str) -> Estimate:
    return rate([row[column] for row in rows], photos(rows))


def _mean(rows: list[Row], column: str) -> str:
    found = mean([row[column] for row in rows], photos(rows)).value
    return number(found, 3 if column == "confidence" else 2)


def _spread(rows: list[Row], column: str, low: float = 0.0, high: float = 1.0) -> str:
    """A mean with its interval, where that says more."""
    found = mean([row[column] for row in rows], photos(rows))
    digits = 3 if column == "confidence" else 2
    between = interval(found, digits, low, high)
    return number(found.value, digits) + (f" ({between})" if between else "")


def _told(e: Estimate) -> str:
    """A rate with its interval."""
    return f"{percent(e.value, e.n)} ({share_interval(e, '')})"


def short() -> Iterable[str]:
    """Four lines for a stranger: what the attack on the prediction does, and what the joint attack does."""
    yield (
        "| explanation | photos | attacker’s class reached "
        "| map moved (L1), PGD → ADV² | forged, PGD → ADV² | wrong maps noticed |"
    )
    yield "|---|---|---|---|---|---|"
    for name in INTERPRETERS:
        rows = rows_of(f"{name}-fast")
        pgd, adv2 = ([row for row in rows if row["attack"] == attack] for attack in ("pgd", "adv2"))
        yield (
            f"| {pretty(name)} | {len(adv2)} | {_told(_rate(adv2, 'success'))} "
            f"| {_mean(pgd, 'map_l1')} → {_mean(adv2, 'map_l1')} "
            f"| {_told(_rate(pgd, 'forged'))} → **{_told(_rate(adv2, 'forged'))}** "
            f"| {percent(adv2[0]['power'])} |"
        )


def measured() -> Iterable[str]:
    """Every case of measure.py on EfficientNet-Lite0, attack by attack."""
    yield "| against | attack, preset | photos | success | confidence | map L1 | map IoU | forged | passes an image |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for name in INTERPRETERS:
        for case in (f"{name}-fast", f"{name}-paper", f"{name}-thorough", f"stadv-{name}"):
            rows = rows_of(case)
            for attack in ATTACKS:
                of = [row for row in rows if row["attack"] == attack]
                if of:
                    yield _line(name, attack, of)


def _line(name: str, attack: str, of: list[Row]) -> str:
    flow = f", bends of {_mean(of, 'flow_mean_px')} px" if of[0].get("flow_mean_px") else ""
    return (
        f"| {pretty(name)} | {pretty(attack)} `{of[0]['preset']}`{flow} | {len(of)} | {_told(_rate(of, 'success'))} "
        f"| {_spread(of, 'confidence')} | {_spread(of, 'map_l1')} | {_spread(of, 'map_iou')} "
        f"| {_told(_rate(of, 'forged'))} | {_mean(of, 'passes')} |"
    )


def trials() -> Iterable[str]:
    """ADV² with several targets and seeds on each photo."""
    yield "| against | attacks | photos | success | map L1 | forged |"
    yield "|---|---|---|---|---|---|"
    for name in INTERPRETERS:
        rows = rows_of(f"trials-{name}")
        yield (
            f"| {pretty(name)} | {len(rows)} | {len({row['image'] for row in rows})} | {_told(_rate(rows, 'success'))} "
            f"| {_mean(rows, 'map_l1')} | {_told(_rate(rows, 'forged'))} |"
        )


def columns() -> Iterable[str]:
    """Every column of a record, with what record.py says of it."""
    tree = ast.parse((ROOT / "src/underfire/core/record.py").read_text(encoding="utf-8"))
    (record,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Record")
    yield "| column | type | what it is |"
    yield "|---|---|---|"
    for node, after in itertools.pairwise([*record.body, ast.Pass()]):
        if isinstance(node, ast.AnnAssign):
            told = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            kind = ast.unparse(node.annotation).replace(" | None", "")
            yield f"| `{ast.unparse(node.target)}` | {kind} | {' '.join(str(told).split())} |"


TABLES: dict[str, Callable[[], Iterable[str]]] = {
    "short": short,
    "measured": measured,
    "trials": trials,
    "columns": columns,
}


def filled(text: str) -> str:
    """Return a page with its figures as the rows say."""
    return PLACE.sub(lambda m: m[1] + "\n" + "\n".join(TABLES[m[2]]()) + "\n\n" + m[4], text)


def pages() -> dict[Path, str]:
    """Pages that have a place for figures, with their text."""
    paths = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    return {path: text for path, text in texts.items() if PLACE.search(text)}


def main() -> None:
    other = {path: new for path, text in pages().items() if (new := filled(text)) != text}
    if "--check" in sys.argv[1:]:
        sys.exit("\n".join(f"{path.relative_to(ROOT)} has other figures than its rows." for path in other) or None)
    for path, text in other.items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
