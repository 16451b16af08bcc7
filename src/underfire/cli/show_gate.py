"""What the terminal shows of a ruling and of a comparison."""

from __future__ import annotations

from rich import box
from rich.markup import escape
from rich.table import Table

from underfire.cli.progress import console, say
from underfire.cli.streams import plain
from underfire.gating.compare import Comparison
from underfire.gating.markdown import by_word, proof_lines
from underfire.gating.ruling import Ruling, figure

COLOURS = {"holds": "green", "fails": "red", "undecided": "yellow"}


def show_ruling(ruling: Ruling) -> None:
    """Print a ruling: each check in a sentence, with the photos that prove it."""
    for decision in by_word(ruling):
        word = f"[{COLOURS[decision.word]}]{decision.word:<9}[/]"
        console.print(f"{word}  [bold]{_safe(decision.rule)}[/]  {_safe(decision.place)}", soft_wrap=True)
        console.print(f"           {_safe(decision.says)}", soft_wrap=True, highlight=False)
        for line in proof_lines(decision):
            console.print(f"             {_safe(line)}", soft_wrap=True, highlight=False)
    for gap in ruling.gaps:
        say(plain(f"Not complete: {gap}"))
    say(plain(ruling.headline))


def show_comparison(found: Comparison) -> None:
    """Print the paired differences, and what could not be paired."""
    table = Table(
        title="The same photos before and now",
        caption="difference with its 95 % interval; p is McNemar's exact test",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("measure", overflow="fold")
    for name in ("n", "before", "now", "difference", "p"):
        table.add_column(name, justify="right", no_wrap=True)
    last = ""
    for change in found.changes:
        if change.place != last:
            table.add_row(f"[bold]{_safe(change.place)}[/]")
            last = change.place
        values = [figure(value, change.n, change.rate) for value in (change.before, change.now)]
        ends = [figure(end, change.n, change.rate, signed=True) for end in (change.low, change.high)]
        inside = "too few photos" if change.low is None else " to ".join(ends)
        shown = figure(change.difference, change.n, change.rate, signed=True)
        p = "" if change.p is None else f"{change.p:.2g}"
        table.add_row(f"  {change.measure}", f"{change.n:,}", *values, f"{shown}\n[dim]{inside}[/]", p)
    console.print(table)
    for sentence in found.unpaired:
        say(plain(sentence))
    for name, before, now in found.settings:
        say(plain(f"Differs: {name}: {before} → {now}"))


def _safe(text: str) -> str:
    return escape(plain(text))
