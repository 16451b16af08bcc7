"""The verb `study`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from underfire.cli.flags import MISTAKE, SOME_FAILED, STOPPED, Flags, OutFlag, examples, takes
from underfire.core import UnderfireError
from underfire.core.place import is_url

verbs = typer.Typer()


@verbs.command(
    epilog=examples(
        "underfire study --quick",
        "underfire study --images photos --out paper",
        "underfire study study.yaml",
        "underfire study paper",
        "underfire study --explanations --images photos",
    )
)
@takes(
    *(
        "images",
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
        "interpreter",
        "yardstick",
    ),
    *("preset", "eps", "max_shift", "seed", "batch_size", "workers", "threads", "device", "precision", "set_"),
)
def study(
    *,
    plan: Annotated[
        Path | None,
        typer.Argument(
            metavar="PLAN.yaml|DIR", help="A study of several classifiers, or the folder of a study; flags win."
        ),
    ] = None,
    flags: Flags,
    quick: Annotated[
        bool, typer.Option("--quick", help="A first look: one or two photos, and MASK in the main table alone.")
    ] = False,
    explanations: Annotated[
        bool,
        typer.Option(
            "--explanations",
            help="How far each explanation of the classifier can be trusted: a league table of all that fit it.",
        ),
    ] = False,
    out: OutFlag = None,
    samples: Annotated[
        int, typer.Option("--samples", metavar="N", min=0, help="Photos shown for each classifier.")
    ] = 2,
) -> None:
    """Rerun the paper's whole evaluation, and write its tables and figures with your numbers in them.

    It says first how long it takes at most. The same command again finishes what is missing and does nothing twice.
    """
    if out and is_url(out):
        raise UnderfireError(f"--out {out}: a study writes into a folder of this machine; give one.")
    try:
        from underfire.cli.show_study import show_study
        from underfire.study.plan import asked, home

        folder = Path(out) if out else (home(plan) if plan else None)
        wanted = asked(plan, flags, quick, explanations, folder)
        ran = show_study(wanted, folder, samples)
    except KeyboardInterrupt:
        typer.echo("Stopped. What is finished is kept: the same command goes on.")
        raise typer.Exit(STOPPED) from None
    if ran.failed:
        raise typer.Exit(SOME_FAILED if ran.good else MISTAKE)
