"""The verb of a yardstick: what counts as an untouched map is measured on benign photos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from underfire.cli.flags import SOME_FAILED, Flags, examples, settings_of, takes
from underfire.core import UnderfireError

verbs = typer.Typer()


@verbs.command(
    epilog=examples(
        "underfire yardstick --images benign --interpreter grad --out grad.json",
        "underfire yardstick --images benign --classifier resnet50 --weights mine.safetensors --interpreter cam "
        "--out mine-cam.json --json",
        "underfire run --images photos --interpreter grad --yardstick grad.json",
    )
)
@takes(
    *("images", "classifier", "weights", "input_size", "resize", "mean", "std", "interpolation"),
    *("classes", "limit", "seed", "threads", "device", "set_"),
)
def yardstick(
    *,
    flags: Flags,
    interpreter: Annotated[str, typer.Option("--interpreter", metavar="NAME", help="The interpreter.")] = "cam",
    share: Annotated[
        float,
        typer.Option("--false-rejects", metavar="SHARE", help="Share of natural copies that may be called touched."),
    ] = 0.05,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The yardstick's file.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Measure how far natural changes move an interpreter's maps, and which wrong maps that tells apart."""
    from underfire.cli.show_yardstick import show_yardstick

    if "images" not in flags:
        raise UnderfireError("Nothing to measure on: give --images DIR, benign photos such as the classifier will see.")
    own = {**flags, "interpreter": (interpreter,)}
    if not show_yardstick(settings_of(None, own), interpreter, share, out, as_json):
        raise typer.Exit(SOME_FAILED)
