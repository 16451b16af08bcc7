"""The verbs of a defense: `defend calibrate` and `check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from underfire.cli.flags import ALARM, MISTAKE, SOME_FAILED, Flags, examples, settings_of, takes
from underfire.core import UnderfireError

verbs = typer.Typer()
defend_app = typer.Typer(help="Set up a defense.", no_args_is_help=True, rich_markup_mode="rich")


@defend_app.command(
    "calibrate",
    epilog=examples(
        "underfire defend calibrate --images benign --out alarm.json",
        "underfire defend calibrate --kind ensemble --images benign --interpreter cam --interpreter rts "
        "--confidence 0.95 --out ensemble.json",
        "underfire defend calibrate --set squeeze.by=blur,bits --set squeeze.maps=false --images benign "
        "--out squeeze.json",
    ),
)
@takes(
    *("images", "classifier", "weights", "input_size", "resize", "mean", "std", "interpolation", "channels", "head"),
    *("classes", "limit", "threads", "device", "set_"),
)
def calibrate(
    *,
    flags: Flags,
    members: Annotated[
        list[str] | None,
        typer.Option("--interpreter", metavar="NAME", help="A member; repeat. \\[default: those of the kind]"),
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            metavar="squeeze|ensemble|NAME",
            help="squeeze: a picture against squeezed copies of it; ensemble: maps of several interpreters against "
            "each other; or a detector of another package.",
        ),
    ] = "squeeze",
    false_alarms: Annotated[
        float,
        typer.Option("--false-alarms", metavar="SHARE", help="Share of benign images that may raise an alarm."),
    ] = 0.05,
    confidence: Annotated[
        float | None,
        typer.Option(
            "--confidence",
            metavar="SHARE",
            help="How sure this rate is of this calibration, such as 0.95. \\[default: on average over calibrations]",
        ),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The alarm's file.")],
) -> None:
    """Learn from benign photos what is normal, such as how far interpreters disagree; beyond it an alarm is raised."""
    from underfire.cli.show_defense import show_calibration
    from underfire.defenses.calibrate import Wanted

    if "images" not in flags:
        raise UnderfireError(
            "Nothing to calibrate on: give --images DIR, benign photos such as the classifier will see."
        )
    settings = settings_of(None, flags)
    wanted = Wanted(kind, false_alarms, confidence, members, settings.options)
    if not show_calibration(settings, wanted, out):
        raise typer.Exit(SOME_FAILED)


@verbs.command(
    epilog=examples(
        "underfire check underfire-out/photos-1a2b3c4d/images/*/*.pgd.png   (forged files against their records)",
        "underfire check upload.jpg --defense alarm.json",
        "underfire check uploads/*.png --defense alarm.json --json --save maps",
    )
)
@takes(
    *(
        "classifier",
        "weights",
        "input_size",
        "resize",
        "mean",
        "std",
        "interpolation",
        "channels",
        "head",
        "classes",
        "threads",
        "device",
        "set_",
    ),
)
def check(
    *,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="The files of the images.")],
    flags: Flags,
    defense: Annotated[
        str | None,
        typer.Option(
            "--defense",
            metavar="FILE",
            help="A file from `underfire defend calibrate`. \\[default: forged files of an audit are held against "
            "their records]",
        ),
    ] = None,
    members: Annotated[
        list[str] | None,
        typer.Option("--interpreter", metavar="NAME", help="A member that must be in FILE; repeat for all of them."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on each line.")] = False,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="DIR", help="Write the maps over the image, and where it is unusual, as PNGs."),
    ] = None,
) -> None:
    """Ask an alarm about images. Exit status: 0 no alarm, 1 an alarm, 2 bad input (the other images are still checked).

    The classifier is the one that FILE names; give its own weights and sizes again. Without FILE: forged files of an
    audit go through its classifier's front door again; exit status 1: something is not what the records say.
    """
    if defense is None:
        from underfire.cli.show_again import refuse_flags, show_again

        refuse_flags({"--interpreter": members, "--save": save, **flags})
        differs, readable = show_again(images, as_json)
        if differs or not readable:
            raise typer.Exit(ALARM if readable else MISTAKE)
        return
    from underfire.cli.show_defense import show_checks
    from underfire.defenses import calibration

    settings = settings_of(None, {"images": images[0], "classifier": calibration.read(defense).classifier, **flags})
    raised, readable = show_checks(images, defense, settings, members, as_json, save)
    if raised or not readable:
        raise typer.Exit(ALARM if readable else MISTAKE)
