"""Files: what the pictures and maps of a unit are called, and what is in them."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np

from underfire.core import Cell, Job, Maps, Photo, Record
from underfire.core.place import slug
from underfire.images import pixels
from underfire.trial.batch import Batch
from underfire.trial.forged import Forged
from underfire.trial.judge import Judged
from underfire.trial.saved import rounded


@dataclass(frozen=True)
class Names:
    """What the files of one photo are called, in its unit's folder.

    Args:
        row: its place in the unit.
        photo: its identity.
        suffix: how names of its pictures end.
    """

    row: int
    photo: Photo
    suffix: str = ".png"

    def _of(self, what: str) -> str:
        return f"{self.row:03d}-{slug(self.photo.path)}.{what}"

    @property
    def clean(self) -> str:
        """The clean picture."""
        return self._of(f"clean{self.suffix}")

    def clean_map(self, interpreter: str) -> str:
        """The benign map."""
        return self._of(f"clean.{interpreter}.npy")

    def wanted_map(self, interpreter: str, job: Job) -> str:
        """The target map: the same file where that is the benign one."""
        benign = job.target_map.kind == "benign"
        return self.clean_map(interpreter) if benign else self._of(f"wanted.{interpreter}.npy")

    def adversarial(self, cell: str) -> str:
        """The picture that an attack made."""
        return self._of(f"{cell}{self.suffix}")

    def adversarial_map(self, cell: str, interpreter: str) -> str:
        """The map of that picture."""
        return self._of(f"{cell}.{interpreter}.npy")


def names_of(clean: Batch) -> list[Names]:
    """The names of each photo's files."""
    suffixes = [file.saver.suffix for file in clean.files] or [".png"] * len(clean)
    return [Names(*one) for one in zip(clean.rows, clean.photos, suffixes, strict=True)]


def cell_name(cell: Cell) -> str:
    """What files call an attack."""
    return cell.attack.name if cell.against is None else f"{cell.attack.name}-{cell.against}"


def made_name(made: Record) -> str:
    """What files call the attack of a record that is judged again."""
    trial = "" if made.target is None else f"-{made.seed}-{made.target_class}"  # a photo may come several times
    return f"{made.attack}-{made.against}{trial}"


def clean_files(job: Job, clean: Batch) -> dict[str, bytes]:
    """The clean pictures, their benign and their target maps."""
    names, files = names_of(clean), dict[str, bytes]()
    for n, one in enumerate(names):
        file = clean.files[n] if clean.files else None
        files[one.clean] = pixels.encode_png(rounded(clean.levels[n])) if file is None else file.saver.save(file.pixels)
    for interpreter, goal in clean.goals.items():
        for one, benign, wanted in zip(names, goal.benign, goal.wanted, strict=True):
            maps = {one.clean_map(interpreter): benign, one.wanted_map(interpreter, job): wanted}
            files |= {name: npy(m) for name, m in maps.items() if bool(m.isfinite().any())}
    return files


def forged_files(cell: Cell, forged: Forged) -> dict[str, bytes]:
    """The pictures that an attack made."""
    names = (one.adversarial(cell_name(cell)) for one in names_of(forged.clean))
    return dict(zip(names, forged.files, strict=True))


def judged_files(cell: Cell, interpreter: str, judged: Judged) -> dict[str, bytes]:
    """The maps of the pictures that an attack made."""
    names = (one.adversarial_map(cell_name(cell), interpreter) for one in names_of(judged.clean))
    return dict(zip(names, map(npy, judged.maps), strict=True))


def npy(m: Maps) -> bytes:
    """A map (h, w) as a float16 .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, m.numpy().astype(np.float16))
    return buffer.getvalue()
