"""What `underfire list` shows: every name, with the first line of its documentation. It imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.markup import escape
from rich.table import Table

from underfire.cli.progress import console
from underfire.core.presets import PRESET_NAMES
from underfire.registry import KINDS, Listed, listed

VARIANTS = {"timm": "NAME", "torchvision": "NAME", "clip": "NAME", "onnx": "FILE", "script": "FILE", "hf": "DIR|NAME"}
"""What stands behind the colon in the names of classifiers."""
OTHERS = "others"
"""The group of interpreters that name no family."""


def show_names() -> None:
    """Print everything that can be named."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for kind in KINDS:
        _add(table, kind, listed(kind))
    table.add_row("[bold]presets[/]", "")
    for name, reason in PRESET_NAMES.items():
        table.add_row(f"  {name}", reason)
    console.print(table)


def _add(table: Table, kind: str, parts: Sequence[Listed]) -> None:
    """Add the parts of a kind; interpreters stand under their families, those without one at the end."""
    if parts:
        table.add_row(f"[bold]{kind}[/]", "")
    in_families = kind == "interpreters"
    by_family = sorted(parts, key=lambda part: (not part.family, part.family, part.name))
    for family, members in groupby(by_family, lambda part: in_families and (part.family or OTHERS)):
        if family:
            table.add_row(f"  [dim]{family}[/]", "")
        for part in members:
            shown = f"{part.name}:{VARIANTS[part.name]}" if part.name in VARIANTS else part.name
            table.add_row(escape(f"  {'  ' if family else ''}{shown}"), escape(part.said))
