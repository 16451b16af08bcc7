"""The verbs that decide on audits: gate, compare, card."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from underfire.cli.flags import STOPPED, FolderArgument, OutFlag, examples
from underfire.core import UnderfireError
from underfire.core.place import Place, place

verbs = typer.Typer()


class WhenUndecided(enum.StrEnum):
    """What becomes of a rule that the photos do not decide."""

    passes = "pass"
    fails = "fail"


@verbs.command(
    epilog=examples(
        "underfire gate underfire-out/photos-1a2b3c4d --init",
        "underfire gate underfire-out/photos-1a2b3c4d --policy gate.yaml",
        "underfire gate plan.yaml --policy gate.yaml --baseline released -o gate.junit.xml -o gate.sarif",
    )
)
def gate(
    audit: Annotated[
        str, typer.Argument(metavar="AUDIT|PLAN.yaml", help="The folder of an audit, or a plan, which is run first.")
    ],
    policy: Annotated[str, typer.Option("--policy", metavar="FILE", help="The rules: docs/gate.md.")] = "gate.yaml",
    baseline: Annotated[
        str | None,
        typer.Option("--baseline", metavar="AUDIT", help="An earlier audit, for the bounds 'increase' and 'decrease'."),
    ] = None,
    undecided: Annotated[
        WhenUndecided | None,
        typer.Option("--undecided", help="What undecided rules count as. \\[default: exit status 3]"),
    ] = None,
    outputs: Annotated[
        list[str] | None,
        typer.Option("--output", "-o", metavar="FILE", help=".json, .junit.xml, .sarif, .md, .svg. Repeatable."),
    ] = None,
    init: Annotated[bool, typer.Option("--init", help="Write a commented --policy from the audit, and stop.")] = False,
    out: OutFlag = None,
) -> None:
    """Decide whether an audit is good enough: exit status 0 all rules hold, 1 one fails, 2 a mistake, 3 undecided.

    A rule holds or fails on its whole 95 % interval; 3 also stands for an audit that is not complete.
    """
    from underfire.cli.show_gate import show_ruling
    from underfire.core.files import writable_or_say
    from underfire.gating.decide import ruling
    from underfire.gating.outputs import format_of, write_all
    from underfire.gating.policy_file import read_policy

    if init:
        return _init(_audited(audit, out), policy)
    rules, before = read_policy(policy), None if baseline is None else place(baseline)
    for file in outputs or ():
        format_of(file)  # a wrong ending or folder is told before an hour of work
        writable_or_say(place(file), "give another -o")
    found = ruling(_audited(audit, out), rules, before, undecided.value if undecided else None)
    show_ruling(found)
    write_all(found, outputs or ())
    raise typer.Exit(found.status)


def _audited(audit: str, out: str | None) -> Place:
    """Return the folder of an audit; a plan is run first, as far as it is not done."""
    if not audit.endswith((".yaml", ".yml")):
        if out is not None:
            raise UnderfireError(f"--out {out}: '{audit}' is run already; --out is for a PLAN.yaml.")
        return place(audit)
    from underfire.audit import run as audit_run
    from underfire.audit.folder import default_out
    from underfire.cli import progress
    from underfire.cli.flags import settings_of
    from underfire.report.page import write_report

    settings, beside = settings_of(audit, {}), place(audit).parent
    folder = place(out) if out is not None else beside if (beside / "records").is_dir() else default_out(settings)
    try:
        with progress.Progress() as listener:
            audit_run.run(settings, folder, listener)
        progress.say(f"Report: {write_report(folder)}")
    except KeyboardInterrupt:
        typer.echo("Stopped. What is finished is kept: the same command goes on.")
        raise typer.Exit(STOPPED) from None
    return folder


def _init(folder: Place, policy: str) -> None:
    from underfire.gating.template import template

    target = place(policy)
    if target.is_file():
        raise UnderfireError(f"There is a policy '{policy}' already: give another --policy, or remove it.")
    _write(policy, template(folder))
    typer.echo(f"Policy: {policy}")


def _write(file: str, text: str) -> None:
    from underfire.core.files import write_whole

    try:
        write_whole(place(file), text.encode())
    except OSError as e:
        raise UnderfireError(f"Cannot write '{file}' ({e.strerror or e}): give another name.") from e


@verbs.command(
    epilog=examples(
        "underfire compare released candidate", "underfire compare float32 int8 -o compare.html -o compare.json"
    )
)
def compare(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help="The folder of the earlier audit.")],
    now: Annotated[str, typer.Argument(metavar="NOW", help="The folder of the later one.")],
    outputs: Annotated[
        list[str] | None, typer.Option("--output", "-o", metavar="FILE", help=".html or .json. Repeatable.")
    ] = None,
) -> None:
    """Compare two audits photo by photo: two checkpoints, float32 and int8, two versions of a library."""
    for file in outputs or ():
        if Path(file).suffix not in (".html", ".json"):
            raise UnderfireError(f"-o {file}: the ending gives the format: .html or .json.")
    from underfire.cli.show_gate import show_comparison
    from underfire.gating.compare import COMPARISON
    from underfire.gating.compare import compare as compared
    from underfire.gating.compare_page import page

    found = compared(place(before), place(now))
    show_comparison(found)
    for file in outputs or ():
        _write(file, page(found) if file.endswith(".html") else COMPARISON.dump_json(found, indent=2).decode() + "\n")


@verbs.command(
    epilog=examples(
        "underfire card underfire-out/photos-1a2b3c4d", "underfire card audit --model my-model -o section.md"
    )
)
def card(
    folder: FolderArgument,
    model: Annotated[str, typer.Option("--model", metavar="NAME", help="Name of the model in the card.")] = "",
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="Where it goes.")] = None,
) -> None:
    """Write a section for a model card: the audit's figures, their intervals, and what they do not say."""
    from underfire.gating.card import card as written

    text = written(place(folder), model)
    if output is None:
        typer.echo(text, nl=False)
    else:
        _write(output, text)
        typer.echo(f"Card: {output}")
