"""The views of a result: one line, a strip of pictures, a folder of files."""

from __future__ import annotations

import re
import sys
import tempfile
import webbrowser
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
from jinja2 import Template

from underfire.core import Record, UnderfireError
from underfire.core.files import write_whole
from underfire.images import pixels
from underfire.images.formats import suffix_of
from underfire.images.overlay import difference, over, uri
from underfire.metrics.verdict import MapVerdict
from underfire.report.html import environment
from underfire.report.text import count, number, pretty

if TYPE_CHECKING:
    from underfire.notebook.result import Result

SHOWN = 12
"""Images of a strip at most: each is some 60 kB of the notebook's file."""


def line(result: Result) -> str:
    """Say in one line what came of it: ``Result(2 photos, ADV² on CAM: 2 success, 2 forged, L1 0.0006)``."""
    good = [record for record in result.records if record.error is None]
    if not good:
        return f"Result({count(len(result), 'photo')}, none could be attacked)"
    forged = Counter(one.forged for one in result.verdicts)
    said = [f"{sum(bool(record.success) for record in good)} success"]
    said.append(f"{forged[True]} forged" if forged[True] + forged[False] else "forged: not calibrated")
    said.append(f"L1 {number(float(np.mean([record.map_l1 for record in good])))}")
    failed = len(result) - len(good)
    said += [f"{count(failed, 'error')}"] if failed else []
    return f"Result({count(len(result), 'photo')}, {attack_of(good[0])}: {', '.join(said)})"


def attack_of(record: Record) -> str:
    """Say which attack on which interpreter a record is of."""
    on = pretty(record.interpreter)
    return f"{pretty(record.attack)} on {on}" if record.against else f"{pretty(record.attack)}, seen by {on}"


@dataclass(frozen=True)
class ShownResult:
    """One image of a strip; the pictures are data URIs, None where it could not be attacked."""

    record: Record
    verdict: MapVerdict
    before: str | None = None
    map_before: str | None = None
    after: str | None = None
    map_after: str | None = None
    change: str | None = None
    factor: int = 1


def strip(result: Result) -> str:
    """Write the strip of pictures as a piece of HTML that needs nothing else."""
    items = [_shown(result, i) for i in range(min(SHOWN, len(result)))]
    more = len(result) - len(items)
    return str(
        _template("strip.html.j2").render(items=items, line=line(result), attack=attack_of, name=_name, more=more)
    )


def _name(path: str) -> str:
    return PurePath(path).name


def _shown(result: Result, i: int) -> ShownResult:
    record, row = result.records[i], result.row(i)
    verdict = result.verdicts[i]
    if row is None:
        return ShownResult(record, verdict)
    clean, after = (pixels.to_levels(x[row : row + 1])[0] for x in (result.clean, result.images))
    maps = [m[row].cpu().numpy() for m in (result.clean_maps, result.maps)]
    change, factor = difference(clean, after)
    pictures = uri(clean), uri(over(clean, maps[0])), uri(after), uri(over(after, maps[1]))
    return ShownResult(record, verdict, *pictures, change, factor)


def _template(name: str) -> Template:
    return environment(Path(__file__).parent).get_template(name)


def show(result: Result) -> None:
    """Show a result in the notebook that runs this, or else in a window of the browser."""
    if in_notebook():
        from IPython.display import display  # noqa: PLC0415 (where this runs, it is loaded already)

        display(result)
        return
    page = save(result, Path(tempfile.mkdtemp(prefix="underfire-")))
    sys.stdout.write(f"{line(result)}\n{page}\n")
    webbrowser.open(page.as_uri())


def in_notebook() -> bool:
    """Tell whether this runs in Jupyter."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def save(result: Result, folder: Path) -> Path:
    """Write the files of a result into a folder; see `Result.save`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for i, record in enumerate(result.records):
            row = result.row(i)
            if row is None:
                continue
            name = f"{i:03d}-{re.sub(r'[^A-Za-z0-9._-]+', '-', PurePath(record.image).stem)[:60]}"
            (folder / f"{name}-forged{suffix_of(record.saved_as)}").write_bytes(result.files[row])
            result.overlay(i, clean=True).save(folder / f"{name}-map-before.png")
            result.overlay(i).save(folder / f"{name}-map-after.png")
        pq.write_table(result.to_table(), folder / "results.parquet")
        page = _template("page.html.j2").render(strip=strip(result), line=line(result))
        write_whole(folder / "index.html", page.encode())
    except OSError as e:
        raise UnderfireError(f"Cannot write into '{folder}' ({e.strerror or e}): give another folder.") from e
    return folder / "index.html"
