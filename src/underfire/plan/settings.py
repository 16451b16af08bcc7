"""The settings of an audit: what the user asks for, from flags or a plan file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from underfire.core import ClassifierOptions, Limits, UnderfireError
from underfire.core.naming import DEMO, absolute_name
from underfire.core.place import FILES, absolute, absolute_files, is_url
from underfire.core.precision import mistake_in
from underfire.plan.fields import MACHINE, AttackSettings, flag
from underfire.plan.mistakes import sentence
from underfire.plan.values import plain

UNIT_ROWS = 1000
"""Rows of one Parquet part at most."""
AUTO = ("batch_size", "threads", "precision")
"""Settings that are filled in where they are not given: from the earlier plan, when a run goes on."""


class Settings(AttackSettings):
    """The settings of an audit: the flags of ``underfire run``, or a plan file.

    Example:
        ``Settings(images="photos", interpreter=("cam", "grad"), eps=4)``; `parse` tells mistakes in a sentence.

    Raises:
        pydantic.ValidationError: an unknown setting, or a value that is not allowed.
    """

    batch_size: Annotated[
        Annotated[int, Field(ge=1, le=UNIT_ROWS)] | None,
        flag(MACHINE, "N", "Photos that share a batch.", "the fastest that fits"),
    ] = None
    threads: Annotated[
        Annotated[int, Field(ge=1, le=512)] | None,
        flag(MACHINE, "T", "CPU threads of each worker.", "cores / workers"),
    ] = None
    precision: Annotated[
        str | None,
        flag(
            MACHINE,
            "auto|fp32|bf16|…-last",
            "Precision of the search; the judge is always float32. -last: channels last in memory; bf16-fp32-last: "
            "the last third in float32.",
            "the fastest that agrees",
        ),
    ] = None
    device: Annotated[str, flag(MACHINE, "auto|cpu|cuda|mps", "What the workers compute on.")] = "auto"
    workers: Annotated[
        int, Field(ge=1), flag(MACHINE, "N", "Number of worker processes.", "1; 2 for a study on a CPU")
    ] = 1
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
        if value is None:
            raise PydanticCustomError("empty", "is empty")
        listed = isinstance(value, Iterable) and not isinstance(value, str | Mapping)
        names = tuple(value) if listed else (value,)
        if not names:
            raise ValueError("name at least one")
        if not all(isinstance(name, str) for name in names):
            raise PydanticCustomError("names", "give names, as in [pgd, adv2]; settings of a part go under 'options'")
        return tuple(dict.fromkeys(names))

    @field_validator("options", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        return plain(value)

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
