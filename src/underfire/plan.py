"""Settings -> units of tasks, their keys and what they will cost. Nothing is run here.

Two runs with the same plan have the same units with the same names. A name carries a key: the digest of all that
changes numbers (weights, image digests, filled-in settings, seed, threads, schema) and of nothing that does not (device
name, worker count, order).
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import os
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from underfire import goals, images, registry
from underfire.core import Attack, Cell, Classifier, ClassifierOptions, Job, Photo, UnderfireError, Unit
from underfire.record import SCHEMA_VERSION

UNIT_ROWS = 1000
"""At most so many rows in one Parquet part."""
UNIT_PASSES = 40_000
"""F that a unit should cost at most (some ten minutes on two CPU cores): what a kill loses."""
UNIT_IMAGES = {"cpu": 8, "mps": 16, "cuda": 64}
"""Images that share a batch where cost allows: a CPU gains nothing beyond 8 (measured on EfficientNet-Lite0)."""
FIRST_ORDER = 3.0
"""F of a step that takes first derivatives only."""
MEMORY_SHARE = 4
"""A batch may take one part in so many of the memory."""
SCALE_PHOTOS = {"mask": 16}
"""Photos that the untouched scale is measured on, where not all of them: one MASK map costs 900 F (method, 5.5)."""
AUTO = ("batch_size", "threads", "precision")
"""Settings that are filled in when not given, and taken from the plan that is there when a run goes on."""
NOT_IN_KEY = frozenset({"images", "weights", "classes", "device", "workers", "executor", "resolved", "target_map"})
"""Settings that change no number: what photos, weights, class names and target maps there are is in the key by their
digests."""
FILES = ("weights", "classes")

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
    limit: Annotated[int, Field(ge=1)] | None = None
    seed: Annotated[int, Field(ge=0)] = 0
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    batch_size: Annotated[int, Field(ge=1, le=UNIT_ROWS)] | None = None
    threads: Annotated[int, Field(ge=1)] | None = None
    precision: Literal["fp32", "bf16"] | None = None
    device: str = "auto"
    workers: Annotated[int, Field(ge=1)] = 1
    executor: str = "local"
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

    @property
    def classifier_options(self) -> ClassifierOptions:
        """Own weights and input policy."""
        own = {f.name: getattr(self, f.name) for f in dataclasses.fields(ClassifierOptions)}
        return ClassifierOptions(**own)


def _told(error: ValidationError) -> str:
    first = error.errors()[0]
    word = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return str(registry.unknown("setting", word, Settings.model_fields))
    if first["type"] == "missing":
        return f"The plan does not say '{word}'."
    flag = "--" + word.partition(".")[0].replace("_", "-")
    hint = " The budget is in whole levels of 255." if word == "eps" else ""
    return f"{flag} {first['input']}: {first['msg'][0].lower()}{first['msg'][1:]}.{hint}"


def read(path: Path) -> Settings:
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
        raise UnderfireError(f"Cannot read the plan '{path}' ({e.strerror}).") from e
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        reason = str(e).splitlines()[0]
        raise UnderfireError(f"'{path}' is no YAML plan ({reason}): photos are given with --images.") from e
    if not isinstance(content, dict):
        raise UnderfireError(f"'{path}' is no plan: a plan is a mapping of settings such as 'images: photos'.")
    return Settings.parse(content)


@dataclasses.dataclass(frozen=True)
class Plan:
    """An audit, filled in: everything that the units follow from."""

    settings: Settings
    job: Job
    photos: tuple[Photo, ...]
    weights_digest: str
    classes_digest: str
    cell_passes: tuple[float, ...]
    """F an image costs at most for each of the job's cells: the search and its judgements."""
    image_passes: float
    """F an image costs at most, clean maps and judgements included."""
    scale_passes: float

    def units(self, scale: Mapping[str, float]) -> Iterator[Unit]:
        """The forge-and-judge units."""
        job = dataclasses.replace(self.job, scale=dict(scale))
        return self._cut("records", self.photos, job)

    def scale_units(self) -> Iterator[Unit]:
        """The units that measure what JPEG does to clean maps, which `units` are judged against."""
        for name in self.job.interpreters:
            photos = evenly(self.photos, SCALE_PHOTOS.get(name))
            yield from self._cut("scale", photos, dataclasses.replace(self.job, interpreters=(name,), cells=()))

    def _cut(self, stage: str, photos: tuple[Photo, ...], job: Job) -> Iterator[Unit]:
        size = self.settings.batch_size or 1
        n = -(-len(photos) // size)
        for i in range(n):  # equal shares: the last batch is no straggler
            part = photos[i * len(photos) // n : (i + 1) * len(photos) // n]
            label = f"-{job.interpreters[0]}" if stage == "scale" else ""
            partners = self._partners(part) if stage == "records" else ()
            yield Unit(f"{i:06d}{label}-{self._key(stage, part, job)}", stage, part, job, partners)

    def _partners(self, photos: tuple[Photo, ...]) -> tuple[Photo, ...]:
        """The photos whose maps are wanted, where target maps come from photos."""
        target = self.job.target_map
        if target.kind != "image":
            return ()
        if target.value == "random":
            return tuple(goals.draw_photo(self.job.seed, photo, self.photos) for photo in photos)
        return (Photo(str(target.value), target.digest),) * len(photos)

    def _key(self, stage: str, photos: tuple[Photo, ...], job: Job) -> str:
        content = {
            "schema": SCHEMA_VERSION,
            "stage": stage,
            "audit": self.digest,
            "interpreters": job.interpreters,
            "photos": [(photo.path, photo.sha256) for photo in photos],
        }
        return _digest(content)[:16]

    @cached_property
    def digest(self) -> str:
        """Of all that changes numbers."""
        content = {
            "settings": self.key_settings(),
            "weights": self.weights_digest,
            "photos": self.photos_digest,
            "classes": self.classes_digest,
            "target_map": self.job.target_map.key,
            "attacks": [(repr(cell.attack), cell.against) for cell in self.job.cells],
        }
        return _digest(content)

    @cached_property
    def photos_digest(self) -> str:
        """Of all photos' paths and contents."""
        return _digest([(photo.path, photo.sha256) for photo in self.photos])

    def key_settings(self) -> dict[str, Any]:
        """The settings that change numbers."""
        return key_settings(self.settings)

    def dump(self) -> str:
        """plan.yaml: the settings filled in, and what they were resolved to."""
        resolved = {
            "photos": len(self.photos),
            "photos_digest": self.photos_digest,
            "weights_digest": self.weights_digest,
            "classes_digest": self.classes_digest,
            "target_map_digest": self.job.target_map.key,
            "units": -(-len(self.photos) // (self.settings.batch_size or 1)),
            "plan_digest": self.digest,
        }
        content = self.settings.model_dump(mode="json", exclude_none=True, exclude={"resolved"}) | {
            "resolved": resolved
        }
        return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def key_settings(settings: Settings) -> dict[str, Any]:
    """The settings that change numbers; of files it is their digests that count, not where they lie."""
    found = settings.model_dump(mode="json", exclude=set(NOT_IN_KEY))
    found["options"] = {
        part: {k: v for k, v in own.items() if k not in FILES} for part, own in found["options"].items()
    }
    return found


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def evenly(photos: tuple[Photo, ...], n: int | None) -> tuple[Photo, ...]:
    """``n`` photos evenly spaced, or all."""
    if n is None or n >= len(photos):
        return photos
    return tuple(photos[i * len(photos) // n] for i in range(n))


def make_plan(settings: Settings, earlier: Settings | None = None) -> tuple[Plan, Classifier]:
    """Fill in the settings, and check every name, class and file before anything is run.

    Args:
        settings: what the user asks for.
        earlier: the plan that is in the output folder: what the user leaves open is as there.

    Returns:
        The plan, and the classifier that was built for it.
    """
    given = {k: getattr(earlier, k) for k in AUTO if earlier is not None and getattr(settings, k) is None}
    settings = settings.model_copy(update={k: v for k, v in given.items() if v is not None})
    if settings.images != images.DEMO:
        settings = settings.model_copy(update={"images": _absolute(settings.images)})
    own = {key: _absolute(path) for key in FILES if (path := getattr(settings, key)) is not None}
    settings = settings.model_copy(update=own)
    parts = {
        part: {k: _absolute(v) if k in FILES and isinstance(v, str) else v for k, v in chosen.items()}
        for part, chosen in settings.options.items()
    }
    settings = settings.model_copy(update={"options": parts})
    for name in settings.options:
        if name not in (*settings.interpreter, *settings.attack):
            raise registry.unknown(
                "interpreter or attack in this plan", name, (*settings.interpreter, *settings.attack)
            )
    device = choose_device(settings.device)
    classifier = registry.build_classifier(settings.classifier, settings.classifier_options, device)
    interpreters = {
        name: registry.build_interpreter(name, classifier, settings.options.get(name, {}))
        for name in settings.interpreter
    }
    registry.maker("executors", settings.executor)
    cells = tuple(_cells(settings))
    map_passes = sum(i.map_passes for i in interpreters.values())
    cell_passes = tuple(
        cell.attack.bound(interpreters[cell.against].step_passes if cell.against else 3.0)
        + (1 + interpreters[cell.against].map_passes if cell.against else len(interpreters) + map_passes)
        for cell in cells
    )
    goal_maps = 2 if settings.target_map.startswith(("class", "image")) else 1
    image_passes = 1 + goal_maps * map_passes + sum(cell_passes)
    settings = settings.model_copy(
        update={
            "batch_size": settings.batch_size
            or min(
                _batch_size(image_passes, device, len(cells) * len(interpreters)),
                _batch_that_fits(
                    classifier, device, settings.workers, max(i.step_passes for i in interpreters.values())
                ),
            ),
            "threads": settings.threads or max(1, (os.cpu_count() or 1) // settings.workers),
            "precision": settings.precision or "fp32",
        }
    )
    folder = images.Folder(settings.images)
    photos = tuple(folder.photos(settings.limit))
    target_map = goals.target_map_of(settings.target_map, classifier, folder.root)
    if target_map.digest:  # a file's place, so that plan.yaml can be run from anywhere
        settings = settings.model_copy(update={"target_map": f"{target_map.kind}:{target_map.value}"})
    job = Job(
        source=settings.images,
        classifier=settings.classifier,
        options=settings.classifier_options,
        interpreters=settings.interpreter,
        interpreter_options={k: v for k, v in settings.options.items() if k in interpreters},
        cells=cells,
        preset=settings.preset,
        eps=settings.eps,
        target=goals.class_of(settings.target, classifier),
        target_map=target_map,
        seed=settings.seed,
        threads=settings.threads or 1,
        precision=settings.precision or "fp32",
        device=device,
    )
    names_digest = _digest([classifier.classes.names, classifier.classes.ids])
    trained = {name: i.digest for name, i in interpreters.items() if i.digest}
    weights_digest = _digest([classifier.digest, trained]) if trained else classifier.digest
    return Plan(
        settings, job, photos, weights_digest, names_digest, cell_passes, image_passes, 2 * map_passes + 1
    ), classifier


def _absolute(path: str) -> str:
    """So that plan.yaml can be run from anywhere."""
    return str(Path(path).expanduser().absolute())


def _batch_size(image_passes: float, device: str, rows: int) -> int:
    wanted = UNIT_IMAGES.get(device.partition(":")[0], 8)
    return max(1, min(wanted, int(UNIT_PASSES // image_passes), UNIT_ROWS // rows))


def _batch_that_fits(classifier: Classifier, device: str, workers: int, step_passes: float) -> int:
    """Images whose step takes at most a quarter of the memory that there is.

    A first-order step holds what the forward saves for its backward, once more while it runs; a second-order one three
    times as much (measured on EfficientNet-Lite0: 69 and 172 MB an image).
    """
    import torch  # noqa: PLC0415

    saved = 0

    def count(t: torch.Tensor) -> torch.Tensor:
        nonlocal saved
        saved += t.numel() * t.element_size()
        return t

    size = classifier.preprocess.input_size
    with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t):
        classifier.logits(torch.zeros(1, 3, size, size, device=device, requires_grad=True))
    weights = sum(p.numel() * p.element_size() for p in _parameters(classifier))  # saved too, but once for a batch
    image = max(1, saved - weights) * (1.5 if step_passes <= FIRST_ORDER else 4.5)
    return max(1, int(_memory(device) / MEMORY_SHARE / workers / image))


def _parameters(classifier: Classifier) -> Iterator[Any]:
    module: Any = getattr(classifier, "module", None)
    return iter(module.parameters()) if module is not None else iter(())


def _memory(device: str) -> int:
    import torch  # noqa: PLC0415

    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cells(settings: Settings) -> Iterator[Cell]:
    for name in settings.attack:
        maker: Any = registry.maker("attacks", name)
        overrides = {**_budget(maker, settings), **settings.options.get(name, {})}
        for against in settings.interpreter if maker.fools_interpreter else (None,):
            try:
                attack: Attack = maker.make(settings.preset, against, settings.eps, **overrides)
            except TypeError as e:
                raise UnderfireError(f"The settings {overrides} do not suit attack '{name}': {e}.") from e
            _check_settings(name, attack)
            yield Cell(attack, against)


def _budget(maker: Any, settings: Settings) -> dict[str, float]:
    """The bound on bends, for attacks that take one: their ``make`` says so."""
    return {"max_shift": settings.max_shift} if "max_shift" in inspect.signature(maker.make).parameters else {}


def _check_settings(attack: str, settings: Any) -> None:
    """Raise UnderfireError for a number that is a word, and the like: the search would fail on it much later."""
    if not dataclasses.is_dataclass(settings):
        raise UnderfireError(f"Attack '{attack}' must be a frozen dataclass: its fields go into its results' key.")
    try:
        hints = typing.get_type_hints(type(settings))
    except NameError:  # a third party's types that exist for type checkers only
        return
    for f in dataclasses.fields(settings):
        value, wanted = getattr(settings, f.name), _plain(hints[f.name])
        if dataclasses.is_dataclass(value):
            _check_settings(attack, value)
        elif wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)):
            names = " or ".join("none" if kind is types.NoneType else kind.__name__ for kind in wanted)
            raise UnderfireError(f"--set {attack}.{f.name}={value}: '{f.name}' must be {names}.")


def _plain(hint: Any) -> tuple[type, ...]:
    """The types that a value of plain type may have; empty where the hint says more than numbers and words."""
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    known = all(part in (int, float, bool, str, types.NoneType) for part in parts)
    return tuple(dict.fromkeys((*parts, int) if float in parts else parts)) if known else ()


def choose_device(word: str) -> str:
    """'auto' is the first of cuda, mps, cpu that is there."""
    import torch  # noqa: PLC0415 (a plan file can be read without it)

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if word == "auto":
        return next(name for name, is_there in there.items() if is_there)
    kind = word.partition(":")[0]
    if kind not in there:
        raise registry.unknown("device", word, there)
    if not there[kind]:
        raise UnderfireError(
            f"--device {word}: this machine has none that PyTorch can use; it has "
            f"{', '.join(name for name, is_there in there.items() if is_there)}."
        )
    return word
