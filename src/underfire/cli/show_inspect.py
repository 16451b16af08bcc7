"""What the terminal shows of a classifier, on one screen of 80 columns. It imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from underfire.cli.progress import console
from underfire.cli.streams import plain
from underfire.core.insight import Insight
from underfire.report.text import number


def show(found: Insight, out: Path | None) -> None:
    """Print how a classifier is understood.

    Args:
        found: the facts.
        out: where the picture of its input was written, if it was.
    """
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _lines(found, out):
        table.add_row(name, text)
    console.print(table)
    if found.maps:
        console.print(_maps(found))
    console.print(f"[dim]looked at in {number(found.seconds)} s on {_plain(found.device)}; ~ is estimated[/]")


def _lines(found: Insight, out: Path | None) -> Iterator[tuple[str, str]]:
    yield "classifier", f"[bold]{_plain(found.name)}[/], {_plain(found.architecture)}, {found.parameters:,} parameters"
    if found.problem:
        yield "refused", f"[red]{_plain(found.problem)}[/]"
    shown = "; ".join(name.partition(",")[0] for name in found.classes[:3]) + ("; …" if found.outputs > 3 else "")
    yield "outputs", f"{found.outputs:,}: {_plain(shown)} ({_plain(found.classes_from)})"
    if not found.problem:
        off = f"; a {found.taken_off} behind them is taken off" if found.taken_off else ""
        yield "head", _plain(found.head + off)
    for k, step in enumerate(found.steps):
        yield "input" if k == 0 else "", f"{k + 1}. {_plain(step)}"
    seen = f", shown in {out}" if out else ""
    yield "photo", _plain(f"{found.photo}{seen}")
    if not found.problem:
        yield from _checks(found)


def _checks(found: Insight) -> Iterator[tuple[str, str]]:
    if found.twin is None:
        yield "twin", f"[red]{_plain(found.sharp)}[/]"
    else:
        twin = found.twin
        yield (
            "twin",
            f"{twin.kinks} kinks smoothed, none sharp; logits differ by {_share(twin.logits)} of their spread, the "
            f"gradient by {_share(twin.gradient)} as τ → 0; second derivative {number(twin.second)} of its change",
        )
    norms = (f"{name} {'[red]not finite[/]' if v is None else f'{v:.2g}'}" for name, v in found.gradients.items())
    yield "gradients", ", ".join(norms)
    yield (
        "answers",
        f"differ by {found.twice or 0:.0e} when asked twice, by {found.alone or 0:.0e} alone and in a batch",
    )
    grids = [
        f"{_plain(layer.name)} {'×'.join(map(str, layer.shape))} (stride {layer.stride})" for layer in found.layers
    ]
    yield "layers", "\n".join(grids) or "none with maps"


def _maps(found: Insight) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("interpreter", no_wrap=True)
    table.add_column("passes", justify="right", no_wrap=True)
    table.add_column("seconds", justify="right", no_wrap=True)
    table.add_column("fits", overflow="fold")
    for one in found.maps:
        about = "" if one.measured or one.passes is None else "~"
        reason = f"[yellow]no:[/] {_plain(one.reason)}" if one.reason else "[green]yes[/]"
        table.add_row(_plain(one.name), about + number(one.passes), about + number(one.seconds), reason)
    return table


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.0e}" if value else "0"


def _plain(text: str) -> str:
    return escape(plain(text))
