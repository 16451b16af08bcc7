"""Settings -> units of tasks, their keys and what they will cost. Nothing is run here.

Two runs with the same plan have the same units with the same names. A name carries a key: the digest of all that
changes numbers (weights, image digests, filled-in settings, seed, threads, schema) and of nothing that does not (device
name, worker count, order).
"""

from __future__ import annotations

import dataclasses
import heapq
import inspect
import os
import types
import typing
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from underfire import core, goals, registry
from underfire.core import (
    SCHEMA_VERSION,
    Attack,
    Cell,
    Classifier,
    ClassifierOptions,
    Interpreter,
    Job,
    Photo,
    TargetMap,
    UnderfireError,
    Unit,
    evenly,
)
from underfire.core.hashing import digest_of, spell
from underfire.core.place import FILES, Place, _absolute, absolute_files, is_url, local
from underfire.images import targets
from underfire.images.photos import DEMO, Folder

UNIT_ROWS = 1000
"""At most so many rows in one Parquet part."""
UNIT_PASSES = {"cpu": 40_000, "mps": 200_000, "cuda": 1_500_000}
"""F that a unit should cost at most (some ten minutes on two CPU cores, or on one GPU): what a kill loses."""
UNIT_PHOTOS = {"records": 64, "scale": UNIT_ROWS}
"""At most so many photos in one unit: a worker holds their PNGs and maps in memory (some 0.3 MB a photo)."""
SHARES = 256
"""A large audit is cut into at least so many units, so that as many workers have something to do."""
TAPER = 16
"""The last of so many parts of an audit is cut into quarters of units: workers that end early have something left."""
SPLIT = 0.1
"""An interpreter gets units of its own where forging the attacks on the prediction again adds at most this share."""
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
NOT_IN_KEY = frozenset(
    {"images", "weights", "classes", "device", "workers", "executor", "address", "gpus", "resolved", "target_map"}
    | {"defense"}
)
"""Settings that change no number: what photos, weights, class names, defense and target maps there are is in the key
by their digests."""
CUT = 2
"""Version of the rule that units are cut by: units of another rule are other units."""

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


@dataclasses.dataclass(frozen=True)
class Lane:
    """Interpreters whose work is cut into units together, since they share what is forged and what is clean.

    A MASK image costs a hundred times what a CAM one does: in one unit with it, CAM would be cut as fine as MASK.
    """

    interpreters: tuple[str, ...]
    cells: tuple[Cell, ...]
    passes: float
    """F an image costs at most."""
    rows: int
    """Judgements an image gets."""
    batch: int
    """Images that share a batch."""


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
    lanes: tuple[Lane, ...]
    scale_passes: float
    defense_digest: str = ""

    @property
    def image_passes(self) -> float:
        """F an image costs at most, clean maps and judgements included."""
        return sum(lane.passes for lane in self.lanes)

    @property
    def rows(self) -> int:
        """Judgements of the whole audit."""
        return len(self.photos) * sum(lane.rows for lane in self.lanes)

    def units(self, scale: Mapping[str, float]) -> Iterator[Unit]:
        """The forge-and-judge units, interleaved so that at any time each lane has come equally far."""
        cuts = [self._shares(lane) for lane in self.lanes]
        for i, (_, _, lane, photos) in enumerate(heapq.merge(*cuts, key=lambda cut: cut[:2])):
            job = self._jobs(lane, tuple(sorted(scale.items())))
            name = f"{i:06d}-{self._key('records', photos, job)}"
            yield Unit(name, "records", photos, job, self._partners(photos), batch=lane.batch)

    def _shares(self, lane: Lane) -> Iterator[tuple[float, float, Lane, tuple[Photo, ...]]]:
        """The lane's units with the share of the photos that comes before each; where equal, the costly lane first."""
        done, n = 0, len(self.photos)
        for size in unit_sizes(n, lane.batch, self._most("records", lane.passes)):
            yield done / n, -lane.passes, lane, self.photos[done : done + size]
            done += size

    def _most(self, stage: str, passes: float) -> int:
        return min(UNIT_PHOTOS[stage], int(_by_device(UNIT_PASSES, self.job.device) / max(1.0, passes)))

    def _jobs(self, lane: Lane, scale: tuple[tuple[str, float], ...]) -> Job:
        return dataclasses.replace(self.job, interpreters=lane.interpreters, cells=lane.cells, scale=dict(scale))

    def scale_units(self) -> Iterator[Unit]:
        """The units that measure what JPEG does to clean maps, which `units` are judged against."""
        for name in self.job.interpreters:
            photos = evenly(self.photos, SCALE_PHOTOS.get(name))
            job = dataclasses.replace(self.job, interpreters=(name,), cells=())
            batch = next(lane.batch for lane in self.lanes if name in lane.interpreters)
            done = 0
            for i, size in enumerate(unit_sizes(len(photos), batch, self._most("scale", self.scale_passes))):
                part = photos[done : done + size]
                done += size
                yield Unit(f"{i:06d}-{name}-{self._key('scale', part, job)}", "scale", part, job, batch=batch)

    def _partners(self, photos: tuple[Photo, ...]) -> tuple[Photo, ...]:
        """The photos whose maps are wanted, where target maps come from photos."""
        target = self.job.target_map
        if target.kind != "image":
            return ()
        if target.value == "random":
            return tuple(targets.draw_photo(self.job.seed, photo, self.photos) for photo in photos)
        return (Photo(str(target.value), target.digest),) * len(photos)

    def _key(self, stage: str, photos: tuple[Photo, ...], job: Job) -> str:
        content = {
            "schema": SCHEMA_VERSION,
            "stage": stage,
            "audit": self.digest,
            "interpreters": job.interpreters,
            "photos": [(photo.path, photo.sha256) for photo in photos],
        }
        return digest_of(content)[:16]

    @cached_property
    def digest(self) -> str:
        """Of all that changes numbers."""
        content = {
            "settings": self.key_settings(),
            "weights": self.weights_digest,
            "photos": self.photos_digest,
            "classes": self.classes_digest,
            "target_map": self.job.target_map.key,
            "defense": self.defense_digest,
            "attacks": [(spell(cell.attack), cell.against) for cell in self.job.cells],
            "units": [(lane.interpreters, lane.batch) for lane in self.lanes],
            "cut": CUT,
        }
        return digest_of(content)

    @cached_property
    def photos_digest(self) -> str:
        """Of all photos' paths and contents."""
        return digest_of([(photo.path, photo.sha256) for photo in self.photos])

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
            "defense_digest": self.defense_digest,
            "units": sum(1 for _ in self.units({})),
            "rows": self.rows,
            "scale_units": sum(1 for _ in self.scale_units()),
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


