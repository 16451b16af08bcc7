"""Settings: what the user asks for, from flags or a plan file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from underfire import core
from underfire.core import ClassifierOptions, UnderfireError
from underfire.core.place import FILES, Place, _absolute, absolute_files, is_url
from underfire.images.photos import DEMO

UNIT_ROWS = 1000
"""At most so many rows in one Parquet part."""
AUTO = ("batch_size", "threads", "precision")
"""Settings that are filled in when not given, and taken from the plan that is there when a run goes on."""
NOT_IN_KEY = frozenset(
    {"images", "weights", "classes", "device", "workers", "executor", "address", "gpus", "resolved", "target_map"}
    | {"defense", "interpolation"}
)
"""Settings that change no number: what photos, weights, class names, defense and target maps there are is in the key
by their digests, and the whole input policy is in that of the weights."""
LATER = frozenset({"interpolation"})
"""Settings that an earlier version did not have: while they are not given, no output folder is named otherwise."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
Triple = tuple[Finite, Finite, Finite]
PHOTOS, CLASSIFIER, ATTACK, PLACE = "Photos", "Classifier", "Attack", "Where it runs"
"""Groups of settings, as `--help` shows them."""


def flag(group: str, metavar: str, text: str, shown: str = "") -> Any:
    """Describe a setting once, for the command line's help and for whoever reads the model.

    Args:
        group: one of the four above.
        metavar: what is given, such as ``PX``.
        text: one sentence.
        shown: the default in words, where it is no plain value.
    """
    return Field(description=text, json_schema_extra={"group": group, "metavar": metavar, "shown": shown})


