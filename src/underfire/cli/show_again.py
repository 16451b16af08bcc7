"""What the terminal shows of forged files that are held against their records."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from underfire.audit.again import Again, Recheck
from underfire.cli.progress import console
from underfire.cli.streams import plain
from underfire.core import UnderfireError
from underfire.report.text import first_name


def refuse_flags(given: Mapping[str, Any]) -> None:
    """Refuse flags that only an alarm takes.

    Raises:
        UnderfireError: one of these flags is given: forged files are judged by what their own audit says.
    """
    named = [
        name if name.startswith("--") else f"--{name.rstrip('_').replace('_', '-')}" for name in given if given[name]
    ]
    if named:
        raise UnderfireError(
            f"{', '.join(named)}: only for an alarm (--defense FILE). Without one, forged files are held against "
            "their own audit's records, by its own network."
        )


def show_again(images: Sequence[str], as_json: bool = False) -> tuple[bool, bool]:
    """Judge forged files of audits again, and print what comes of it beside their records.

    Args:
        images: the files.
        as_json: whether to print JSON in place of a table.

    Returns:
        Whether anything is not what the records say, and whether all files could be judged.
    """
    recheck, table, differs, readable = Recheck(), _table(), False, True
    for image in images:
        try:
            for one in recheck.of(image):
                differs |= not one.same
                table.add_row(*_cells(one))
                if as_json:
                    typer.echo(json.dumps({**dataclasses.asdict(one), "same": one.same}))
        except UnderfireError as e:
            readable = False
            typer.secho(plain(f"underfire: {e}"), err=True, fg=typer.colors.RED)
    if table.row_count and not as_json:
        console.print(table)
    return differs, readable


def _table() -> Table:
    table = Table(
        caption="p: probability of the target class",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        caption_justify="left",
    )
    for name in ("image", "attack", "judged by", "prediction"):
        table.add_column(name, overflow="fold")
    for name in ("p", "recorded", "map L1", "recorded"):
        table.add_column(name, justify="right")
    table.add_column("")
    return table


def _cells(one: Again) -> list[str]:
    told = (Path(one.image).name, one.attack, one.interpreter, first_name(one.prediction))
    words = [escape(plain(word)) for word in told]
    numbers = (one.confidence, one.recorded_confidence, one.map_l1, one.recorded_map_l1)
    return [
        *words,
        *("–" if n is None else f"{n:.4f}" for n in numbers),
        "same" if one.same else "[bold red]DIFFERS[/]",
    ]
