"""The door of OpenCV, which resizes without antialias unless it is asked for areas."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np

from underfire.core import Preprocess, UnderfireError
from underfire.doors.geometry import Geometry, matrix, placed
from underfire.doors.linear import LinearDoor
from underfire.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray

METHODS = {
    "nearest": "INTER_NEAREST",
    "bilinear": "INTER_LINEAR",
    "bicubic": "INTER_CUBIC",
    "lanczos": "INTER_LANCZOS4",
}
"""Our names of interpolations -> OpenCV's."""
AREA = "area"


@register("doors", "opencv")
class OpenCvDoor(LinearDoor):
    """OpenCV (pip install 'underfire[opencv]'); 'opencv:area' averages areas, 'opencv:squash' and 'opencv:pad' fit."""

    cut = False

    def __init__(self, variant: str, policy: Preprocess) -> None:
        super().__init__("opencv", variant, policy, (AREA,))
        if importlib.util.find_spec("cv2") is None:
            raise UnderfireError(f"--door {self.name} needs OpenCV: pip install 'underfire[opencv]'.")
        if policy.interpolation not in METHODS and AREA not in self.chosen:
            raise UnderfireError(
                f"--door {self.name}: OpenCV has no '{policy.interpolation}': give --interpolation "
                f"{', '.join(METHODS)}, or --door opencv:area."
            )
        self.method = "INTER_AREA" if AREA in self.chosen else METHODS[policy.interpolation]

    def resize(self, picture: NDArray[np.uint8], height: int, width: int) -> NDArray[Any]:
        """Resize a photo (h, w, C)."""
        return self._resized(np.ascontiguousarray(picture), height, width)

    def _measured(self, height: int, width: int) -> Geometry:
        """Read the matrices off: OpenCV averages areas where no axis grows, and else interpolates along both."""
        to = self._layout(height, width)
        if self.method != "INTER_AREA" or not (to.height > height or to.width > width):
            return super()._measured(height, width)

        def along(n: int, m: int, first: int, size: int) -> Any:
            """Resize rows twice as many, of which each second is kept, so that an axis grows here too."""
            return placed(matrix(n, lambda rows: self._resized(rows, 2 * len(rows), m)[::2]), first, size)

        down = along(height, to.height, to.top, to.size[0])
        across = along(width, to.width, to.left, to.size[1])
        return Geometry(down, across, self.policy.channels == 1)

    def line(self, rows: NDArray[np.float32], size: int) -> NDArray[np.float32]:
        """Resize each row of floats (b, n) by itself to (b, size)."""
        return self._resized(rows, len(rows), size)

    def _resized(self, picture: NDArray[Any], height: int, width: int) -> NDArray[Any]:
        import cv2  # noqa: PLC0415 (an extra)

        found: NDArray[Any] = cv2.resize(picture, (width, height), interpolation=getattr(cv2, self.method))
        return found
