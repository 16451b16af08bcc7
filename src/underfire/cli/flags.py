"""The flags: the fields of `Settings` become options of a command, and what the user gives becomes settings again."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from underfire.core import UnderfireError
from underfire.core.place import place
from underfire.plan.fields import ATTACK
from underfire.plan.settings import Settings

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

    from underfire.core import Classifier

ALARM, MISTAKE, SOME_FAILED, STOPPED = 1, 2, 3, 130
"""Exit statuses."""
Flags: TypeAlias = "dict[str, Any]"
"""Settings as they were given on the command line."""
PlanFile = Annotated[str | None, typer.Argument(metavar="PLAN.yaml", help="A file with settings; flags beside it win.")]
FolderArgument = Annotated[str, typer.Argument(metavar="DIR|URL", help="The output folder of a run, finished or not.")]
OutFlag = Annotated[
    str | None,
    typer.Option(
        "--out",
        metavar="DIR|URL",
        help="\\[default: a folder in underfire-out/ that is named after the settings]",
        rich_help_panel="Output",
    ),
]
SamplesFlag = Annotated[
    int,
    typer.Option("--samples", metavar="N", min=0, help="Rows of pictures in the report.", rich_help_panel="Output"),
]
SetFlag = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PART.KEY=VALUE",
        help="A setting of an attack or interpreter: adv2.steps=120. Repeatable.",
        rich_help_panel=ATTACK,
    ),
]


def examples(*commands: str) -> str:
    """Format example commands for the end of a help text, one on each line."""
    return "\n\n".join(["Examples:", *(f"  [cyan]{command}[/]" for command in commands)])


def _option(name: str, field: FieldInfo) -> Any:
    """Make the annotation of a parameter for one setting; the model checks its values."""
    told: Any = field.json_schema_extra
    shown = told["shown"] or _word(field.default)
    text = f"{field.description} \\[default: {shown}]" if shown else field.description
    panel, switch = told["group"], "--" + name.replace("_", "-")
    if field.annotation is bool:
        return Annotated[bool | None, typer.Option(switch, help=text, rich_help_panel=panel)]
    kind: Any = list[str] | None if "tuple[str" in str(field.annotation) else str | None
    return Annotated[kind, typer.Option(switch, metavar=told["metavar"], help=text, rich_help_panel=panel)]


def _word(default: Any) -> str:
    if isinstance(default, tuple):
        return ", ".join(default)
    return str(default) if isinstance(default, str | int | float) and not isinstance(default, bool) else ""


FLAGS: dict[str, Any] = {
    **{name: _option(name, field) for name, field in Settings.model_fields.items() if field.description},
    "set_": SetFlag,
}
"""Every setting that has a flag, in the order of the help."""


def takes(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the flags of some settings (a decorator).

    Args:
        names: the settings; by default all. The command gets what the user gives as its parameter ``flags``.
    """

    def add(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True).parameters

        @functools.wraps(command)
        def filled(**given: Any) -> None:
            rest = {name: given.pop(name) for name in own if name != "flags"}
            command(flags=_given(given), **rest)

        parameters = []
        for name, parameter in own.items():
            if name == "flags":
                parameters += [_parameter(flag) for flag in names or FLAGS]
            else:
                parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        filled.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        filled.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return filled

    return add


def _parameter(flag: str) -> inspect.Parameter:
    return inspect.Parameter(flag, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=FLAGS[flag])


def _given(flags: Flags) -> Flags:
    """Turn the flags that were given into settings."""
    given = {k: v for k, v in flags.items() if v is not None and v != []}
    for key in ("mean", "std"):
        if key in given:
            given[key] = _by_channel(key, given[key])
    if "set_" in given:
        given["options"] = _options(given.pop("set_"))
    return given


def _by_channel(key: str, word: str) -> tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in word.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in (1, 3):
        raise UnderfireError(f"--{key} {word}: give three numbers such as 0.5,0.5,0.5, or one for all channels.")
    return numbers


def _options(words: list[str]) -> dict[str, dict[str, Any]]:
    import yaml

    from underfire.core.bounded import load_yaml

    options: dict[str, dict[str, Any]] = {}
    for word in words:
        key, equals, value = word.partition("=")
        part, dot, name = key.partition(".")
        if not (equals and dot and part and name):
            raise UnderfireError(f"--set {word}: write it as PART.KEY=VALUE, such as adv2.steps=120.")
        try:
            options.setdefault(part, {})[name] = load_yaml(value)
        except yaml.YAMLError as e:
            raise UnderfireError(f"--set {word}: '{value}' is no number, word or YAML value.") from e
    return options


def settings_of(file: str | None, flags: Flags) -> Settings:
    """Read the settings of a plan file and of the flags beside it, which win.

    Raises:
        UnderfireError: there are no photos, or a setting is wrong.
    """
    if file is None and "images" not in flags:
        raise UnderfireError("Nothing to attack: give --images DIR (or FILE, or 'demo'), or a PLAN.yaml.")
    if file is None:
        return Settings.parse(flags)  # of a plan that does not say what is forged it is the input, as it was before
    from underfire.plan.file import merged, read

    there = read(place(file)).model_dump(exclude_unset=True)
    return Settings.parse(merged(there, flags))


def at_file(file: str | None, flags: Flags) -> Flags:
    """Say that files are forged, where the user does not say what is; a plan file that does not is of the input."""
    return flags if file is not None or "images" not in flags else {"at": "file", **flags}


def classifier_of(settings: Settings) -> Classifier:
    """Build the classifier that settings name, on its device. It imports torch.

    Raises:
        UnderfireError: an unknown classifier or device, or weights that do not fit.
    """
    import os

    from underfire.executors.process import prepare
    from underfire.plan.device import choose_device
    from underfire.registry import build_classifier

    prepare(settings.threads or os.cpu_count() or 1)
    device = choose_device(settings.device)
    return build_classifier(settings.classifier, settings.classifier_options, device)
