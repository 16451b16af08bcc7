"""The command line: the groups of verbs, and what a mistake looks like."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated

import typer

from underfire.cli import audit, browser, defense, gate, inspect, study, survive, train, yardstick
from underfire.cli.flags import MISTAKE, STOPPED
from underfire.cli.lean import without_unused
from underfire.cli.streams import forgiving, plain
from underfire.core import UnderfireError

app = typer.Typer(
    name="underfire",
    help="Put an image classifier and the interpreter that explains it under fire.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for group in (audit, browser, inspect, survive, study, defense, yardstick, gate):
    app.add_typer(group.verbs)
app.add_typer(train.train_app, name="train")
app.add_typer(defense.defend_app, name="defend")


def _tell_version(asked: bool) -> None:
    if asked:
        from underfire import __version__

        typer.echo(f"underfire {__version__}")
        raise typer.Exit


@app.callback()
def about(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_tell_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Stand before every verb; `--version` is answered by its callback."""


def main() -> None:
    """Run the command line: a mistake of the user's is one clear line, without a traceback."""
    with forgiving() as lost:
        status = _status()
    if lost:
        with contextlib.suppress(OSError):  # where it is the standard error that is lost
            typer.echo(f"underfire: the output could not be written ({lost[0].strerror}).", err=True)
    sys.exit(status or (MISTAKE if lost else 0))


def _status() -> int:
    """Do what the command line says, and return the exit status."""
    if len(sys.argv) == 1 or "--help" in sys.argv:
        with without_unused():
            from typer import rich_utils  # noqa: F401
    try:
        app()
    except UnderfireError as e:
        typer.secho(f"underfire: {plain(str(e))}", err=True, fg=typer.colors.RED)
        return MISTAKE
    except KeyboardInterrupt:
        return STOPPED
    except SystemExit as e:
        return e.code if isinstance(e.code, int) else 0
    return 0