class Settings(BaseModel):
    """What the user asks for: the flags of ``underfire run``, or a plan file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: Annotated[
        str, flag(PHOTOS, "DIR|FILE|URL|demo", "A folder, one file, s3://…, or 'demo' (built-in photos).")
    ]
    limit: Annotated[
        Annotated[int, Field(ge=1)] | None,
        flag(PHOTOS, "N", "N photos, evenly spaced over the sorted paths.", "all"),
    ] = None
    classifier: Annotated[str, flag(CLASSIFIER, "NAME", "See `underfire list`; 'timm:NAME' for any timm network.")] = (
        "efficientnet-lite0"
    )
    weights: Annotated[
        str | None, flag(CLASSIFIER, "FILE", "Your own weights: safetensors, or a checkpoint without code.")
    ] = None
    input_size: Annotated[
        Annotated[int, Field(ge=16, le=4096)] | None, flag(CLASSIFIER, "PX", "Side of the classifier's input.")
    ] = None
    resize: Annotated[
        Annotated[int, Field(ge=16, le=8192)] | None,
        flag(CLASSIFIER, "PX", "Shorter side of a photo before the centre crop."),
    ] = None
    mean: Annotated[
        Triple | None, flag(CLASSIFIER, "R,G,B", "What is subtracted from pixels in [0, 1], by colour.")
    ] = None
    std: Annotated[Triple | None, flag(CLASSIFIER, "R,G,B", "What they are then divided by.")] = None
    interpolation: Annotated[
        str | None, flag(CLASSIFIER, "NAME", "How photos are resized: bilinear, bicubic, lanczos or nearest.")
    ] = None
    classes: Annotated[
        str | None, flag(CLASSIFIER, "FILE", "Class names, one a line, in the order of the outputs.")
    ] = None
    interpreter: Annotated[tuple[str, ...], flag(ATTACK, "NAME", "Repeat for several.")] = ("cam",)
    attack: Annotated[tuple[str, ...], flag(ATTACK, "NAME", "Repeat for several.")] = ("pgd", "adv2")
    preset: Annotated[str, flag(ATTACK, "paper|fast|thorough", "How much the attacker spends.")] = "fast"
    eps: Annotated[int, Field(ge=1, le=255), flag(ATTACK, "LEVELS", "L∞ budget in levels of 255.")] = 8
    max_shift: Annotated[
        float,
        Field(ge=0, le=112, allow_inf_nan=False),
        flag(ATTACK, "PX", "Budget of attacks that bend: px, at an input of 224 px."),
    ] = 2.0
    target: Annotated[str, flag(ATTACK, "random|least-likely|CLASS", "CLASS: an index, a WordNet id or a name.")] = (
        "random"
    )
    target_map: Annotated[
        str,
        flag(
            ATTACK,
            "SOURCE",
            "The map to be shown: benign, class:NAME|random, image:PATH|random, shape:circle|box or file:PNG.",
        ),
    ] = "benign"
    defense: Annotated[
        str | None, flag(ATTACK, "FILE", "An alarm that judges every picture too: docs/defenses.md.")
    ] = None
    adaptive: Annotated[bool, flag(ATTACK, "", "Attack the defense too: all its members and its score at once.")] = (
        False
    )
    seed: Annotated[int, Field(ge=0), flag(ATTACK, "S", "Of every random choice.")] = 0
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    batch_size: Annotated[
        Annotated[int, Field(ge=1, le=UNIT_ROWS)] | None,
        flag(PLACE, "N", "Photos that share a batch.", "by cost"),
    ] = None
    threads: Annotated[
        Annotated[int, Field(ge=1, le=512)] | None, flag(PLACE, "T", "CPU threads a worker.", "cores / workers")
    ] = None
    precision: Annotated[
        Literal["fp32", "bf16"] | None,
        flag(PLACE, "auto|fp32|bf16", "Of the search; the judge is always float32.", "auto"),
    ] = None
    device: Annotated[str, flag(PLACE, "auto|cpu|cuda|mps", "What the workers compute on.")] = "auto"
    workers: Annotated[int, Field(ge=1), flag(PLACE, "N", "Processes.")] = 1
    executor: Annotated[str, flag(PLACE, "local|ray", "Where the workers are: docs/scale.md.")] = "local"
    address: Annotated[str | None, flag(PLACE, "auto|ray://…|local", "The Ray cluster.", "auto")] = None
    gpus: Annotated[
        Annotated[float, Field(ge=0, le=64, allow_inf_nan=False)] | None,
        flag(PLACE, "G", "GPUs of each worker on Ray; 0.5: two share one.", "1 on cuda"),
    ] = None
    resolved: dict[str, Any] = Field(default_factory=dict)

    @field_validator("precision", mode="before")
    @classmethod
    def _auto_is_none(cls, value: Any) -> Any:
        return None if value == "auto" else value

    @field_validator("interpreter", "attack", mode="before")
    @classmethod
    def _one_or_more(cls, value: Any) -> Any:
        chosen = (value,) if isinstance(value, str) else tuple(value)
        if not chosen:
            raise ValueError("name at least one")
        return tuple(dict.fromkeys(chosen))

    @field_validator("target", mode="before")
    @classmethod
    def _as_word(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) else value

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Settings:
        """Settings from flags or a file; the first mistake is told in the user's words."""
        try:
            return cls(**values)
        except ValidationError as e:
            raise UnderfireError(_told(e)) from e
        except TypeError as e:
            raise UnderfireError(f"A plan is a mapping of settings such as 'images: photos' ({e}).") from e

    def placed(self) -> Settings:
        """The same with absolute paths, so that they hold from anywhere."""
        own = {key: _absolute(path) for key in FILES if (path := getattr(self, key)) is not None}
        if self.images != DEMO and not is_url(self.images):
            own["images"] = _absolute(self.images)
        parts = {part: absolute_files(chosen) for part, chosen in self.options.items()}
        return self.model_copy(update={**own, "options": parts} if parts else own)

    @property
    def classifier_options(self) -> ClassifierOptions:
        """Own weights and input policy."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(ClassifierOptions)}
        return ClassifierOptions(**own)


def _told(error: ValidationError) -> str:
    first = error.errors()[0]
    word = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return str(core.unknown("setting", word, Settings.model_fields))
    if first["type"] == "missing":
        return f"The plan does not say '{word}'."
    flag = "--" + word.partition(".")[0].replace("_", "-")
    hint = " The budget is in whole levels of 255." if word == "eps" else ""
    return f"{flag} {first['input']}: {first['msg'][0].lower()}{first['msg'][1:]}.{hint}"


def read(path: Place) -> Settings:
    """Settings from a YAML plan.

    Raises:
        UnderfireError: missing, not YAML, or with settings that do not exist.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except IsADirectoryError as e:
        inside = path / "plan.yaml"
        hint = f"its plan is '{inside}'" if inside.is_file() else f"photos are given with --images '{path}'"
        raise UnderfireError(f"'{path}' is a folder, not a plan: {hint}.") from e
    except OSError as e:
        raise UnderfireError(f"Cannot read the plan '{path}' ({e.strerror or e}).") from e
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        reason = str(e).splitlines()[0]
        raise UnderfireError(f"'{path}' is no YAML plan ({reason}): photos are given with --images.") from e
    if not isinstance(content, dict):
        raise UnderfireError(f"'{path}' is no plan: a plan is a mapping of settings such as 'images: photos'.")
    return Settings.parse(content)


def together(there: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A plan's settings with those given beside it, which win; of options, each by itself."""
    parts = there.get("options", {}), given.get("options", {})
    options = {part: {**parts[0].get(part, {}), **parts[1].get(part, {})} for part in {**parts[0], **parts[1]}}
    return {**there, **given, **({"options": options} if options else {})}


def key_settings(settings: Settings) -> dict[str, Any]:
    """The settings that change numbers; of files it is their digests that count, not where they lie."""
    found = settings.model_dump(mode="json", exclude=set(NOT_IN_KEY))
    found["options"] = {
        part: {k: v for k, v in own.items() if k not in FILES} for part, own in found["options"].items()
    }
    return found
