"""The settings of an audit: what the user asks for, from flags or a plan file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from underfire.core import ClassifierOptions, Limits, UnderfireError
from underfire.core.naming import DEMO, absolute_name, key_name
from underfire.core.place import FILES, absolute, absolute_files, is_url
from underfire.core.precision import mistake_in
from underfire.plan.mistakes import sentence
from underfire.plan.values import Colours, HeadKind, Numbers, Size, SmallestEps, SmallestShift, smallest_or_fixed

UNIT_ROWS = 1000
"""Rows of one Parquet part at most."""
AUTO = ("batch_size", "threads", "precision")
"""Settings that are filled in where they are not given: from the earlier plan, when a run goes on."""
NOT_IN_KEY = frozenset(
    {"images", "weights", "classes", "device", "workers", "executor", "address", "gpus", "resolved", "target_map"}
    | {"defense", "interpolation", "channels", "head", "key", "output", "layout", "order", "scale"}
    | {"yardstick", "sanity"}
)
"""Settings that are not in the key. Some change no number; the files among them are in the key by their digests, and
the whole input policy, and the kind of head, are in the digest of the weights."""
LATER: dict[str, Any] = {
    **dict.fromkeys(("interpolation", "max_megapixels", "max_megabytes", "channels", "head", "door")),
    **dict.fromkeys(("key", "output", "layout", "order", "scale", "yardstick", "seeds", "sanity")),
    **{"at": "input", "save_as": None, "through": None},
}
"""Settings that earlier versions did not have, with their default: while they have it, keys and output folders do not
change."""
PHOTOS, CLASSIFIER, ATTACK, MACHINE = "Photos", "Classifier", "Attack", "Where it runs"
"""Groups of settings, as `--help` shows them."""


def flag(group: str, metavar: str, text: str, shown: str = "") -> Any:
    """Describe a setting once, for the help of the command line and for readers of the model.

    Args:
        group: one of the four groups.
        metavar: the kind of value, such as ``PX``.
        text: one sentence.
        shown: the default in words, where it is no plain value.
    """
    return Field(description=text, json_schema_extra={"group": group, "metavar": metavar, "shown": shown})


class Settings(BaseModel):
    """The settings of an audit: the flags of ``underfire run``, or a plan file.

    Example:
        ``Settings(images="photos", interpreter=("cam", "grad"), eps=4)``; `parse` tells mistakes in a sentence.

    Raises:
        pydantic.ValidationError: an unknown setting, or a value that is not allowed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: Annotated[
        str, flag(PHOTOS, "DIR|FILE|URL|demo", "A folder, one file, s3://…, or 'demo' (built-in photos).")
    ]
    limit: Annotated[
        Annotated[int, Field(ge=1)] | None,
        flag(PHOTOS, "N", "N photos, evenly spaced over the sorted paths.", "all"),
    ] = None
    max_megapixels: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000)] | None,
        flag(PHOTOS, "N", "Pixels of one photo at most, in millions.", "89"),
    ] = None
    max_megabytes: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000)] | None,
        flag(PHOTOS, "N", "Size of one photo's file at most, in MB.", "512"),
    ] = None
    classifier: Annotated[str, flag(CLASSIFIER, "NAME", "See `underfire list`: timm:NAME, hf:DIR, onnx:FILE …")] = (
        "efficientnet-lite0"
    )
    weights: Annotated[
        str | None, flag(CLASSIFIER, "FILE", "Your own weights: safetensors, or a checkpoint without code.")
    ] = None
    input_size: Annotated[
        Size | None,
        flag(CLASSIFIER, "PX|HxW", "Side of the classifier's square input, or its height and width: 64x96."),
    ] = None
    resize: Annotated[
        Annotated[int, Field(ge=16, le=8192)] | None,
        flag(CLASSIFIER, "PX", "Shorter side of a photo before the centre crop."),
    ] = None
    mean: Annotated[
        Numbers | None,
        flag(
            CLASSIFIER,
            "R,G,B|M",
            "What is subtracted from pixels in [0, 1], by colour, or one number for all. A network that wants −1 to 1 "
            "has mean 0.5 and std 0.5; one that wants 0 to 255 has mean 0 and std 0.00392157 (1/255).",
        ),
    ] = None
    std: Annotated[
        Numbers | None, flag(CLASSIFIER, "R,G,B|S", "What pixels are then divided by, by colour, or one number.")
    ] = None
    interpolation: Annotated[
        str | None, flag(CLASSIFIER, "NAME", "How photos are resized: bilinear, bicubic, lanczos or nearest.")
    ] = None
    channels: Annotated[
        Colours | None,
        flag(CLASSIFIER, "1|3", "Colours of the input; with 1 photos are read as grey.", "as the network"),
    ] = None
    head: Annotated[
        HeadKind | None,
        flag(
            CLASSIFIER,
            "softmax|binary|multilabel",
            "What the outputs mean: one class of all; one output for two classes; labels by themselves.",
            "binary for one output, else softmax",
        ),
    ] = None
    scale: Annotated[
        Annotated[float, Field(gt=0, allow_inf_nan=False)] | None,
        flag(CLASSIFIER, "S", "White before mean and std, which are in its unit: 255 for networks of levels.", "1"),
    ] = None
    layout: Annotated[
        Literal["nchw", "nhwc"] | None, flag(CLASSIFIER, "nchw|nhwc", "Axes of a file's input (onnx, script).", "found")
    ] = None
    order: Annotated[
        Literal["rgb", "bgr"] | None, flag(CLASSIFIER, "rgb|bgr", "Colours of a file's input (onnx, script).", "rgb")
    ] = None
    key: Annotated[
        str | None, flag(CLASSIFIER, "NAME", "Which of several weights in the file: teacher, state_dict_ema.")
    ] = None
    output: Annotated[
        str | None, flag(CLASSIFIER, "NAME|N", "Which of several outputs the logits are, by name or from 0.")
    ] = None
    door: Annotated[
        str | None,
        flag(CLASSIFIER, "NAME|FILE.py:FUNCTION", "How a file becomes the input: docs/door.md.", "pillow"),
    ] = None
    classes: Annotated[
        str | None, flag(CLASSIFIER, "FILE", "Class names, one on each line, in the order of the outputs.")
    ] = None
    interpreter: Annotated[tuple[str, ...], flag(ATTACK, "NAME", "Repeat for several.")] = ("cam",)
    attack: Annotated[tuple[str, ...], flag(ATTACK, "NAME", "Repeat for several.")] = ("pgd", "adv2")
    preset: Annotated[str, flag(ATTACK, "paper|fast|thorough", "How much the attacker spends.")] = "fast"
    eps: Annotated[
        int,
        Field(ge=1, le=255),
        *smallest_or_fixed(SmallestEps, 8),
        flag(ATTACK, "LEVELS|smallest[:MAX]", "L∞ budget in levels of 255, or the smallest that forges: docs/need.md."),
    ] = 8
    max_shift: Annotated[
        float,
        Field(ge=0, le=112, allow_inf_nan=False),
        *smallest_or_fixed(SmallestShift, 2.0),
        flag(ATTACK, "PX|smallest[:MAX]", "Budget of attacks that bend: px, at an input of 224 px; or as --eps."),
    ] = 2.0
    at: Annotated[
        Literal["file", "input"],
        flag(ATTACK, "file|input", "Forge the photo's file, or the classifier's input (as published).", "file"),
    ] = "input"
    save_as: Annotated[str | None, flag(ATTACK, "png|jpeg[:Q]|webp[:Q]|same", "How forged files are saved.", "png")] = (
        None
    )
    through: Annotated[
        str | None,
        flag(ATTACK, "LIST", "What platforms will do to the files: jpeg:75-95,resize:0.5-1.", "nothing"),
    ] = None
    target: Annotated[
        str,
        flag(
            ATTACK,
            "random|least-likely|nearest|CLASS",
            "CLASS: an index, a WordNet id or a name; nearest: the runner-up. Several with commas: random,nearest.",
        ),
    ] = "random"
    target_map: Annotated[
        str,
        flag(
            ATTACK,
            "SOURCE",
            "The map to be shown: benign, class:NAME|random, image:PATH|random, shape:circle|box or file:PNG.",
        ),
    ] = "benign"
    defense: Annotated[str | None, flag(ATTACK, "FILE", "An alarm that judges every image too: docs/defenses.md.")] = (
        None
    )
    yardstick: Annotated[
        tuple[str, ...] | None,
        flag(ATTACK, "FILE", "A file of `underfire yardstick`; one an interpreter.", "packaged, or own photos"),
    ] = None
    adaptive: Annotated[bool, flag(ATTACK, "", "Attack the defense too: all its members and its score at once.")] = (
        False
    )
    seed: Annotated[int, Field(ge=0), flag(ATTACK, "S", "Seed of every random choice.")] = 0
    seeds: Annotated[
        Annotated[int, Field(ge=1, le=1000)] | None,
        flag(ATTACK, "N", "Attack each photo with N seeds: S, S + 1, …", "1"),
    ] = None
    sanity: Annotated[
        Annotated[int, Field(ge=0, le=100_000)] | None,
        flag(
            ATTACK, "N", "Check the attack itself on N photos; 0: not at all.", "4, where that is a fifth of the cost"
        ),
    ] = None
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    batch_size: Annotated[
        Annotated[int, Field(ge=1, le=UNIT_ROWS)] | None,
        flag(MACHINE, "N", "Photos that share a batch.", "by cost"),
    ] = None
    threads: Annotated[
        Annotated[int, Field(ge=1, le=512)] | None,
        flag(MACHINE, "T", "CPU threads of each worker.", "cores / workers"),
    ] = None
    precision: Annotated[
        str | None,
        flag(
            MACHINE,
            "auto|fp32|bf16|bf16-last",
            "Precision of the search; the judge is always float32. -last: channels last in memory.",
            "the fastest that agrees",
        ),
    ] = None
    device: Annotated[str, flag(MACHINE, "auto|cpu|cuda|mps", "What the workers compute on.")] = "auto"
    workers: Annotated[int, Field(ge=1), flag(MACHINE, "N", "Number of worker processes.")] = 1
    executor: Annotated[str, flag(MACHINE, "local|ray", "Where the workers are: docs/scale.md.")] = "local"
    address: Annotated[str | None, flag(MACHINE, "auto|ray://…|local", "The Ray cluster.", "auto")] = None
    gpus: Annotated[
        Annotated[float, Field(ge=0, le=64, allow_inf_nan=False)] | None,
        flag(MACHINE, "G", "GPUs of each worker on Ray; 0.5 means that two share one.", "1 on cuda"),
    ] = None
    resolved: dict[str, Any] = Field(default_factory=dict)

    @field_validator("*", mode="before")
    @classmethod
    def _not_empty(cls, value: Any) -> Any:
        if isinstance(value, str) and not value.strip():
            raise PydanticCustomError("empty", "is empty")
        return value

    @field_validator("precision", mode="before")
    @classmethod
    def _auto_is_none(cls, value: Any) -> Any:
        return None if value == "auto" else value

    @field_validator("precision")
    @classmethod
    def _known_precision(cls, value: str | None) -> str | None:
        if value is not None and (mistake := mistake_in(value)):
            raise PydanticCustomError("precision", "{mistake}", {"mistake": mistake})
        return value

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
        """Make settings from the values of flags or of a file.

        Example:
            ``Settings.parse({"images": "demo", "eps": 4})``

        Raises:
            UnderfireError: the first mistake, in the user's words.
        """
        try:
            return cls(**values)
        except ValidationError as e:
            raise UnderfireError(sentence(e, Settings.model_fields)) from e
        except TypeError as e:
            raise UnderfireError(f"A plan is a mapping of settings, such as 'images: photos' ({e}).") from e

    def with_absolute_paths(self) -> Settings:
        """Make the paths absolute, so that plan.yaml can be run from any folder."""
        own: dict[str, Any] = {k: absolute(path) for k in FILES if (path := getattr(self, k)) is not None}
        if self.images != DEMO and not is_url(self.images):
            own["images"] = absolute(self.images)
        own["classifier"] = absolute_name(self.classifier)
        if self.yardstick is not None:
            own["yardstick"] = tuple(map(absolute, self.yardstick))
        if self.door is not None:
            own["door"] = _absolute_door(self.door)
        parts = {part: absolute_files(chosen) for part, chosen in self.options.items()}
        return self.model_copy(update={**own, "options": parts} if parts else own)

    @property
    def limits(self) -> Limits:
        """The limits of a photo's size."""
        usual = Limits()
        pixels = usual.pixels if self.max_megapixels is None else self.max_megapixels * 1_000_000
        return Limits(pixels, usual.bytes if self.max_megabytes is None else self.max_megabytes * 1_000_000)

    @property
    def classifier_options(self) -> ClassifierOptions:
        """The user's own weights and input policy."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(ClassifierOptions)}
        return ClassifierOptions(**own)


def _absolute_door(word: str) -> str:
    """Make the path in the name of a door absolute: of a processor's folder, or of a file with a function."""
    kind, colon, rest = word.partition(":")
    if kind == "hf" and rest:
        return f"hf:{absolute(rest)}"
    file, colon, function = word.rpartition(":")
    return f"{absolute(file)}:{function}" if colon and file.endswith(".py") else word


def as_before(given: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what an earlier version did not have and is not given, so that keys and folders are as they were."""
    return {name: value for name, value in given.items() if name not in LATER or value != LATER[name]}


def key_settings(settings: Settings) -> dict[str, Any]:
    """Pick the settings that go into the key: paths of files do not, since the key has the digests of the files."""
    found = settings.model_dump(mode="json", exclude=set(NOT_IN_KEY))
    found = as_before(found) | {"classifier": key_name(settings.classifier)}
    found["options"] = {
        part: {k: v for k, v in own.items() if k not in FILES} for part, own in found["options"].items()
    }
    return found
