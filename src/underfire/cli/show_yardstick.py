"""What the terminal shows of a yardstick."""

from __future__ import annotations

import json
import shlex
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import typer

from underfire.cli.flags import classifier_of
from underfire.cli.progress import Progress, say
from underfire.cli.show import ERRORS_SHOWN
from underfire.cli.streams import plain
from underfire.core import Quiet
from underfire.core.files import writable_or_say
from underfire.metrics.estimate import Estimate
from underfire.metrics.yardstick import TELLS, Yardstick
from underfire.metrics.yardstick_file import YardstickFile
from underfire.plan.settings import Settings
from underfire.report.text import percent, share_interval
from underfire.trial.yardstick import make_yardstick

WRONG = {
    "pgd": "PGD's maps",
    "other_photo": "another photo's map",
    "mean_map": "the mean map",
    "class_swap": "the map for another class",
}
"""Kinds of wrong maps in words."""


def show_yardstick(settings: Settings, interpreter: str, share: float, out: Path, as_json: bool) -> bool:
    """Make a yardstick, write its file, and print how good it is.

    Args:
        settings: the classifier, the photos, and the options of the interpreter.
        interpreter: its name.
        share: share of natural copies that may be called touched.
        out: the file.
        as_json: print one JSON object in place of sentences.

    Returns:
        False where some photos could not be used.
    """
    writable_or_say(out, "give another --out")
    classifier, options = classifier_of(settings), settings.options.get(interpreter, {})
    with nullcontext(Quiet()) if as_json else Progress("photos") as listener:
        made, skipped = make_yardstick(
            classifier,
            interpreter,
            settings.images,
            options=options,
            share=share,
            limit=settings.limit,
            seed=settings.seed,
            listener=listener,
        )
    made.write(out)
    for reason in list(skipped.values())[:ERRORS_SHOWN]:
        typer.echo(plain(f"Left out: {reason}"), err=as_json)
    if as_json:
        typer.echo(json.dumps(figures(made)))
    else:
        _say(made.yardstick, interpreter)
        say(f"Written: {out}\nUse it: underfire run --interpreter {interpreter} --yardstick {shlex.quote(str(out))} …")
    return not skipped


def figures(made: YardstickFile) -> dict[str, Any]:
    """Put the numbers of a yardstick together, for JSON."""
    own = made.yardstick
    return {
        "classifier": made.classifier,
        "interpreter": made.interpreter,
        "digest": made.digest,
        "n": own.n,
        "threshold": own.threshold,
        "limits": dict(zip(("l1", "1-iou", "1-rank"), own.limits.tolist(), strict=True)),
        "false_rejects": own.false_rejects.value,
        "power": {name: one.value for name, one in own.power.items()},
        "tells": own.tells,
        "class_blind": own.class_blind,
    }


def _say(own: Yardstick, interpreter: str) -> None:
    l1, iou, rank = own.limits.tolist()
    say(
        f"{own.n} photos. A map is untouched with L1 ≤ {l1:.3f}, IoU ≥ {1 - iou:.2f} and rank ≥ {1 - rank:.2f}. "
        f"Natural copies called touched: {_rate(own.false_rejects)}."
    )
    for name, power in own.power.items():
        say(f"  rejects {WRONG[name]}: {_rate(power)}")
    if own.class_blind:
        say(f"{interpreter} is class-blind: its map hardly depends on the class that it explains.")
    if not own.tells:
        say(
            f"It rejects less than {TELLS:.0%} of some kind of wrong map: this explanation cannot tell, and no forged "
            "rate is printed."
        )


def _rate(e: Estimate) -> str:
    return f"{percent(e.value, e.n)} ({share_interval(e)})"
