"""What the terminal shows of a defense: its calibration, and its verdicts."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from underfire.cli.flags import classifier_of
from underfire.cli.progress import Progress, console, say
from underfire.cli.show import ERRORS_SHOWN
from underfire.cli.streams import plain
from underfire.core import UnderfireError
from underfire.core.place import slug, write_whole
from underfire.defenses.ensemble.alarm import EnsembleAlarm, Verdict
from underfire.defenses.ensemble.calibrate import calibrate
from underfire.images.overlay import over
from underfire.images.photos import Folder
from underfire.images.pixels import encode_png, forged_note
from underfire.plan.settings import Settings
from underfire.train.run import out_folder_writable

ENOUGH = 100
"""Photos from which on the statistics are no longer rough; a guess from the first look (docs/defenses.md)."""


def calibrate_alarm(settings: Settings, members: Sequence[str] | None, false_alarms: float, out: Path) -> bool:
    """Learn an alarm from benign photos and write its file; False where some photos could not be used."""
    out_folder_writable(out)
    classifier = classifier_of(settings)
    with Progress("photos") as bar:

        def told(done: int, of: int) -> None:
            if done == 0:
                bar.begin("calibrate", of, 0)
            bar.done(done)

        known, skipped = calibrate(
            classifier, settings.images, members, settings.options, false_alarms, settings.limit, told
        )
    known.write(out)
    for sentence in Folder(settings.images).left_out:
        say(sentence)
    for reason in list(skipped.values())[:ERRORS_SHOWN]:
        say(plain(f"No score: {reason}"))
    raised = sum(score > known.threshold for score in known.scores) + known.unexplained
    say(
        f"{len(known.photos)} benign photos, members {', '.join(known.names)}: threshold {known.threshold:.3f}; "
        f"{raised} of the {len(known.scores) + known.unexplained} photos that it was chosen on raise an alarm."
    )
    if len(known.photos) < ENOUGH:
        say(f"The promise of false alarms holds, but the score finds more when it has seen {ENOUGH} photos or more.")
    own = settings.classifier_options
    flags = "".join(
        f" --{name.replace('_', '-')} {shlex.quote(_word(value))}"
        for name, value in ((f.name, getattr(own, f.name)) for f in dataclasses.fields(own))
        if value is not None
    )
    say(f"Written: {out}\nUse it: underfire check IMAGE… --defense {shlex.quote(str(out))}{flags}")
    return not skipped


def _word(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def check(
    paths: Sequence[str],
    defense: str,
    settings: Settings,
    members: Sequence[str] | None = None,
    as_json: bool = False,
    save: Path | None = None,
) -> tuple[bool, bool]:
    """Ask an alarm about images, and print what it says; whether it raised an alarm, and whether all could be read."""
    alarm = EnsembleAlarm(classifier_of(settings), defense, members, settings.options)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("image", "prediction", "confidence", "score", "threshold", "verdict"):
        text = name in ("image", "prediction", "verdict")
        table.add_column(name, justify="left" if text else "right", overflow="fold" if text else "ellipsis")
    if save is not None:
        _make(save)
    raised = bad = False
    used: set[str] = set()
    with Progress("pictures") as bar:
        if len(paths) > 1 and console.is_terminal and not as_json:
            bar.begin("check", len(paths), 0)
        try:
            for n, path in enumerate(paths, 1):
                try:
                    verdict = _verdict(alarm, path)
                except UnderfireError as e:  # the others are asked about all the same
                    bad = True
                    typer.secho(f"underfire: {plain(str(e))}", err=True, fg=typer.colors.RED)
                    bar.done(n)
                    continue
                raised |= verdict.alarm
                if save is not None:
                    _save(verdict, save, used)
                if as_json:
                    say(json.dumps(verdict.row(), ensure_ascii=False))
                table.add_row(*_cells(verdict))
                bar.done(n)
        finally:  # stopped halfway, it shows what it knows
            bar.stop()
            if table.row_count and not as_json:
                console.print(table)
    return raised, not bad


def _verdict(alarm: EnsembleAlarm, path: str) -> Verdict:
    there = Path(path).expanduser()
    if there.is_dir():
        raise UnderfireError(f"'{path}' is a folder: name its pictures, such as {shlex.quote(path.rstrip('/'))}/*.png.")
    if not there.is_file():
        raise UnderfireError(f"There is no image '{path}' to check.")
    verdict = alarm.check(path)
    if forged_note(there.read_bytes()):
        # Not taken as it is: what skips a deployed system's resizing must not be for the picture itself to say.
        note = f"'{path}' was made by underfire: here it is resized and cropped anew, as any upload, which undoes much "
        typer.secho(plain(note) + "of an attack; its audit's records say what the alarm said of it as it is.", err=True)
    return verdict


def _cells(v: Verdict) -> list[str]:
    score = "no map" if v.score is None else f"{v.score:.3f}"
    verdict = "[bold red]ALARM[/]" if v.alarm else "quiet"
    return [
        escape(plain(v.image)),
        escape(plain(v.prediction)),
        f"{v.confidence:.3f}",
        score,
        f"{v.threshold:.3f}",
        verdict,
    ]


def _save(verdict: Verdict, folder: Path, used: set[str]) -> None:
    """Each member's map over the photo, as FOLDER/IMAGE.MEMBER.png; of two photos of one name the second is IMAGE-2."""
    stem = slug(verdict.image)
    numbered = (f"{stem}-{i}" for i in itertools.count(2))
    name = next(n for n in itertools.chain([stem], numbered) if n not in used)
    used.add(name)
    with _told(folder):
        for member, m in verdict.maps.items():
            write_whole(folder / f"{name}.{member}.png", encode_png(over(verdict.levels, m)))


def _make(folder: Path) -> None:
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turn the system's errors into the user's."""
    try:
        yield
    except OSError as e:
        raise UnderfireError(f"Cannot write into '{folder}' ({e.strerror or e}): give another --save.") from e
