"""The verbs: run, plan, status, report, study, list, train, defend, check."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
import yaml

from underfire.core import UnderfireError
from underfire.core.place import Place, is_url, place

if TYPE_CHECKING:
    from underfire.plan.settings import Settings

ALARM, MISTAKE, SOME_FAILED, STOPPED = 1, 2, 3, 130

# OpenMP threads that spin while they wait make a run on a busy machine nine times slower (measured with two threads on
# two cores that other work shared); the library reads this when torch is loaded, and the workers inherit it.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def _examples(*commands: str) -> str:
    """Commands below a help text, one a line."""
    return "\n\n".join(["Examples:", *(f"  [cyan]{command}[/]" for command in commands)])


app = typer.Typer(
    name="underfire",
    help="Put an image classifier and the interpreter that explains it under fire.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


class Precision(StrEnum):
    """Of the search; the judge is always float32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


PlanFile = Annotated[
    str | None, typer.Argument(metavar="PLAN.yaml", help="Settings from a file; flags given beside it win.")
]
ImagesFlag = Annotated[
    str | None,
    typer.Option(
        "--images", metavar="DIR|FILE|URL|demo", help="Photos: a folder, one file, s3://…, or 'demo' (built-in photos)."
    ),
]
ClassifierFlag = Annotated[
    str | None,
    typer.Option(
        "--classifier",
        metavar="NAME",
        help="See `underfire list`; 'timm:NAME' for any timm network. \\[default: efficientnet-lite0]",
    ),
]
WeightsFlag = Annotated[
    str | None,
    typer.Option("--weights", metavar="FILE", help="Your own weights: safetensors, or a checkpoint without code."),
]
InputSizeFlag = Annotated[
    str | None, typer.Option("--input-size", metavar="PX", help="Side of the classifier's input.")
]
ResizeFlag = Annotated[
    str | None, typer.Option("--resize", metavar="PX", help="Shorter side of a photo before the centre crop.")
]
MeanFlag = Annotated[str | None, typer.Option("--mean", metavar="R,G,B", help="Normalisation, of pixels in [0, 1].")]
StdFlag = Annotated[str | None, typer.Option("--std", metavar="R,G,B", help="Normalisation, of pixels in [0, 1].")]
ClassesFlag = Annotated[
    str | None, typer.Option("--classes", metavar="FILE", help="Class names, one a line, in the order of the outputs.")
]
InterpreterFlag = Annotated[
    list[str] | None, typer.Option("--interpreter", metavar="NAME", help="Repeat for several. \\[default: cam]")
]
AttackFlag = Annotated[
    list[str] | None, typer.Option("--attack", metavar="NAME", help="Repeat for several. \\[default: pgd, adv2]")
]
PresetFlag = Annotated[str | None, typer.Option("--preset", metavar="paper|fast|thorough", help="\\[default: fast]")]
EpsFlag = Annotated[
    str | None, typer.Option("--eps", metavar="LEVELS", help="L∞ budget in levels of 255. \\[default: 8]")
]
MaxShiftFlag = Annotated[
    str | None,
    typer.Option(
        "--max-shift", metavar="PX", help="Budget of attacks that bend: px, at an input of 224 px. \\[default: 2.0]"
    ),
]
TargetFlag = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="random|least-likely|CLASS",
        help="CLASS: an index, a WordNet id or a name. \\[default: random]",
    ),
]
TargetMapFlag = Annotated[
    str | None,
    typer.Option(
        "--target-map",
        metavar="SOURCE",
        help="The map to be shown: benign, class:NAME|random, image:PATH|random, shape:circle|box or file:PNG. "
        "\\[default: benign]",
    ),
]
DefenseFlag = Annotated[
    str | None,
    typer.Option("--defense", metavar="FILE", help="An alarm that judges every picture too: docs/defenses.md."),
]
AdaptiveFlag = Annotated[
    bool | None, typer.Option("--adaptive", help="Attack the defense too: all its members and its score at once.")
]
LimitFlag = Annotated[
    str | None, typer.Option("--limit", metavar="N", help="N photos, evenly spaced over the sorted paths.")
]
SeedFlag = Annotated[str | None, typer.Option("--seed", metavar="S", help="\\[default: 0]")]
BatchFlag = Annotated[
    str | None, typer.Option("--batch-size", metavar="N", help="Photos that share a batch. \\[default: by cost]")
]
WorkersFlag = Annotated[str | None, typer.Option("--workers", metavar="N", help="Processes. \\[default: 1]")]
ExecutorFlag = Annotated[
    str | None,
    typer.Option("--executor", metavar="local|ray", help="Where the workers are: docs/scale.md. \\[default: local]"),
]
AddressFlag = Annotated[
    str | None,
    typer.Option("--address", metavar="auto|ray://…|local", help="The Ray cluster. \\[default: auto]"),
]
GpusFlag = Annotated[
    str | None,
    typer.Option("--gpus", metavar="G", help="GPUs of each worker on Ray; 0.5: two share one. \\[default: 1 on cuda]"),
]
ThreadsFlag = Annotated[
    str | None, typer.Option("--threads", metavar="T", help="CPU threads a worker. \\[default: cores / workers]")
]
DeviceFlag = Annotated[str | None, typer.Option("--device", metavar="auto|cpu|cuda|mps", help="\\[default: auto]")]
PrecisionFlag = Annotated[
    Precision | None, typer.Option("--precision", help="Of the search; the judge is always float32.")
]
SetFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="PART.KEY=VALUE", help="A setting of an attack or interpreter: adv2.steps=120. Repeatable."
    ),
]
OutFlag = Annotated[
    str | None,
    typer.Option("--out", metavar="DIR|URL", help="\\[default: a folder in underfire-out/ named by the settings]"),
]
FolderArgument = Annotated[str, typer.Argument(metavar="DIR|URL", help="The output folder of a run, finished or not.")]
SamplesFlag = Annotated[int, typer.Option("--samples", metavar="N", min=0, help="Rows of pictures in the report.")]
Flags: TypeAlias = "dict[str, Any]"
"""Settings as they were given on the command line."""
FLAGS: dict[str, Any] = {
    "images": ImagesFlag,
    "classifier": ClassifierFlag,
    "weights": WeightsFlag,
    "input_size": InputSizeFlag,
    "resize": ResizeFlag,
    "mean": MeanFlag,
    "std": StdFlag,
    "classes": ClassesFlag,
    "interpreter": InterpreterFlag,
    "attack": AttackFlag,
    "preset": PresetFlag,
    "eps": EpsFlag,
    "max_shift": MaxShiftFlag,
    "target": TargetFlag,
    "target_map": TargetMapFlag,
    "defense": DefenseFlag,
    "adaptive": AdaptiveFlag,
    "limit": LimitFlag,
    "seed": SeedFlag,
    "batch_size": BatchFlag,
    "workers": WorkersFlag,
    "executor": ExecutorFlag,
    "address": AddressFlag,
    "gpus": GpusFlag,
    "threads": ThreadsFlag,
    "device": DeviceFlag,
    "precision": PrecisionFlag,
    "set_": SetFlag,
}
"""Every setting that has a flag, in the order of the help."""


