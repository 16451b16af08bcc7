"""The result of `underfire.attack`: tensors and records, and the ways to look at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from underfire.core import Images, Maps, Record, UnderfireError
from underfire.images import pixels
from underfire.images.overlay import over
from underfire.metrics.verdict import MapVerdict, Ruler, verdict
from underfire.notebook import table, views

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """The result of `attack`; the tensors have a row for each image that could be attacked.

    It prints in a line, shows itself as a strip of pictures in Jupyter, has the length of what was given, and
    ``result[i]`` is the result of one image.

    Example:
        ``result = underfire.attack(classifier, "cam", ["photo.jpg"]); result.verdicts[0].forged``

    Args:
        clean: (N, 3, H, W) the clean images in [0, 1].
        images: (N, 3, H, W) the adversarial images in [0, 1]: what the classifier is shown of the files below.
        clean_maps: (N, h, w) maps in [0, 1] of the clean images for their own classes.
        maps: (N, h, w) maps in [0, 1] of the adversarial images for the target classes.
        records: one for each given image, in order; those with an ``error`` have no row in the tensors.
        rulers: interpreter -> what its maps are judged with (`trial.rulers`); empty where that is not calibrated.
        files: (N,) the adversarial pictures as files: of whole photos where these were forged, else PNGs of the input.
    """

    clean: Images
    images: Images
    clean_maps: Maps
    maps: Maps
    records: list[Record]
    rulers: Mapping[str, Ruler]
    files: tuple[bytes, ...] = ()

    @property
    def verdicts(self) -> list[MapVerdict]:
        """The verdict on each record: whether the map is untouched, and the image forged (method, section 5.5)."""
        return [verdict(asdict(record), self.rulers) for record in self.records]

    def __len__(self) -> int:
        """Count the images that were given."""
        return len(self.records)

    def __getitem__(self, i: int) -> Result:
        """Give the result of the image ``i``; IndexError where there is none, TypeError for a slice."""
        if not isinstance(i, int):
            raise TypeError(f"result[{i}]: give the number of one image; `for one in result` goes through all.")
        if not -len(self) <= i < len(self):
            raise IndexError(f"result[{i}]: it has {len(self)} images.")
        rows = [] if (row := self.row(i)) is None else [row]
        files = tuple(self.files[n] for n in rows) if self.files else ()
        tensors = {name: getattr(self, name)[rows] for name in ("clean", "images", "clean_maps", "maps")}
        return replace(self, records=[self.records[i]], files=files, **tensors)

    def __iter__(self) -> Iterator[Result]:
        return (self[i] for i in range(len(self)))

    def row(self, i: int) -> int | None:
        """Find the row of the given image ``i`` in the tensors; None where it could not be attacked."""
        good = [n for n, record in enumerate(self.records) if record.error is None]
        place = range(len(self))[i]
        return good.index(place) if place in good else None

    def picture(self, i: int = 0, *, clean: bool = False) -> Image.Image:
        """Give the image ``i`` as the classifier is shown it, forged or ``clean``; errors as in `overlay`."""
        tensor = self.clean if clean else self.images
        row = self._attacked(i)
        levels = pixels.to_levels(tensor[row : row + 1])[0]
        return Image.fromarray(levels[..., 0] if levels.shape[-1] == 1 else levels)

    def overlay(self, i: int = 0, *, clean: bool = False) -> Image.Image:
        """Draw the map of the image ``i`` in colour over it in grey, as the report does.

        Example:
            ``result.overlay(0).save("map.png")``

        Args:
            i: which of the given images.
            clean: the map before the attack in place of that after it.

        Raises:
            UnderfireError: the image could not be attacked.
            IndexError: there is no such image.
        """
        maps, row = (self.clean_maps if clean else self.maps), self._attacked(i)
        shown = pixels.to_levels((self.clean if clean else self.images)[row : row + 1])[0]
        return Image.fromarray(over(shown, maps[row].cpu().numpy()))

    def _attacked(self, i: int) -> int:
        row = self.row(i)
        if row is None:
            raise UnderfireError(f"Image {i} has no picture: {self.records[i].error}")
        return row

    def to_table(self) -> pa.Table:
        """Give a row for each image: the columns of `Record`, then the verdicts, as an Arrow table."""
        return table.of(self.records, self.rulers)

    def to_frame(self) -> Any:
        """Give the same as a pandas DataFrame.

        Raises:
            UnderfireError: pandas is not installed.
        """
        return table.frame(self.to_table())

    def save(self, folder: str | Path) -> Path:
        """Write the forged files, their maps over them, the table and a page with the pictures.

        Args:
            folder: where to; it is made where there is none, and files of these names are written over.

        Returns:
            The page.

        Raises:
            UnderfireError: the folder cannot be written.
        """
        return views.save(self, Path(folder))

    def show(self) -> None:
        """Show the strip of pictures: here in a notebook, else in a window of the browser."""
        views.show(self)

    def __repr__(self) -> str:
        return views.line(self)

    def _repr_html_(self) -> str:
        """Show the strip of pictures in Jupyter."""
        return views.strip(self)
