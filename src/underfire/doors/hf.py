"""The door of a transformers image processor: its own code, from the folder that the processor was saved in."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from underfire.core import LEVELS, NotFoundError, Preprocess, UnderfireError
from underfire.doors.measured import MeasuredDoor, as_levels
from underfire.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE = "preprocessor_config.json"


@register("doors", "hf")
class HfDoor(MeasuredDoor):
    """A transformers image processor, 'hf:FOLDER' with its preprocessor_config.json (pip install 'underfire[hf]')."""

    def __init__(self, variant: str, policy: Preprocess) -> None:
        super().__init__(policy)
        self.name = f"hf:{variant}"
        if importlib.util.find_spec("transformers") is None:
            raise UnderfireError(f"--door {self.name} needs transformers: pip install 'underfire[hf]'.")
        folder = Path(variant).expanduser()
        folder = folder.parent if folder.is_file() else folder
        if not (folder / FILE).is_file():
            raise NotFoundError(
                f"--door {self.name}: there is no '{FILE}' there. Give the folder that the processor was saved in."
            )
        self.digest = f"hf {hashlib.sha256((folder / FILE).read_bytes()).hexdigest()}"
        self.processor = _loaded(folder, self.name)

    def enter(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """Call the processor; mean and std are the classifier's."""
        try:
            image = Image.fromarray(picture)
            made = self.processor(images=image, return_tensors="np", do_normalize=False, do_rescale=False)
        except Exception as e:  # processors raise whatever they like
            raise UnderfireError(f"--door {self.name} failed: {type(e).__name__}: {e}.") from e
        values = np.asarray(made["pixel_values"])
        return as_levels(values if values.dtype == np.uint8 else values / np.float32(LEVELS), self.policy, self.name)


def _loaded(folder: Path, name: str) -> Any:
    from transformers import AutoImageProcessor  # noqa: PLC0415 (an extra)

    try:
        return AutoImageProcessor.from_pretrained(str(folder), local_files_only=True)
    except Exception as e:  # it raises whatever its readers raise
        said = (str(e).strip() or type(e).__name__).splitlines()[0]
        raise UnderfireError(f"--door {name}: transformers cannot load this processor ({said}).") from e
