"""The command line: every verb's group, and what a mistake looks like."""

from __future__ import annotations

import sys

import typer

from underfire.cli import audit, defense, study, train
from underfire.cli.flags import MISTAKE, STOPPED
from underfire.core import UnderfireError

app = typer.Typer(
    name="underfire",
    help="Put an image classifier and the interpreter that explains it under fire.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for group in (audit, study, defense):
    app.add_typer(group.verbs)
app.add_typer(train.train_app, name="train")
app.add_typer(defense.defend_app, name="defend")


def main() -> None:
    """The console script: a mistake of the user's is one clear line, no traceback."""
    try:
        app()
    except UnderfireError as e:
        typer.secho(f"underfire: {e}", err=True, fg=typer.colors.RED)
        sys.exit(MISTAKE)
    except KeyboardInterrupt:
        sys.exit(STOPPED)
