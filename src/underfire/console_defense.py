"""What the terminal shows of a defense: its calibration, and its verdicts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from underfire.clean import slug
from underfire.console import ERRORS_SHOWN, Progress, _console, classifier_of, say
from underfire.core import UnderfireError
from underfire.defenses.ensemble import EnsembleAlarm, Verdict, calibrate
from underfire.images import encode_png
from underfire.pictures import over
from underfire.place import write_whole
from underfire.plan import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator


def calibrate_alarm(settings: Settings, members: Sequence[str] | None, false_alarms: float, out: Path) -> bool:
    """Learn an alarm from benign photos and write its file; False where some photos could not be used."""
    classifier = classifier_of(settings)
    with Progress() as bar:
        begun = False

        def told(done: int, of: int) -> None:
            nonlocal begun
            if not begun:
                bar.begin("calibrate", of, 0)
                begun = True
            bar.done(done)

        known, skipped = calibrate(
            classifier, settings.images, members, settings.options, false_alarms, settings.limit, told
        )
    known.write(out)
    for reason in list(skipped.values())[:ERRORS_SHOWN]:
        say(f"Left out: {reason}")
    raised = sum(score > known.threshold for score in known.scores)
    say(
        f"{len(known.photos)} benign photos, members {', '.join(known.names)}: threshold {known.threshold:.3f}; "
        f"{raised} of the {len(known.scores)} scores that it is of lie above it."
    )
    say(f"Written: {out}\nUse it: underfire check IMAGE… --defense {out}")
    return not skipped


def check(
    paths: Sequence[str],
    defense: str,
    settings: Settings,
    members: Sequence[str] | None = None,
    as_json: bool = False,
    save: Path | None = None,
) -> bool:
    """Ask an alarm about images, and print what it says; True where it raised an alarm."""
    alarm = EnsembleAlarm(classifier_of(settings), defense, members)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("image", "prediction", "confidence", "score", "threshold", "verdict"):
        table.add_column(name, justify="left" if name in ("image", "prediction", "verdict") else "right")
    raised = False
    for verdict in _verdicts(alarm, paths):
        raised |= verdict.alarm
        if save is not None:
            _save(verdict, save)
        if as_json:
            say(json.dumps(verdict.row(), ensure_ascii=False))
        table.add_row(*_cells(verdict))
    if not as_json:
        _console.print(table)
    return raised


def _verdicts(alarm: EnsembleAlarm, paths: Sequence[str]) -> Iterator[Verdict]:
    for path in paths:
        if not Path(path).expanduser().is_file():
            raise UnderfireError(f"There is no image '{path}' to check.")
        yield alarm.check(path)


def _cells(v: Verdict) -> list[str]:
    score = "no map" if v.score is None else f"{v.score:.3f}"
    verdict = "[bold red]ALARM[/]" if v.alarm else "quiet"
    return [v.image, v.prediction, f"{v.confidence:.3f}", score, f"{v.threshold:.3f}", verdict]


def _save(verdict: Verdict, folder: Path) -> None:
    """Each member's map over the photo, as FOLDER/IMAGE.MEMBER.png."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, m in verdict.maps.items():
            write_whole(folder / f"{slug(verdict.image)}.{name}.png", encode_png(over(verdict.levels, m)))
    except OSError as e:
        raise UnderfireError(f"Cannot write into '{folder}' ({e.strerror or e}): give another --save.") from e
