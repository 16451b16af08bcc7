"""What the terminal shows: progress, the table at the end, the estimate, the names."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich import progress as bars
from rich.console import Console
from rich.table import Table

from underfire import metrics, registry
from underfire import plan as planning
from underfire.attacks.presets import PRESET_NAMES
from underfire.audit import stored_plan
from underfire.core import Outcome
from underfire.plan import Plan, Settings
from underfire.store import Store

STAGES = {"scale": "JPEG scale", "records": "Attacking"}
ERRORS_SHOWN = 10
_console = Console(stderr=False)


def say(line: str) -> None:
    """One line, as it is."""
    _console.print(line, soft_wrap=True, markup=False, highlight=False)


class Progress:
    """A bar for each stage: images done, images/s, time left, running success rate."""

    def __enter__(self) -> Progress:
        self._bars = bars.Progress(
            bars.TextColumn("{task.description:<10}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn("images"),
            bars.TextColumn("{task.fields[rate]}"),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}"),
            console=_console,
            refresh_per_second=4,
        )
        self._bars.start()
        self._task: bars.TaskID | None = None
        self._wins = self._shots = 0
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the bars as they are."""
        self._bars.stop()

    def begin(self, stage: str, total: int, done: int) -> None:
        """A new bar."""
        self._task = self._bars.add_task(STAGES[stage], total=total, completed=done, rate="", note="")
        self._start, self._here = time.monotonic(), 0
        if done:
            self._bars.update(self._task, note=f"{done} from an earlier run")

    def advance(self, outcome: Outcome) -> None:
        """A unit more."""
        if self._task is None:
            return
        n = len(outcome.unit.photos)
        self._here += n
        rate = f"{self._here / max(1e-9, time.monotonic() - self._start):.2f}/s"
        note = ""
        if outcome.unit.stage == "records":
            good = [row.success for row in outcome.rows if row.error is None]
            self._wins, self._shots = self._wins + sum(good), self._shots + len(good)
            note = f"success {self._wins / self._shots:.1%}" if self._shots else "no result yet"
        self._bars.update(self._task, advance=n, rate=rate, note=note)


def show_results(out: Path) -> tuple[int, int]:
    """The table at the end of a run; returns how many rows failed, and how many did not."""
    rows = Store(out).rows()
    table = Table(title="Judged on the saved 8-bit PNGs with the real interpreter")
    for name in ("attack", "against", "judged by"):
        table.add_column(name)
    for name in ("n", "success", "forged", "confidence", "map L1", "map IoU", "passes", "seconds"):
        table.add_column(name, justify="right")
    for s in metrics.summarise(rows):
        table.add_row(
            s.cell["attack"],
            s.cell["against"] or "–",
            s.cell["interpreter"],
            f"{s.n}" + (f" (+{s.errors} failed)" if s.errors else ""),
            _rate(s.success),
            _rate(s.forged),
            _number(s.confidence, 4),
            _number(s.map_l1, 4),
            _number(s.map_iou, 3),
            _number(s.passes, 0),
            _number(s.seconds, 1),
        )
    _console.print(table)
    failed = {row["image"]: row["error"] for row in rows if row["error"] is not None}
    if failed:
        say(f"{len(failed)} image{'s' if len(failed) > 1 else ''} without a result (all are in the report):")
        for reason in list(failed.values())[:ERRORS_SHOWN]:
            say(f"  {reason}")
        if len(failed) > ERRORS_SHOWN:
            say(f"  … and {len(failed) - ERRORS_SHOWN} more")
    return len(failed), sum(row["error"] is None for row in rows)


def _rate(e: metrics.Estimate) -> str:
    if e.value is None or e.low is None or e.high is None:
        return "–"
    return f"{e.value:.0%} [dim]({e.low:.0%}–{e.high:.0%})[/]"


def _number(e: metrics.Estimate, digits: int) -> str:
    return "–" if e.value is None else f"{e.value:.{digits}f}"


def show_plan(settings: Settings, out: Path) -> None:
    """Tasks, passes and time of a run."""
    plan, classifier = planning.make_plan(settings, stored_plan(out))
    seconds = seconds_a_pass(plan, classifier)
    table = Table(title=f"{len(plan.photos)} photos, {plan.settings.classifier}, ε = {plan.settings.eps}/255, preset {plan.settings.preset}")
    table.add_column("task")
    table.add_column("images", justify="right")
    table.add_column("passes at most", justify="right")
    for cell in plan.job.cells:
        table.add_row(f"{cell.attack.name}" + (f" on {cell.against}" if cell.against else ""), str(len(plan.photos)), "")
    total = plan.image_passes * len(plan.photos)
    scale = sum(plan.scale_passes * len(unit.photos) for unit in plan.scale_units()) / max(1, len(plan.job.interpreters))
    table.add_row("all of it, with maps and judgements", str(len(plan.photos)), f"{total + scale:,.0f}")
    _console.print(table)
    units = list(plan.units({}))
    done = Store(out).done("records")
    missing = sum(len(unit.photos) for unit in units if unit.name not in done)
    left = seconds * (plan.image_passes * missing + scale) / plan.settings.workers
    say(
        f"{len(units)} units of up to {plan.settings.batch_size} images, {plan.settings.workers} worker(s) of "
        f"{plan.settings.threads} threads on {plan.job.device}; {len(photos_done(units, done))} of them done in '{out}'."
    )
    say(f"At {1 / seconds:.0f} passes/s: {_duration(left)} at most; images that are done early cost less.")


def photos_done(units: list[Any], done: set[str]) -> list[str]:
    """Names of the units that are finished."""
    return [unit.name for unit in units if unit.name in done]


def seconds_a_pass(plan: Plan, classifier: Any) -> float:
    """Wall time of one forward-equivalent, from a few steps on random pixels."""
    import torch  # noqa: PLC0415

    from underfire import trial  # noqa: PLC0415

    trial.prepare(plan.job.threads)
    n, size = plan.settings.batch_size or 1, classifier.preprocess.input_size
    x = torch.rand(n, 3, size, size).to(plan.job.device).requires_grad_()
    steps = 0
    torch.autograd.grad(classifier.logits(x)[:, 0].sum(), x)
    start = time.perf_counter()
    while steps < 2 or time.perf_counter() - start < 1:
        torch.autograd.grad(classifier.logits(x)[:, 0].sum(), x)[0].cpu()
        steps += 1
    return (time.perf_counter() - start) / (3 * n * steps)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def show_names() -> None:
    """Everything that can be named, with its first line of documentation."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for kind in registry.KINDS:
        table.add_row(f"[bold]{kind}[/]", "")
        for name in registry.names(kind):
            shown = f"{name}:NAME" if name == "timm" else name
            table.add_row(f"  {shown}", ((registry.maker(kind, name).__doc__ or "").strip().splitlines() or [""])[0])
    table.add_row("[bold]presets[/]", "")
    for name in PRESET_NAMES:
        table.add_row(f"  {name}", "")
    _console.print(table)
