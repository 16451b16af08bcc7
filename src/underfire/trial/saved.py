"""Saved: what an attack found, as files, and what the victim's own front door makes of these files.

Nothing here trusts an attack: what it returns is rounded, encoded, decoded and measured.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from underfire.core import LEVELS, Cell, Found, Job, PerImage, UnderfireError, hashing
from underfire.core.door import Box
from underfire.doors.entrance import Entrance, FileLane
from underfire.doors.platforms import Draw, habits
from underfire.images import pixels
from underfire.images.formats import decode_png
from underfire.images.saving import FilePhoto
from underfire.trial.batch import Batch
from underfire.trial.load import Levels
from underfire.trial.system import System

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class FileFacts:
    """What a record says of a forged file.

    Args:
        sha256: its digest.
        width, height: of the upright picture, px.
        linf: largest difference of the decoded pixels from those of the clean file, in levels.
        mean: mean difference, likewise.
        seen: the part that the classifier sees.
        saved_as: the format.
        instead: what of the photo's file was not kept.
    """

    sha256: str
    width: int
    height: int
    linf: int
    mean: float
    seen: Box
    saved_as: str
    instead: str


@dataclass(frozen=True)
class Saved:
    """N adversarial pictures as files.

    Args:
        files: (N,) their bytes.
        levels: (N, H, W, 3) what the classifier is shown of them.
        linf: (N,) largest change of a pixel before any lossy encoder, in levels of 255.
        facts: (N,) what is known of forged files; empty where inputs were forged.
    """

    files: tuple[bytes, ...]
    levels: Levels
    linf: PerImage
    facts: tuple[FileFacts, ...] = ()


def entrance_of(system: System, job: Job, able: Batch, attack: str) -> Entrance | None:
    """Set up the way into the classifier for the files of a batch; None where inputs are forged."""
    if not able.files:
        return None
    chosen = habits(job.through)
    draws = [Draw(chosen, hashing.seed_of(job.seed, photo, f"through {attack}")) for photo in able.photos]
    return Entrance(system.door, able.files, able.x[:1, :1, :1, :1], draws if chosen else ())


def save_inputs(cell: Cell, able: Batch, found: Found) -> Saved:
    """Save inputs as PNGs, and read them back."""
    note = note_of(cell)
    files = tuple(pixels.encode_png(levels, note) for levels in pixels.to_levels(found.images))
    levels = np.stack([decode_png(one, able.levels.shape[-1]) for one in files])
    clean = (rounded(one) for one in able.levels)
    linf = torch.tensor([pixels.linf_levels(*pair) for pair in zip(levels, clean, strict=True)])
    return Saved(files, levels, linf)


def save_files(system: System, cell: Cell, able: Batch, found: Found, lanes: Sequence[FileLane]) -> Saved:
    """Save forged files, and give them to the front door.

    Args:
        system: whose front door it is.
        cell: the attack.
        able: the photos.
        found: what became of the parts of their files.
        lanes: the way of each file.
    """
    if len(found.parts) != len(able):
        raise UnderfireError(f"Attack '{cell.attack.name}' returned no files: give --at input.")
    whole = [lane.whole(part) for lane, part in zip(lanes, found.parts, strict=True)]
    files = tuple(file.saver.save(one, note_of(cell)) for file, one in zip(able.files, whole, strict=True))
    names = (f"the forged '{photo.path}'" for photo in able.photos)
    shown = [system.door.open(*one) for one in zip(files, names, (file.limits for file in able.files), strict=True)]
    linf = [pixels.linf_levels(one, file.pixels) for one, file in zip(whole, able.files, strict=True)]
    boxes = [lane.box for lane in lanes]
    facts = tuple(_facts(*one) for one in zip(able.files, files, boxes, strict=True))
    return Saved(files, np.stack(shown), torch.tensor(linf), facts)


def _facts(clean: FilePhoto, content: bytes, box: Box) -> FileFacts:
    """Measure a forged file against the clean photo saved the same way."""
    after = np.asarray(pixels.decode(content, "the forged file", clean.limits))
    before, saver = clean.saver.through(clean.pixels), clean.saver
    change = np.abs(after.astype(np.int16) - before.astype(np.int16))
    sha256, (height, width) = hashlib.sha256(content).hexdigest(), after.shape[:2]
    return FileFacts(sha256, width, height, int(change.max()), float(change.mean()), box, saver.word, saver.instead)


def note_of(cell: Cell) -> str:
    """What a file says of who made it."""
    return f"{cell.attack.name} against {cell.against or 'the prediction'}"


def rounded(levels: Levels) -> NDArray[np.uint8]:
    """Levels (H, W, 3) as 8 bits, where a door did not round."""
    if levels.dtype == np.uint8:
        return levels
    found: NDArray[np.uint8] = np.clip(np.rint(levels), 0, LEVELS).astype(np.uint8)
    return found


def nothing(levels: Levels) -> Saved:
    """No pictures at all."""
    return Saved((), levels[:0], torch.zeros(0, dtype=torch.float64))


def chosen(saved: Saved, keep: Sequence[int]) -> Saved:
    """The pictures ``keep`` (indices)."""
    facts = tuple(saved.facts[n] for n in keep) if saved.facts else ()
    return Saved(tuple(saved.files[n] for n in keep), saved.levels[list(keep)], saved.linf[list(keep)], facts)
