"""The verb of survival: `survive`."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from underfire.cli.flags import FolderArgument, examples
from underfire.core.files import writable_or_say, write_or_say
from underfire.core.place import place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from underfire.audit.survive import Survived

verbs = typer.Typer()
FILE = "survival.csv"
"""The table's file in the output folder."""


@verbs.command(
    epilog=examples(
        "underfire survive underfire-out/demo-1a2b3c4d",
        "underfire run --images photos --through jpeg:75-95,resize:0.5-1   (files that are made to survive)",
    )
)
def survive(
    folder: FolderArgument,
    table: Annotated[
        Path | None,
        typer.Option("--table", metavar="FILE.csv", help=f"Where the rows go. \\[default: {FILE} in DIR]"),
    ] = None,
) -> None:
    """Put forged files through what platforms do to uploads and through other doors, and judge them again."""
    from underfire.audit.survive import survive as survived
    from underfire.cli.progress import Progress, console, say

    file = table or place(folder) / FILE
    if table is not None:
        writable_or_say(table, "give another --table")
    with Progress("files") as listener:
        rows = survived(place(folder), listener)
    console.print(_table(rows))
    write_or_say(file, _csv(rows).encode(), "give another --table")
    say(f"Every file after every treatment: {file}")


def _csv(rows: Sequence[Survived]) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [field.name for field in dataclasses.fields(rows[0])], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(row) for row in rows)
    return buffer.getvalue()


def _table(rows: Sequence[Survived]) -> Table:
    """Make a table with a row for each treatment, for each attack under each interpreter."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table as RichTable

    from underfire.report.text import number, percent

    table = RichTable(
        title="Forged files after what platforms do to them",
        caption="target: still predicted as the target class; forged: and the map counts as untouched; clean: clean "
        "files that keep their own class",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("treatment", overflow="fold")
    for name in ("n", "target", "conf.", "map L1", "forged", "clean"):
        table.add_column(name, justify="right", no_wrap=True)
    attacks = list(dict.fromkeys((row.attack, row.against, row.interpreter) for row in rows))
    for attack, against, judge in attacks:
        label = f"{attack} on {against}" if against else f"{attack}, judged by {judge}"
        table.add_row(f"[bold]{escape(label)}[/]")
        mine = [row for row in rows if (row.attack, row.against, row.interpreter) == (attack, against, judge)]
        for treatment in dict.fromkeys(row.treatment for row in mine):
            some = [row for row in mine if row.treatment == treatment]
            n, told = len(some), [row.forged for row in some if row.forged is not None]
            table.add_row(
                escape(treatment),
                str(n),
                percent(sum(row.target for row in some) / n, n),
                number(sum(row.confidence for row in some) / n, 3),
                number(sum(row.map_l1 for row in some) / n),
                percent(sum(told) / len(told) if told else None, len(told)),
                percent(sum(row.clean for row in some) / n, n),
            )
    return table
