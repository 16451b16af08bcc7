"""What the terminal shows: progress, the table at the end, the estimate, the names."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from rich import box
from rich import progress as bars
from rich.console import Console
from rich.table import Table

from underfire import metrics, registry, study, study_run, system, train, transfer
from underfire import plan as planning
from underfire.attacks.presets import PRESET_NAMES
from underfire.audit import stored_plan
from underfire.core import Classifier, Outcome
from underfire.place import Place
from underfire.plan import Lane, Plan, Settings
from underfire.store import Store
from underfire.study_page import write_study

STAGES = {
    "scale": "JPEG scale",
    "records": "Attacking",
    "transfer": "Judging",
    "calibrate": "Looking",
    "check": "Looking",
}
ERRORS_SHOWN = 10
_console = Console(stderr=False)


def say(line: str) -> None:
    """One line, as it is."""
    _console.print(line, soft_wrap=True, markup=False, highlight=False)


class Progress:
    """A bar for each stage: judgements done and a second, time left, running success rate, failed units."""

    def __init__(self, counted: str = "judgements") -> None:
        self.counted = counted
        """What is done, in words."""

    def __enter__(self) -> Self:
        self._bars = bars.Progress(
            bars.TextColumn("{task.description:<10}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TextColumn(self.counted),
            bars.TextColumn("{task.fields[rate]}"),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}"),
            console=_console,
            refresh_per_second=4,
        )
        self._task: bars.TaskID | None = None
        self._wins = self._shots = self._failed = 0
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Leave the bars as they are."""
        if self._task is not None:
            self._bars.stop()

    def begin(self, stage: str, total: int, done: int) -> None:
        """A new bar."""
        self._bars.start()
        self._task = self._bars.add_task(STAGES[stage], total=total, completed=done, rate="", note="")
        self._start, self._here = time.monotonic(), 0
        if done:
            self._bars.update(self._task, note=f"{done} from an earlier run")

    def advance(self, outcome: Outcome) -> None:
        """A unit more."""
        if self._task is None:
            return
        n = len(outcome.rows)
        self._here += n
        self._failed += outcome.error is not None
        rate = f"{self._here / max(1e-9, time.monotonic() - self._start):.2f}/s"
        note = ""
        if outcome.unit.stage == "records":
            good = [row.success for row in outcome.rows if row.error is None]
            self._wins, self._shots = self._wins + sum(good), self._shots + len(good)
            note = f"success {self._wins / self._shots:.1%}" if self._shots else "no result yet"
        if self._failed:
            note += f", {_count(self._failed, 'unit')} failed"
        self._bars.update(self._task, advance=n, rate=rate, note=note)

    def done(self, n: int) -> None:
        """So many in all, where there are no outcomes."""
        if self._task is not None:
            self._bars.update(self._task, completed=n)

    def note(self, text: str) -> None:
        """A line above the bars."""
        self._bars.console.print(text, soft_wrap=True, markup=False, highlight=False)


def show_results(out: Place) -> tuple[int, int]:
    """The table at the end of a run; returns how many rows failed, and how many did not."""
    rows = Store(out).rows()
    table = Table(
        title="Judged on the saved 8-bit PNGs with the real interpreter",
        caption="rates with 95 % intervals; conf. is the target's probability; passes and seconds (s) per image",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title_justify="left",
        caption_justify="left",
    )
    for name in ("attack", "judged by"):
        table.add_column(name, overflow="fold")
    summaries = metrics.summarise(rows)
    defended = any(s.alarm.n for s in summaries)
    for name in ("n", "success", "forged", *(["alarm"] if defended else []), "conf.", "map L1", "IoU", "passes", "s"):
        table.add_column(name, justify="right", overflow="fold")
    for s in summaries:
        table.add_row(
            s.cell["attack"] + (f" on {s.cell['against']}" if s.cell["against"] else ""),
            s.cell["interpreter"],
            f"{s.n}",
            _rate(s.success),
            _rate(s.forged),
            *([_rate(s.alarm)] if defended else []),
            _number(s.confidence, 3),
            _number(s.map_l1, 4),
            _number(s.map_iou, 3),
            _number(s.passes, 0),
            _number(s.seconds, 1),
        )
    _console.print(table)
    _say_failed(rows)
    return sum(row["error"] is not None for row in rows), sum(row["error"] is None for row in rows)


def _say_failed(rows: list[dict[str, Any]]) -> None:
    """Each reason once, with the images that it does not name itself."""
    reasons: dict[str, dict[str, None]] = {}
    for row in rows:
        if row["error"] is not None:
            reasons.setdefault(row["error"], {})[row["image"]] = None
    if not reasons:
        return
    n = len({image for found in reasons.values() for image in found})
    say(f"{n} image{'s' if n > 1 else ''} without a full result (all are in the report):")
    for reason, found in list(reasons.items())[:ERRORS_SHOWN]:
        named = [image for image in found if image not in reason]
        shown = ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
        say(f"  {shown}: {reason}" if shown else f"  {reason}")
    if len(reasons) > ERRORS_SHOWN:
        say(f"  … and {len(reasons) - ERRORS_SHOWN} more")


