"""The verbs of one audit: run, plan, status, report, list. Slow imports are made where they are needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from underfire.cli.flags import (
    MISTAKE,
    SOME_FAILED,
    STOPPED,
    Flags,
    FolderArgument,
    OutFlag,
    PlanFile,
    SamplesFlag,
    at_file,
    examples,
    settings_of,
    takes,
)
from underfire.core.place import Place, place

verbs = typer.Typer()


@verbs.command(
    epilog=examples(
        "underfire run --images demo",
        "underfire run --images photos --limit 48 --preset thorough",
        "underfire run --images scans --classifier resnet50 --weights mine.pt --out audit",
        "underfire run audit/plan.yaml",
    )
)
@takes()
def run(
    *,
    plan: PlanFile = None,
    flags: Flags,
    out: OutFlag = None,
    samples: SamplesFlag = 24,
) -> None:
    """Attack a classifier and its explanations, judge the results, and write a report.

    The same command again finishes what is missing and does nothing twice.
    """
    folder = None if out is None else place(out)
    try:
        from underfire.audit import run as audit_run
        from underfire.audit import sanity
        from underfire.audit.folder import default_out
        from underfire.cli import progress, show
        from underfire.report.page import write_report

        settings = settings_of(plan, at_file(plan, flags))
        beside = place(plan).parent if plan else None
        folder = folder or (beside if beside and (beside / "records").is_dir() else default_out(settings))
        with progress.Progress() as listener:
            audit = audit_run.run(settings, folder, listener)
            unchecked = sanity.check(audit)
        page = write_report(folder, samples)
        failed, good = show.show_results(folder)
        if unchecked:
            progress.say(unchecked)
        progress.say(f"Report: {page}")
    except KeyboardInterrupt:
        typer.echo(_how_to_go_on(folder))
        raise typer.Exit(STOPPED) from None
    if failed:
        raise typer.Exit(SOME_FAILED if good else MISTAKE)


def _how_to_go_on(folder: Place | None) -> str:
    if folder is None or not (folder / "plan.yaml").is_file():
        return "Stopped before anything was attacked: the same command starts again."
    return f"Stopped. What is finished is in '{folder}'; go on with: underfire run '{folder / 'plan.yaml'}'"


@verbs.command(epilog=examples("underfire plan --images photos --preset thorough"))
@takes()
def plan(
    *,
    plan: PlanFile = None,
    flags: Flags,
    out: OutFlag = None,
) -> None:
    """Show the tasks, passes and time of a run, and run nothing (except for a second of timing)."""
    from underfire.audit.folder import default_out
    from underfire.cli.show_plan import show_plan

    settings = settings_of(plan, at_file(plan, flags))
    show_plan(settings, default_out(settings) if out is None else place(out))


@verbs.command(epilog=examples("underfire status underfire-out/photos-1a2b3c4d", "underfire status s3://bucket/audit"))
def status(folder: FolderArgument) -> None:
    """Tell what is done of a run, how fast it goes and what has failed, from its output folder alone."""
    from underfire.cli.show import show_status

    show_status(place(folder))


@verbs.command(
    epilog=examples(
        "underfire report underfire-out/demo-1a2b3c4d",
        "underfire report underfire-out/demo-1a2b3c4d --table judgements.csv",
    )
)
def report(
    folder: FolderArgument,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples",
            metavar="N",
            min=0,
            help="Number of photos that are shown. \\[default: 24; in a study, 2 for each classifier]",
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--table",
            metavar="FILE.parquet|.csv",
            help="Write a table in place of the page: all judgements, with measurements and verdicts.",
        ),
    ] = None,
) -> None:
    """Write DIR/report.html or DIR/study.html again, from the records that are there."""
    if table is not None:
        from underfire.store import open_results

        open_results(place(folder)).write(table)
        typer.echo(f"Table: {table}")
        return
    if (Path(folder) / "study.yaml").is_file():
        from underfire.study.explanations_page import write_page

        typer.echo(f"The study: {write_page(Path(folder), 2 if samples is None else samples)}")
        return
    from underfire.report.page import write_report

    samples = 24 if samples is None else samples
    typer.echo(f"Report: {write_report(place(folder), samples)}")


@verbs.command("list")
def list_() -> None:
    """List the names of all classifiers, interpreters, attacks, presets, defenses and executors."""
    from underfire.cli.show_names import show_names

    show_names()