def unit_sizes(n: int, batch: int, most: int) -> Iterator[int]:
    """Cut ``n`` photos into units of whole batches, equal but for smaller ones at the end, whatever the workers are.

    Args:
        n: photos.
        batch: photos that share a batch.
        most: photos that a unit should hold at most; one batch in any case.
    """
    size = batch * max(1, min(most // batch, n // (SHARES * batch)))
    tail = n // TAPER if size >= 4 else 0
    for part, largest in ((n - tail, size), (tail, max(1, size // 4))):
        parts = -(-part // largest)
        for i in range(parts):  # equal shares: the last batch is no straggler
            yield (i + 1) * part // parts - i * part // parts


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
    settings = _adaptive(settings.placed())
    for name in settings.options:
        if name not in (*settings.interpreter, *settings.attack):
            raise core.unknown("interpreter or attack in this plan", name, (*settings.interpreter, *settings.attack))
    device, here = _devices(settings)
    classifier = registry.build_classifier(settings.classifier, settings.classifier_options, here)
    interpreters = {
        name: registry.build_interpreter(name, classifier, settings.options.get(name, {}))
        for name in settings.interpreter
    }
    alarm = registry.build_defense(settings.defense, classifier) if settings.defense else None
    alarm_passes = alarm.passes if alarm else 0.0
    registry.maker("executors", settings.executor)
    cells = tuple(_cells(settings))
    map_passes = sum(i.map_passes for i in interpreters.values())
    cell_passes = tuple(
        cell.attack.bound(interpreters[cell.against].step_passes if cell.against else 3.0)
        + (1 + interpreters[cell.against].map_passes if cell.against else len(interpreters) + map_passes)
        + alarm_passes
        for cell in cells
    )
    goal_maps = 2 if settings.target_map.startswith(("class", "image")) else 1
    if settings.batch_size is None and here != device:
        raise UnderfireError(
            f"This machine has no {device} whose memory the batch could be fitted to: give --batch-size, such as 64."
        )
    settings = settings.model_copy(
        update={
            "batch_size": settings.batch_size
            or min(
                int(_by_device(UNIT_IMAGES, device)),
                _batch_that_fits(
                    classifier, device, settings.workers, max(i.step_passes for i in interpreters.values())
                ),
            ),
            "threads": settings.threads or max(1, (os.cpu_count() or 1) // settings.workers),
            "precision": settings.precision or "fp32",
        }
    )
    lanes = tuple(_lanes(cells, interpreters, settings.batch_size or 1, device, goal_maps, alarm_passes))
    folder = Folder(settings.images)
    photos = tuple(folder.photos(settings.limit))
    target_map = goals.target_map_of(settings.target_map, classifier, local(folder.root))
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
        defense=alarm.name if alarm else "none",
        defense_file=settings.defense or "",
    )
    names_digest = digest_of([classifier.classes.names, classifier.classes.ids])
    trained = {name: i.digest for name, i in interpreters.items() if i.digest}
    weights_digest = digest_of([classifier.digest, trained]) if trained else classifier.digest
    scale_passes = 2 * map_passes + 1
    digest = alarm.digest if alarm else ""
    plan = Plan(settings, job, photos, weights_digest, names_digest, cell_passes, lanes, scale_passes, digest)
    return plan, classifier


def _adaptive(settings: Settings) -> Settings:
    """With --adaptive the attacks on explanations are made against the alarm and all of its members too.

    The interpreter 'ensemble' beside a defense is that defense's own.
    """
    if settings.defense is None:
        if settings.adaptive:
            raise UnderfireError("--adaptive attacks a defense: give its file with --defense.")
        return settings
    chosen = settings.interpreter
    if settings.adaptive:
        if not any(getattr(registry.maker("attacks", name), "fools_interpreter", False) for name in settings.attack):
            raise UnderfireError(
                f"--adaptive needs an attack on explanations, such as adv2, beside {', '.join(settings.attack)}."
            )
        chosen = tuple(dict.fromkeys((*settings.interpreter, "ensemble")))
    if "ensemble" not in chosen:
        return settings
    own = {"defense": settings.defense, **settings.options.get("ensemble", {})}
    return settings.model_copy(update={"interpreter": chosen, "options": {**settings.options, "ensemble": own}})


def _by_device(table: Mapping[str, float], device: str) -> float:
    return table.get(device.partition(":")[0], table["cpu"])


def _lanes(
    cells: tuple[Cell, ...],
    interpreters: Mapping[str, Interpreter],
    batch_size: int,
    device: str,
    goal_maps: int,
    alarm_passes: float,
) -> Iterator[Lane]:
    """The interpreters that share units, then those that have units of their own."""
    alone = [cell.attack.bound(FIRST_ORDER) for cell in cells if cell.against is None]
    shared = 1 + sum(alone)
    own = {name: _own_passes(cells, i, len(alone), goal_maps) for name, i in interpreters.items()}
    costly = [name for name in interpreters if shared <= SPLIT * own[name]]
    together = tuple(name for name in interpreters if name not in costly)
    for names in ([together] if together else []) + [(name,) for name in costly]:
        chosen = tuple(cell for cell in cells if cell.against is None or cell.against in names)
        rows = len(alone) * len(names) + len(chosen) - len(alone)
        passes = shared + sum(own[name] for name in names) + alarm_passes * (1 + len(chosen))
        by_cost = min(int(_by_device(UNIT_PASSES, device) / passes), UNIT_ROWS // max(1, rows))
        yield Lane(names, chosen, passes, rows, max(1, min(batch_size, by_cost)))


def _own_passes(cells: tuple[Cell, ...], interpreter: Interpreter, alone: int, goal_maps: int) -> float:
    """F of an image for what concerns this interpreter only: its clean maps, its attacks, its judgements."""
    judged = 1 + interpreter.map_passes
    against = [cell.attack.bound(interpreter.step_passes) for cell in cells if cell.against == interpreter.name]
    return goal_maps * interpreter.map_passes + judged * (alone + len(against)) + sum(against)


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
    drawn = TargetMap(settings.target_map.partition(":")[0]).drawn
    for name in settings.attack:
        maker: Any = registry.maker("attacks", name)
        overrides = {**taken(maker, max_shift=settings.max_shift, drawn=drawn), **settings.options.get(name, {})}
        for against in settings.interpreter if maker.fools_interpreter else (None,):
            try:
                attack: Attack = maker.make(settings.preset, against, settings.eps, **overrides)
            except TypeError as e:
                raise UnderfireError(f"The settings {overrides} do not suit attack '{name}': {e}.") from e
            _check_settings(name, attack)
            yield Cell(attack, against)


def taken(maker: Any, **given: Any) -> dict[str, Any]:
    """Those of an audit's own settings that an attack takes: the ``make`` of its ``maker`` says which."""
    known = inspect.signature(maker.make).parameters
    return {name: value for name, value in given.items() if name in known}


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


def _devices(settings: Settings) -> tuple[str, str]:
    """Where the workers compute, and where this process does: a cluster's driver may have no GPU."""
    try:
        device = choose_device(settings.device)
    except UnderfireError:
        if settings.executor == "local" or settings.device.partition(":")[0] != "cuda":
            raise
        return settings.device, "cpu"
    return device, device


def choose_device(word: str) -> str:
    """'auto' is the first of cuda, mps, cpu that is there."""
    import torch  # noqa: PLC0415 (a plan file can be read without it)

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if word == "auto":
        return next(name for name, is_there in there.items() if is_there)
    kind = word.partition(":")[0]
    if kind not in there:
        raise core.unknown("device", word, there)
    if not there[kind]:
        raise UnderfireError(
            f"--device {word}: this machine has none that PyTorch can use; it has "
            f"{', '.join(name for name, is_there in there.items() if is_there)}."
        )
    return word