def _rate(e: metrics.Estimate) -> str:
    if e.value is None or e.low is None or e.high is None:
        return "–"
    return f"{e.value:.0%}\n[dim]{e.low:.0%}–{e.high:.0%}[/]"


def _number(e: metrics.Estimate, digits: int) -> str:
    return "–" if e.value is None else f"{e.value:.{digits}f}"


def show_plan(settings: Settings, out: Place) -> None:
    """Tasks, passes and time of a run."""
    plan, classifier = planning.make_plan(settings, stored_plan(out))
    seconds = system.seconds_a_pass(classifier, plan.settings.batch_size or 1, plan.job.device, plan.job.threads)
    s = plan.settings
    table = Table(title=f"{_count(len(plan.photos), 'photo')}, {s.classifier}, ε = {s.eps}/255, preset {s.preset}")
    table.add_column("task")
    table.add_column("images", justify="right")
    table.add_column("passes at most", justify="right")
    for cell, passes in zip(plan.job.cells, plan.cell_passes, strict=True):
        name = f"{cell.attack.name} on {cell.against}" if cell.against else cell.attack.name
        table.add_row(name, str(len(plan.photos)), f"{passes * len(plan.photos):,.0f}")
    total = plan.image_passes * len(plan.photos)
    scale = sum(plan.scale_passes * len(unit.photos) for unit in plan.scale_units()) / max(
        1, len(plan.job.interpreters)
    )
    table.add_row("all of it, with the clean maps", str(len(plan.photos)), f"{total + scale:,.0f}")
    _console.print(table)
    units = list(plan.units({}))
    done = Store(out).done("records")
    cost = {lane.interpreters: lane.passes for lane in plan.lanes}
    missing = sum(cost[unit.job.interpreters] * len(unit.photos) for unit in units if unit.name not in done)
    left = seconds * (missing + scale) / plan.settings.workers
    say(
        f"{_count(len(units), 'unit')}: {'; '.join(_lane(plan, lane) for lane in plan.lanes)}; "
        f"{_count(s.workers, 'worker')} of {_count(s.threads, 'thread')} on {plan.job.device}; "
        f"{sum(unit.name in done for unit in units)} of them done in '{out}'."
    )
    say(f"At {1 / seconds:.0f} passes/s: {_duration(left)} at most; images that are done early cost less.")


def _lane(plan: Plan, lane: Lane) -> str:
    """What the units of a lane are, and cost."""
    most = max(len(unit.photos) for unit in plan.units({}) if unit.job.interpreters == lane.interpreters)
    return f"{'+'.join(lane.interpreters)} up to {_count(most, 'image')} and {lane.passes * most:,.0f} passes each"


def _count(n: int | None, what: str) -> str:
    return f"{n} {what}" + ("" if n == 1 else "s")


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


class TrainProgress:
    """A bar for the steps with the objective's terms, and a line of figures for each epoch."""

    def __enter__(self) -> TrainProgress:
        self._bars = bars.Progress(
            bars.TextColumn("{task.description:<10}"),
            bars.BarColumn(bar_width=20),
            bars.MofNCompleteColumn(),
            bars.TextColumn("steps"),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[note]}"),
            console=_console,
            refresh_per_second=2,
        )
        self._task: bars.TaskID | None = None
        self._means: dict[str, float] = {}
        return self

    def __exit__(self, *_: object) -> None:
        if self._task is not None:
            self._bars.stop()

    def begin(self, photos: int, validation: int, epochs: int, steps: int, epoch: int) -> None:
        """A bar over all epochs that may come."""
        say(
            f"{photos} photos to train on, {validation} of other classes to judge by"
            + (f"; going on after epoch {epoch}" if epoch else "")
        )
        self._bars.start()
        self._task = self._bars.add_task("Training", total=epochs * steps, completed=epoch * steps, note="")

    def step(self, epoch: int, terms: Mapping[str, float]) -> None:
        """A step more."""
        if self._task is None:
            return
        self._means = {name: 0.9 * self._means.get(name, value) + 0.1 * value for name, value in terms.items()}
        self._bars.update(
            self._task, advance=1, note=" ".join(f"{name} {value:.2f}" for name, value in self._means.items())
        )

    def figures(self, epoch: int, figures: Mapping[str, float], best: bool) -> None:
        """What an epoch brought."""
        say(
            f"epoch {epoch:3}: saliency metric {figures['saliency_metric']:+.3f}{' (best)' if best else ''}, the class "
            f"loses {figures['drop_top']:.3f} without the map's top 20 %, {figures['drop_random']:.3f} without a "
            "random 20 %"
        )
        if "forged_l1" in figures:
            say(
                f"           benign maps are {figures['benign_l1']:.3f} (L1) from the plain network's, forged ones "
                f"{figures['forged_l1']:.3f} from benign ones"
            )


def classifier_of(settings: Settings) -> Classifier:
    """The classifier that settings name, ready to be asked."""
    system.prepare(settings.threads or os.cpu_count() or 1)
    device = planning.choose_device(settings.device)
    return registry.build_classifier(settings.classifier, settings.classifier_options, device)


