"""What the terminal shows of an audit: results and status. It imports no torch by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow.compute as pc
from rich import box
from rich.markup import escape
from rich.table import Table

from underfire.audit.status import status
from underfire.cli.progress import console, say
from underfire.cli.streams import plain
from underfire.core.place import Place
from underfire.metrics import summary
from underfire.metrics.estimate import Estimate
from underfire.metrics.smallest import PX
from underfire.metrics.summary import Summary
from underfire.report.text import budget, count, number, percent, share, share_interval
from underfire.store import Store, open_results
from underfire.study.results import FILE, audit_folders

ERRORS_SHOWN = 10
"""Number of different errors that are printed after a run."""
MINIMUM = "; min.: half of the photos need no larger budget; below, the quartiles (* by success alone: docs/need.md)"
"""Said below a table with smallest budgets."""
NARROW = 70
"""Columns of a terminal below which the table keeps what counts most: no number is cut in two."""
REST = "; conf. is the target's probability; passes and seconds (s) per image"
FEWER = "; a wider terminal shows confidence, IoU, passes and seconds"
REASONS = 5
"""Number of different errors that a status prints."""


def show_results(out: Place) -> tuple[int, int]:
    """Print the results of a run, and return the numbers of rows without and with a result."""
    rows = open_results(out).rows()
    console.print(_results(summary.summarise(rows)))
    say_failed(rows)
    return sum(row["error"] is not None for row in rows), sum(row["error"] is None for row in rows)


def _results(summaries: Sequence[Summary]) -> Table:
    """Make the table, with a row for each attack under each judge; it needs 80 characters."""
    searched = any(s.smallest for s in summaries)
    table = Table(
        title="Judged on the saved 8-bit pictures with the real interpreter",
        caption="rates with 95 % intervals, counts of fewer than ten photos; power: wrong maps that are told apart "
        "(docs/yardstick.md)" + (FEWER if console.width < NARROW else REST) + MINIMUM * searched,
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("attack", overflow="fold", min_width=8)
    left_out = {
        *(() if any(s.alarm.n for s in summaries) else ("alarm",)),
        *(() if searched else ("min.",)),
        *(("conf.", "IoU", "passes", "s") if console.width < NARROW else ()),
    }
    shown = {name: cell for name, cell in _CELLS.items() if name not in left_out}
    for name in shown:
        table.add_column(name, justify="right", no_wrap=True)
    for s in summaries:
        table.add_row(_attack(s.cell), *(cell(s) for cell in shown.values()))
    return table


def _attack(cell: Mapping[str, Any]) -> str:
    """Name the attack, and below it the judge where that is not the interpreter attacked."""
    name, against, judge = (escape(plain(str(cell[column]))) for column in ("attack", "against", "interpreter"))
    shown = name if cell["against"] is None else f"{name} on {against}"
    return shown if against == judge else f"{shown}\n[dim]judged by {judge}[/]"


def say_failed(rows: list[dict[str, Any]]) -> None:
    """Print each error once, with the images that it does not name itself."""
    reasons: dict[str, dict[str, None]] = {}
    for row in rows:
        if row["error"] is not None:
            reasons.setdefault(row["error"], {})[row["image"]] = None
    if not reasons:
        return
    n = len({image for found in reasons.values() for image in found})
    say(f"{count(n, 'image')} without a full result (the report lists all of them):")
    for reason, found in list(reasons.items())[:ERRORS_SHOWN]:
        named = [image for image in found if image not in reason]
        shown = ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
        say(plain(f"  {shown}: {reason}" if shown else f"  {reason}"))
    if len(reasons) > ERRORS_SHOWN:
        say(f"  … and {len(reasons) - ERRORS_SHOWN} more")


def _rate(e: Estimate) -> str:
    return f"{share(e)}\n[dim]{share_interval(e, unit='')}[/]"  # a column is narrow


def _forged(s: Summary) -> str:
    """The forged rate with the power behind it, or why there is none."""
    if s.in_place:
        words = s.in_place.replace("explanation ", "explanation\n")  # a column is narrow
        return f"[dim]{words}[/]"
    if s.old:
        return f"{_rate(s.forged)}\n[dim]old scale[/]"
    return f"{_rate(s.forged)}\n[dim]power {percent(s.power)}[/]"


def _smallest(s: Summary) -> str:
    """The median of the smallest budgets, and below it the quartiles; '–' for an attack with a fixed budget.

    A column is narrow: shifts are in px, levels have no unit, and a star says that success alone counted.
    """
    if s.smallest is None:
        return "–"
    first, median, third = map(budget, s.smallest.quartiles)
    unit, by = ("px" if s.smallest.unit == PX else ""), ("" if s.smallest.by == "forged" else "*")
    return f"{median}{unit}{by}\n[dim]{first}–{third}[/]"


_CELLS: Mapping[str, Callable[[Summary], str]] = {
    "n": lambda s: f"{s.n:,}",
    "success": lambda s: _rate(s.success),
    "forged": _forged,
    "alarm": lambda s: _rate(s.alarm),
    "min.": _smallest,
    "conf.": lambda s: number(s.confidence.value, 3),
    "map L1": lambda s: number(s.map_l1.value),
    "IoU": lambda s: number(s.map_iou.value),
    "passes": lambda s: number(s.passes.value),
    "s": lambda s: number(s.seconds.value),
}
"""Column -> what it says of the results of an attack."""


def duration(seconds: float) -> str:
    """Say a duration in words, in the unit that fits."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def show_status(out: Place) -> None:
    """Print how far an audit is; of a study, a line for each of its audits."""
    if (out / FILE).is_file():
        for folder in audit_folders(out):
            say(f"{folder}: {_so_far(out / folder)}")
        return
    now = status(out)
    if now.scale_done < now.scale_units:
        say(f"Clean maps: {now.scale_done} of {now.scale_units} units done.")
    share = percent(now.done / max(1, now.units), now.units)
    say(f"{now.done} of {now.units} units done ({share}), {now.failed} failed, in '{out}'.")
    left = now.seconds_left
    if now.pace is not None and left:
        say(f"Recent pace: {number(60 * now.pace, 3)} units a minute, at which {duration(left)} are left.")
    _say_errors(out)


def _so_far(audit: Place) -> str:
    if not (audit / "plan.yaml").is_file():
        return "not begun"
    now = status(audit)
    return f"{now.done} of {now.units} units done, {now.failed} failed"


def _say_errors(out: Place) -> None:
    """Print how many judgements have no result, and why."""
    table = Store(out).table()
    errors = table["error"].drop_null()
    say(f"{table.num_rows} judgements, {len(errors)} of them without a result.")
    counted = sorted(pc.value_counts(errors).to_pylist(), key=lambda found: -found["counts"])
    for found in counted[:REASONS]:
        say(plain(f"  {found['counts']} × {found['values']}"))
    if len(counted) > REASONS:
        say(f"  … and {len(counted) - REASONS} more reasons")
