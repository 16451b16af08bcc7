"""Survival: forged files are put through what platforms do to uploads, and through other doors, and judged again.

Nothing is forged again. A map is compared with the one that the clean file has after the same treatment: a crop moves
both. Where the target map is another one than the benign, it is compared with that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from underfire.core import Classifier, Interpreter, Limits, Listener, MismatchError, Quiet, UnderfireError
from underfire.core.door import Door
from underfire.core.place import Place, below
from underfire.doors.treatments import DOORS, TREATMENTS, Treatment
from underfire.heads import head_of
from underfire.images import maps as map_measures
from underfire.images import pixels
from underfire.images.npy import decode_npy
from underfire.interpreters.checked import explain
from underfire.metrics.verdict import verdict
from underfire.plan.device import choose_device, devices
from underfire.plan.file import read
from underfire.plan.make import PlannedVictim
from underfire.plan.settings import Settings
from underfire.registry import VICTIMS, build_door
from underfire.store import Results, open_results

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST = Limits(pixels=1_000_000_000)
"""Files of ours were let through once."""


@dataclass(frozen=True)
class Survived:
    """One forged file after one treatment.

    Args:
        treatment: what was done.
        image, attack, against, interpreter: which forgery, and who explains it.
        target: whether the target class is the prediction still.
        confidence: its probability.
        map_l1: distance of its map from the wanted one.
        forged: target, and the map counts as untouched; None where the audit has no scale.
        clean: whether the clean file keeps its own class after the same treatment.
    """

    treatment: str
    image: str
    attack: str
    against: str | None
    interpreter: str
    target: bool
    confidence: float
    map_l1: float
    forged: bool | None
    clean: bool


def survive(out: Place, listener: Listener | None = None) -> list[Survived]:
    """Judge all forged files of an audit after every treatment.

    Example:
        ``[one.target for one in survive(Path("underfire-out/demo-1a2b3c4d"))]``

    Args:
        out: the folder of an audit that forged files.
        listener: hears how it goes on.

    Raises:
        UnderfireError: not such a folder, no forged files in it, or a file that is not the one that was forged.
    """
    results, listener = open_results(out), listener or Quiet()
    rows = [row for row in results.rows() if row["error"] is None and row["at"] == "file"]
    if not rows:
        raise UnderfireError(f"'{out}' holds no forged files: forge some with underfire run --at file --out …")
    victim = victim_of(out)
    doors = [(treatment, victim.door) for treatment in TREATMENTS]
    doors += [(Treatment(f"through the door '{door.name}'"), door) for door in _others(victim)]
    listener.begin("survive", len(rows), 0)
    found: list[Survived] = []
    for n, row in enumerate(rows, 1):
        found += _of_file(out, results, victim, row, doors)
        listener.done(n)
    order = {treatment.name: i for i, (treatment, _) in enumerate(doors)}
    return sorted(found, key=lambda one: order[one.treatment])


@dataclass(frozen=True)
class Judges:
    """The classifier of an audit, its door, and its interpreters by name."""

    classifier: Classifier
    door: Door
    interpreters: Mapping[str, Interpreter]


def victim_of(out: Place) -> Judges:
    """Build what the audit attacked.

    Raises:
        MismatchError: it is another network now.
    """
    settings = read(out / "plan.yaml")
    classifier = VICTIMS.classifier(settings.classifier, settings.classifier_options, _device(settings))
    built = {
        name: VICTIMS.interpreter(classifier, name, settings.options.get(name, {})) for name in settings.interpreter
    }
    if PlannedVictim(classifier, built, None).weights_digest != settings.resolved.get("weights_digest"):
        raise MismatchError(f"'{settings.classifier}' is not the network that '{out}' attacked: bring its files back.")
    return Judges(classifier, VICTIMS.door(classifier), built)


def _device(settings: Settings) -> str:
    """Choose the device of the audit, or one that this machine has: files are judged on any."""
    try:
        return devices(settings)[1]
    except UnderfireError:
        return choose_device("auto")


def _others(victim: Judges) -> Iterator[Door]:
    for word in DOORS:
        if word != victim.door.name:
            try:
                yield build_door(word, victim.classifier)
            except UnderfireError:  # not installed here, or it does not know the interpolation
                continue


def _of_file(
    out: Place, results: Results, victim: Judges, row: Mapping[str, Any], doors: Sequence[tuple[Treatment, Door]]
) -> Iterator[Survived]:
    """Judge one forged file, and the clean one beside it, after every treatment."""
    forged = _picture(out / row["adversarial"], row["file_sha256"])
    clean = _picture(out / row["clean"])
    interpreter = victim.interpreters[row["interpreter"]]
    shown = [door.enter(treatment.of(picture)) for treatment, door in doors for picture in (forged, clean)]
    x = pixels.to_tensor(np.stack(shown)).to(getattr(victim.classifier, "device", "cpu"))
    y = torch.tensor([row["target_class"], row["source_class"]] * len(doors), device=x.device)
    with torch.no_grad():
        z = victim.classifier.logits(x).double()
        maps, lacking = explain(interpreter, x, y)
    if lacking:
        raise UnderfireError(f"'{row['image']}' has no map after a treatment: {next(iter(lacking.values()))}")
    p = head_of(victim.classifier).probabilities(z).gather(1, y[:, None])[:, 0].tolist()
    kept = (z.argmax(1) == y).tolist()
    for n, (treatment, _) in enumerate(doors):
        wanted = maps[2 * n + 1] if row["target_map"] == "benign" else map_of(out, row["wanted_map"])
        found = measured(maps[2 * n], wanted)
        said = verdict({**row, **found, "success": kept[2 * n]}, results.rulers)
        which = (row["image"], row["attack"], row["against"], row["interpreter"])
        yield Survived(treatment.name, *which, kept[2 * n], p[2 * n], found["map_l1"], said.forged, kept[2 * n + 1])


def measured(m: Tensor, wanted: Tensor) -> dict[str, Any]:
    """Measure how far a map (h, w) is from the wanted one, as a record does."""
    a, b = m.cpu().numpy(), wanted.cpu().numpy()
    if a.shape != b.shape:
        raise MismatchError(f"The audit's map is of {b.shape} and this one of {a.shape}: run the audit again.")
    return {
        **{"map_l1": float(abs(a - b).mean()), "map_iou": map_measures.iou(a, b)},
        **{"map_rank": map_measures.rank(a, b), "map_rank_shown": map_measures.rank_shown(a, b)},
    }


def _picture(path: Place, sha256: str | None = None) -> NDArray[np.uint8]:
    """Decode a file of ours.

    Raises:
        UnderfireError: it is gone, or not the one that was forged.
    """
    try:
        content = path.read_bytes()
    except OSError as e:
        raise UnderfireError(f"Cannot read '{path}' ({e.strerror or e}): run the audit again.") from e
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise MismatchError(f"'{path}' is not the file that was forged (its SHA-256 has changed): run the audit again.")
    return np.array(pixels.decode(content, str(path), LARGEST))


def map_of(out: Place, name: str) -> torch.Tensor:
    """Read a map (h, w) of an audit.

    Raises:
        UnderfireError: it is none, it is gone, or it does not lie below the folder.
    """
    path = below(out, name)
    if path is None:
        raise UnderfireError(f"A record of '{out}' names '{name}', which does not lie in its folder.")
    try:
        found = decode_npy(path.read_bytes())
    except OSError as e:
        raise UnderfireError(f"Cannot read '{path}' ({e.strerror or e}): run the audit again.") from e
    if found is None:
        raise UnderfireError(f"'{path}' is no map: run the audit again.")
    return torch.from_numpy(found.astype(np.float64))