def train_rts(
    settings: Settings,
    epochs: int | None,
    patience: int | None,
    out: Path | None,
    adversarial: bool = False,
    plain: str | None = None,
) -> bool:
    """Train an RTS network and say what came of it; False where some photos could not be used.

    Args:
        settings: classifier, photos and machine.
        epochs: at most so many.
        patience: epochs without a better one after which to stop.
        out: the file to write.
        adversarial: on forged images too, starting from a plain network.
        plain: that network's file; by default the packaged one.
    """
    with TrainProgress() as listener:
        done = train.train_rts(
            classifier_of(settings),
            settings.images,
            out,
            adversarial=adversarial,
            plain=plain,
            epochs=epochs,
            patience=patience,
            limit=settings.limit,
            seed=settings.seed,
            precision=settings.precision or "fp32",
            listener=listener,
        )
    for reason in list(done.skipped.values())[:ERRORS_SHOWN]:
        say(f"Left out: {reason}")
    figures = done.card.figures
    if not done.fresh:
        say(f"'{done.path}' is trained already, with these photos and settings.")
    beside = ("a centre blob", "saliency_metric_centre_blob") if not adversarial else ("plain", "plain_saliency_metric")
    say(
        f"On {figures['validation_photos']:.0f} photos of classes not trained on: saliency metric "
        f"{figures['saliency_metric']:+.3f} ({beside[0]} {figures[beside[1]]:+.3f}); without the map's top 20 % the "
        f"class loses {figures['drop_top']:.3f}, without a random 20 % {figures['drop_random']:.3f}."
    )
    if adversarial:
        say(
            f"Benign maps are {figures['benign_l1']:.3f} (L1) from the plain network's; forged ones, attacked for "
            f"{train.JUDGED_STEPS} steps, {figures['forged_l1']:.3f} from benign ones."
        )
    say(f"Written: {done.path}, and what its maps look like: {done.picture}")
    kind = done.card.kind
    say(f"Use it: underfire run --images DIR --interpreter {kind} --set {kind}.weights={done.path} …")
    return not done.skipped


class StudyProgress(Progress):
    """Bars as in an audit, below a line for each part."""

    def part(self, n: int, of: int, name: str) -> None:
        """The n-th part starts."""
        self.stop()
        say(f"[{n}/{of}] {name}")
        self.__enter__()


def run_study(
    plan: Path | None, flags: Mapping[str, Any], quick: bool, out: Path | None, samples: int
) -> tuple[int, int]:
    """Say what a study will cost, run what is missing of it, and write its page.

    Returns:
        How many judgements failed, those of audits that could not be run among them, and how many did not.
    """
    start = time.monotonic()
    asked = study.asked(plan, flags, quick)
    out = out or (study.home(plan) if plan else None) or study.default_out(asked)
    agenda = study.Agenda(asked)
    for classifier, interpreter, why in agenda.left_out:
        say(f"Left out: {interpreter} on {classifier}. {why}")
    planned = study_run.estimate(agenda, out)
    _show_estimate(agenda, planned, out)
    with StudyProgress() as watcher:
        failed = study_run.run(agenda, planned, out, watcher)
    say(f"Done in {_duration(time.monotonic() - start)}.")
    for name, why in failed.items():
        say(f"Not finished: {name}. {why}")
    rows = [row for one in planned for s in ("records", transfer.STAGE) for row in Store(out / one.part.folder).rows(s)]
    _say_failed(rows)
    good = sum(row["error"] is None for row in rows)
    if good:
        say(f"The study: {write_study(out, samples)}")
    return len(rows) - good + len(failed), good


def _show_estimate(agenda: study.Agenda, planned: Sequence[study_run.Estimate], out: Path) -> None:
    table = Table(title="What is missing, at most", box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("audit", overflow="fold")
    table.add_column("interpreters", overflow="fold")
    for name in ("photos", "passes", "time"):
        table.add_column(name, justify="right")
    for one in planned:
        settings = one.part.settings
        seconds = one.passes * one.seconds_a_pass
        row = (one.part.folder, ", ".join(settings.interpreter), str(len(one.plan.photos)), f"{one.passes:,.0f}")
        table.add_row(*row, _duration(seconds))
    passes, seconds = study_run.estimate_transfer(agenda, planned, out)
    table.add_row("judgements across", "", "", f"{passes:,.0f}", _duration(seconds))
    total = sum(one.passes for one in planned) + passes
    seconds += sum(one.passes * one.seconds_a_pass for one in planned)
    table.add_row("all of it", "", "", f"{total:,.0f}", _duration(seconds))
    _console.print(table)


def show_names() -> None:
    """Everything that can be named, with its first line of documentation."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for kind in registry.KINDS:
        names = registry.names(kind)
        if names:
            table.add_row(f"[bold]{kind}[/]", "")
        for name in names:
            shown = f"{name}:NAME" if name == "timm" else name
            table.add_row(f"  {shown}", ((registry.maker(kind, name).__doc__ or "").strip().splitlines() or [""])[0])
    table.add_row("[bold]presets[/]", "")
    for name, reason in PRESET_NAMES.items():
        table.add_row(f"  {name}", reason)
    _console.print(table)
