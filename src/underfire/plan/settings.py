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
    | {"defense"}
)
"""Settings that change no number: what photos, weights, class names, defense and target maps there are is in the key
by their digests."""
Finite = Annotated[float, Field(allow_inf_nan=False)]
Triple = tuple[Finite, Finite, Finite]


class Settings(BaseModel):
    """What the user asks for: the flags of ``underfire run``, or a plan file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: str
    classifier: str = "efficientnet-lite0"
    weights: str | None = None
    input_size: Annotated[int, Field(ge=16, le=4096)] | None = None
    resize: Annotated[int, Field(ge=16, le=8192)] | None = None
    mean: Triple | None = None
    std: Triple | None = None
    classes: str | None = None
    interpreter: tuple[str, ...] = ("cam",)
    attack: tuple[str, ...] = ("pgd", "adv2")
    preset: str = "fast"
    eps: int = Field(8, ge=1, le=255)
    max_shift: Annotated[float, Field(ge=0, le=112, allow_inf_nan=False)] = 2.0
    target: str = "random"
    target_map: str = "benign"
    defense: str | None = None
    adaptive: bool = False
    limit: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    batch_size: Annotated[int, Field(ge=1, le=UNIT_ROWS)] | None = None
    threads: Annotated[int, Field(ge=1)] | None = None
    precision: Literal["fp32", "bf16"] | None = None
    device: str = "auto"
    workers: Annotated[int, Field(ge=1)] = 1
    executor: str = "local"
    address: str | None = None
    gpus: Annotated[float, Field(ge=0, le=64, allow_inf_nan=False)] | None = None
    resolved: dict[str, Any] = Field(default_factory=dict)

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
