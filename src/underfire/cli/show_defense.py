"""What the terminal shows of a defense: its calibration and its verdicts."""

from __future__ import annotations

import contextlib
import itertools
import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from underfire.cli.flags import classifier_of
from underfire.cli.progress import Progress, console, say
from underfire.cli.show import ERRORS_SHOWN
from underfire.cli.streams import plain
from underfire.core import HEADS, Quiet, UnderfireError
from underfire.core.files import writable_or_say, write_whole
from underfire.core.naming import as_flags
from underfire.core.place import slug
from underfire.defenses.alarm import Alarm
from underfire.defenses.calibrate import Wanted, calibrate
from underfire.defenses.calibration import CONFIDENCE, Calibration
from underfire.defenses.check import Checked, check
from underfire.defenses.verdict import Verdict
from underfire.heads import kind_of
from underfire.images.overlay import over
from underfire.images.photos import Folder
from underfire.images.pixels import encode_png
from underfire.plan.settings import Settings

ENOUGH = 100
"""Number of photos from which the statistics are no longer rough; a guess from first results (docs/defenses.md)."""


def show_calibration(settings: Settings, wanted: Wanted, out: Path) -> bool:
    """Learn an alarm from benign photos, write its file, and print how good it is.

    Args:
        settings: the classifier, the photos, and the options of the members.
        wanted: what kind of alarm.
        out: the file.

    Returns:
        False where some photos could not be used.
    """
    writable_or_say(out, "give another --out")
    classifier = classifier_of(settings)
    with Progress("photos") as listener:
        known, skipped = calibrate(
            *(
                classifier,
                settings.images,
                wanted.members,
                wanted.options,
                wanted.false_alarms,
                settings.limit,
                listener,
            ),
            kind=wanted.kind,
            confidence=wanted.confidence,
        )
    known.write(out)
    for sentence in Folder(settings.images).left_out:
        say(sentence)
    for reason in list(skipped.values())[:ERRORS_SHOWN]:
        say(plain(f"No score: {reason}"))
    _say_calibrated(known)
    flags = shlex.join(["--defense", str(out), *as_flags(vars(settings.classifier_options))])
    say(f"Written: {out}\nUse it: underfire check IMAGE… {flags}")
    return not skipped


def _say_calibrated(known: Calibration) -> None:
    raised = sum(score > known.threshold for score in known.scores) + known.unexplained
    members = f", members {', '.join(known.names)}" if known.names else ""
    say(
        f"{len(known.photos)} benign photos{members}, {known.defense}: threshold {known.threshold:.3f}; {raised} of "
        f"the {len(known.scores) + known.unexplained} photos that it was chosen on raise an alarm."
    )
    say(
        f"False alarms on photos of the same kind: {known.expected:.1%} on average over calibrations; of this one "
        f"{known.bound:.1%} at most, with {CONFIDENCE:.0%} confidence."
    )
    if len(known.photos) < ENOUGH:
        say(f"These rates are kept, but with {ENOUGH} photos or more the alarm would find more attacks.")


def show_checks(
    paths: Sequence[str],
    defense: str,
    settings: Settings,
    members: Sequence[str] | None = None,
    as_json: bool = False,
    save: Path | None = None,
) -> tuple[bool, bool]:
    """Ask an alarm about images, and print its verdicts.

    Args:
        paths: the files of the images.
        defense: the alarm's file.
        settings: the classifier, and the options of the members.
        members: names of the interpreters that must be in the file.
        as_json: whether to print JSON in place of a table.
        save: a folder for pictures of the maps.

    Returns:
        Whether an alarm was raised, and whether all images could be read.
    """
    alarm = Alarm(classifier_of(settings), defense, members, settings.options)
    if save is not None:
        _make(save)
    table, used, raised, bad = _verdicts(), set[str](), False, False
    with Progress("images") as bar:
        listener = bar if len(paths) > 1 and console.is_terminal and not as_json else Quiet()
        try:
            for one in check(paths, alarm, listener):
                _warn(one)
                bad |= one.verdict is None
                if one.verdict is not None:
                    raised |= one.verdict.alarm
                    table.add_row(*_cells(one.verdict))
                    _show(one.verdict, save, used, as_json)
        finally:  # if it is stopped halfway, it shows what it knows
            bar.stop()
            if table.row_count and not as_json:
                console.print(table)
                _say_head(alarm)
    return raised, not bad


def _say_head(alarm: Alarm) -> None:
    """Say what a prediction is, where it is not the usual first choice of several classes."""
    kind = kind_of(alarm.classifier)
    if kind != "softmax":
        shown = " A prediction is the strongest label." if kind == "multilabel" else ""
        say(f"Outputs of '{alarm.classifier.name}': {HEADS[kind]}.{shown}")


def _show(verdict: Verdict, save: Path | None, used: set[str], as_json: bool) -> None:
    """Save the maps of a verdict, and print its line of JSON, where these are asked for."""
    if save is not None:
        _save(verdict, save, used)
    if as_json:
        typer.echo(json.dumps(verdict.row()))


def _verdicts() -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("image", "prediction", "confidence", "score", "threshold", "verdict", "most unusual"):
        text = name in ("image", "prediction", "verdict", "most unusual")
        table.add_column(name, justify="left" if text else "right", overflow="fold" if text else "ellipsis")
    return table


def _warn(one: Checked) -> None:
    """Print on the error stream what is wrong with an image, or odd about it."""
    if one.error is not None:
        typer.secho(plain(f"underfire: {one.error}"), err=True, fg=typer.colors.RED)
    elif one.ours:
        note = (
            f"'{one.image}' was made by underfire. It goes through the front door as any upload does: a forged file is "
        )
        note += "what its record says, a forged input (--at input) loses much of its attack there."
        typer.secho(plain(note), err=True)


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
        "" if v.finding is None else escape(plain(f"{v.finding.what} ({v.finding.unusual:+.1f} σ)")),
    ]


def _save(verdict: Verdict, folder: Path, used: set[str]) -> None:
    """Write each map over the image as FOLDER/IMAGE.MEMBER.png; a second image of that name is IMAGE-2."""
    stem = slug(verdict.image)
    numbered = (f"{stem}-{i}" for i in itertools.count(2))
    name = next(n for n in itertools.chain([stem], numbered) if n not in used)
    used.add(name)
    with _writing_into(folder):
        for member, m in _pictures(verdict).items():
            write_whole(folder / f"{name}.{member}.png", encode_png(over(verdict.levels, m)))


def _pictures(verdict: Verdict) -> dict[str, Any]:
    """Give the members' maps, the combined map, and where the picture is unusual."""
    shown = dict(verdict.maps)
    if verdict.combined is not None:
        shown["combined"] = verdict.combined
    if verdict.finding is not None:
        shown["where"] = verdict.finding.where
    return shown


def _make(folder: Path) -> None:
    with _writing_into(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextlib.contextmanager
def _writing_into(folder: Path) -> Iterator[None]:
    """Turn the system's errors into sentences for the user."""
    try:
        yield
    except OSError as e:
        raise UnderfireError(f"Cannot write into '{folder}' ({e.strerror or e}): give another --save.") from e