def takes(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags of some settings, of all where none is named; what was given comes as ``flags``."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters

        @functools.wraps(command)
        def filled(**given: Any) -> None:
            rest = {name: given.pop(name) for name in own if name != "flags"}
            command(flags=_flags(given), **rest)

        parameters = []
        for name, parameter in own.items():
            if name == "flags":
                parameters += [_option(flag) for flag in names or FLAGS]
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        filled.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        filled.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return filled

    return add


def _option(flag: str) -> inspect.Parameter:
    return inspect.Parameter(flag, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=FLAGS[flag])


@app.command(
    epilog=_examples(
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
    """Attack a classifier and its explanations, judge what came of it, write a report.

    The same command again finishes what is missing and does nothing twice.
    """
    folder = place(out) if out else None
    try:
        from underfire import console  # noqa: PLC0415 (torch is slow to import; `report` does without)
        from underfire.audit import run as audit_run  # noqa: PLC0415
        from underfire.audit.folder import default_out  # noqa: PLC0415 (torch is slow to import; `report` does without)
        from underfire.report.page import write_report  # noqa: PLC0415

        settings = _settings(plan, flags)
        beside = place(plan).parent if plan else None
        folder = folder or (beside if beside and (beside / "records").is_dir() else default_out(settings))
        with console.Progress() as watcher:
            audit_run.run(settings, folder, watcher)
        page = write_report(folder, samples)
        failed, good = console.show_results(folder)
        console.say(f"Report: {page}")
    except KeyboardInterrupt:
        typer.echo(_how_to_go_on(folder))
        raise typer.Exit(STOPPED) from None
    if failed:
        raise typer.Exit(SOME_FAILED if good else MISTAKE)


def _how_to_go_on(folder: Place | None) -> str:
    if folder is None or not (folder / "plan.yaml").is_file():
        return "Stopped before anything was attacked: the same command starts again."
    return f"Stopped. What is finished is in '{folder}'; go on with: underfire run '{folder / 'plan.yaml'}'"


@app.command(epilog=_examples("underfire plan --images photos --preset thorough"))
@takes()
def plan(
    *,
    plan: PlanFile = None,
    flags: Flags,
    out: OutFlag = None,
) -> None:
    """Show the tasks, passes and time of a run, and run nothing (but a second of timing)."""
    from underfire import console  # noqa: PLC0415
    from underfire.audit.folder import default_out  # noqa: PLC0415

    settings = _settings(plan, flags)
    console.show_plan(settings, place(out) if out else default_out(settings))


@app.command(epilog=_examples("underfire status underfire-out/photos-1a2b3c4d", "underfire status s3://bucket/audit"))
def status(folder: FolderArgument) -> None:
    """Tell what is done of a run, how fast it goes and what failed: from its output folder alone."""
    from underfire.audit.status import show_status  # noqa: PLC0415

    show_status(place(folder))


@app.command(epilog=_examples("underfire report underfire-out/demo-1a2b3c4d"))
def report(
    folder: FolderArgument,
    samples: Annotated[
        int | None,
        typer.Option("--samples", metavar="N", min=0, help="Photos shown. \\[default: 24; of a study 2 a classifier]"),
    ] = None,
) -> None:
    """Write DIR/report.html or DIR/study.html again, from the records that are there."""
    if (Path(folder) / "study.yaml").is_file():
        from underfire.study.page import write_study  # noqa: PLC0415

        typer.echo(f"The study: {write_study(Path(folder), 2 if samples is None else samples)}")
        return
    from underfire.report.page import write_report  # noqa: PLC0415

    samples = 24 if samples is None else samples
    typer.echo(f"Report: {write_report(place(folder), samples)}")


train_app = typer.Typer(
    help="Train the networks of learned interpreters.", no_args_is_help=True, rich_markup_mode="rich"
)
app.add_typer(train_app, name="train")


@train_app.command(
    epilog=_examples(
        "underfire train rts --images photos",
        "underfire train rts --classifier resnet50 --weights mine.pt --images photos --out mine-rts.safetensors",
        "underfire run --images photos --classifier resnet50 --weights mine.pt --interpreter rts "
        "--set rts.weights=mine-rts.safetensors",
        "underfire train rts --adversarial --images photos",
    )
)
@takes(
    *("images", "classifier", "weights", "input_size", "resize", "mean", "std"),
    *("classes", "limit", "seed", "threads", "device", "precision"),
)
def rts(
    *,
    flags: Flags,
    adversarial: Annotated[
        bool, typer.Option("--adversarial", help="Train RTSᴬ: on forged images too, starting from a plain network.")
    ] = False,
    plain: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FILE", help="The plain network --adversarial starts from. \\[default: packaged]"
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            metavar="N",
            min=1,
            help="At most so many passes over the photos, of --adversarial over an eighth. \\[default: 24 or 16]",
        ),
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(
            "--patience",
            metavar="N",
            min=1,
            help="Stop after so many epochs without a better one. \\[default: 8 or 16]",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="\\[default: rts-CLASSIFIER.safetensors, or rts-a-…]")
    ] = None,
) -> None:
    """Train the RTS interpreter's network for a classifier, on photos without labels.

    The same command goes on where a kill stopped it. Count on an hour for 600 photos on two CPU cores,
    and as long with --adversarial.
    """
    from underfire import console  # noqa: PLC0415

    if "images" not in flags:
        raise UnderfireError(
            "Nothing to train on: give --images DIR, some 500 photos or more of the classifier's kind."
        )
    if plain and not adversarial:
        raise UnderfireError(f"--from {plain}: a plain network starts from the photos alone; add --adversarial.")
    if not console.train_rts(_settings(None, flags), epochs, patience, out, adversarial, plain):
        raise typer.Exit(SOME_FAILED)


@app.command(
    epilog=_examples(
        "underfire study --quick",
        "underfire study --images photos --out paper",
        "underfire study study.yaml",
        "underfire study paper",
    )
)
@takes(
    *("images", "classifier", "weights", "input_size", "resize", "mean", "std", "classes", "interpreter"),
    *("preset", "eps", "max_shift", "seed", "batch_size", "workers", "threads", "device", "precision", "set_"),
)
def study(
    *,
    plan: Annotated[
        Path | None,
        typer.Argument(metavar="PLAN.yaml|DIR", help="A study of several classifiers, or a study's folder; flags win."),
    ] = None,
    flags: Flags,
    quick: Annotated[bool, typer.Option("--quick", help="A first look: two photos a cell, MASK on one.")] = False,
    out: OutFlag = None,
    samples: Annotated[
        int, typer.Option("--samples", metavar="N", min=0, help="Photos shown for each classifier.")
    ] = 2,
) -> None:
    """Rerun the paper's whole evaluation and write its tables and figures with yours beside them.

    It says first how long it will take at most. The same command again finishes what is missing and does nothing twice.
    """
    from underfire import console  # noqa: PLC0415

    try:
        if out and is_url(out):
            raise UnderfireError(f"--out {out}: a study writes into a folder of this machine; give one.")
        failed, good = console.run_study(plan, flags, quick, Path(out) if out else None, samples)
    except KeyboardInterrupt:
        typer.echo("Stopped. What is finished is kept: the same command goes on.")
        raise typer.Exit(STOPPED) from None
    if failed:
        raise typer.Exit(SOME_FAILED if good else MISTAKE)


defend_app = typer.Typer(help="Set up a defense.", no_args_is_help=True, rich_markup_mode="rich")
app.add_typer(defend_app, name="defend")


@defend_app.command(
    "calibrate",
    epilog=_examples(
        "underfire defend calibrate --images benign --out alarm.json",
        "underfire defend calibrate --images benign --interpreter cam --interpreter rts --false-alarms 0.01 "
        "--out alarm.json",
    ),
)
@takes(
    *("images", "classifier", "weights", "input_size", "resize", "mean", "std"),
    *("classes", "limit", "threads", "device", "set_"),
)
def calibrate(
    *,
    flags: Flags,
    members: Annotated[
        list[str] | None,
        typer.Option("--interpreter", metavar="NAME", help="A member; repeat. \\[default: cam, grad, rts]"),
    ] = None,
    false_alarms: Annotated[
        float, typer.Option("--false-alarms", metavar="SHARE", help="Of benign images that may raise an alarm.")
    ] = 0.05,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The alarm's file.")],
) -> None:
    """Learn an alarm's threshold from benign photos: interpreters that disagree more than on these raise it."""
    from underfire import console_defense  # noqa: PLC0415

    if "images" not in flags:
        raise UnderfireError(
            "Nothing to calibrate on: give --images DIR, benign photos such as the classifier will see."
        )
    if not console_defense.calibrate_alarm(_settings(None, flags), members, false_alarms, out):
        raise typer.Exit(SOME_FAILED)


@app.command(
    epilog=_examples(
        "underfire check upload.jpg --defense alarm.json",
        "underfire check uploads/*.png --defense alarm.json --json --save maps",
    )
)
@takes(
    *("classifier", "weights", "input_size", "resize", "mean", "std", "classes", "threads", "device", "set_"),
)
def check(
    *,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Pictures' files.")],
    flags: Flags,
    defense: Annotated[str, typer.Option("--defense", metavar="FILE", help="Of `underfire defend calibrate`.")],
    members: Annotated[
        list[str] | None,
        typer.Option("--interpreter", metavar="NAME", help="A member that must be in FILE; repeat for all of them."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One object a line.")] = False,
    save: Annotated[
        Path | None, typer.Option("--save", metavar="DIR", help="Each member's map over the picture, as PNGs.")
    ] = None,
) -> None:
    """Ask an alarm about images. Exit status: 0 no alarm, 1 an alarm, 2 bad input (the other images are still checked).

    The classifier is the one that FILE names; its own weights and sizes are given again.
    """
    from underfire import console_defense  # noqa: PLC0415
    from underfire.defenses.ensemble import calibration  # noqa: PLC0415

    settings = _settings(None, {"images": images[0], "classifier": calibration.read(defense).classifier, **flags})
    raised, readable = console_defense.check(images, defense, settings, members, as_json, save)
    if raised or not readable:
        raise typer.Exit(ALARM if readable else MISTAKE)


@app.command("list")
def list_() -> None:
    """What can be named: classifiers, interpreters, attacks, presets, executors."""
    from underfire import console  # noqa: PLC0415

    console.show_names()


def _flags(given: dict[str, Any]) -> dict[str, Any]:
    """The flags that were given, as settings."""
    flags = {k: v for k, v in given.items() if v is not None and v != []}
    for key in ("mean", "std"):
        if key in flags:
            flags[key] = _three(key, flags[key])
    if flags.get("precision") == Precision.auto:
        del flags["precision"]
    elif "precision" in flags:
        flags["precision"] = flags["precision"].value
    if "set_" in flags:
        flags["options"] = _options(flags.pop("set_"))
    return flags


def _three(key: str, word: str) -> tuple[float, ...]:
    try:
        r, g, b = (float(part) for part in word.split(","))
    except ValueError as e:
        raise UnderfireError(f"--{key} {word}: give three numbers such as 0.5,0.5,0.5.") from e
    return r, g, b


def _options(words: list[str]) -> dict[str, dict[str, Any]]:
    options: dict[str, dict[str, Any]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        part, dot, name = key.partition(".")
        if not (equals and dot and part and name):
            raise UnderfireError(f"--set {word}: write it as PART.KEY=VALUE, such as adv2.steps=120.")
        try:
            options.setdefault(part, {})[name] = yaml.safe_load(value)
        except yaml.YAMLError as e:
            raise UnderfireError(f"--set {word}: '{value}' is no number, word or YAML value.") from e
    return options


def _settings(plan: str | None, flags: dict[str, Any]) -> Settings:
    from underfire.plan.settings import Settings, read, together  # noqa: PLC0415

    if plan is None and "images" not in flags:
        raise UnderfireError("Nothing to attack: give --images DIR (or FILE, or 'demo'), or a PLAN.yaml.")
    if plan is None:
        return Settings.parse(flags)
    there = read(place(plan)).model_dump(exclude_unset=True)
    return Settings.parse(together(there, flags))


def main() -> None:
    """The console script: a mistake of the user's is one clear line, no traceback."""
    try:
        app()
    except UnderfireError as e:
        typer.secho(f"underfire: {e}", err=True, fg=typer.colors.RED)
        sys.exit(MISTAKE)
    except KeyboardInterrupt:
        sys.exit(STOPPED)
