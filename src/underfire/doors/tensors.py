"""The door of torchvision on tensors: 8-bit ones, or floats, which nobody rounds; with antialias or without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from underfire.core import Preprocess, UnderfireError
from underfire.doors.linear import LinearDoor
from underfire.registry import register

if TYPE_CHECKING:
    from numpy.typing import NDArray

PLAIN, FLOAT = "no-antialias", "float"
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
"""What tensors can be resized by."""


@register("doors", "torch")
class TorchDoor(LinearDoor):
    """torchvision on tensors; 'torch:no-antialias', 'torch:float' (resized before it is 8 bits), 'torch:squash'."""

    def __init__(self, variant: str, policy: Preprocess) -> None:
        super().__init__("torch", variant, policy, (PLAIN, FLOAT))
        if policy.interpolation not in INTERPOLATIONS:
            raise UnderfireError(
                f"--door {self.name}: tensors cannot be resized by '{policy.interpolation}': give --interpolation "
                f"{', '.join(INTERPOLATIONS)}, or --door timm."
            )

    def resize(self, picture: NDArray[np.uint8], height: int, width: int) -> NDArray[Any]:
        """Resize a photo (h, w, C): 8 bits again, or floats."""
        import torch  # noqa: PLC0415 (the report reads names of doors without torch)

        x = torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))
        x = x.float() if FLOAT in self.chosen else x
        return np.ascontiguousarray(self._resized(x, height, width).numpy().transpose(1, 2, 0))

    def line(self, rows: NDArray[np.float32], size: int) -> NDArray[np.float32]:
        """Resize each row of floats (b, n) by itself to (b, size)."""
        import torch  # noqa: PLC0415

        found: NDArray[np.float32] = self._resized(torch.from_numpy(rows)[None], len(rows), size)[0].numpy()
        return found

    def _resized(self, x: Any, height: int, width: int) -> Any:
        from torchvision.transforms import InterpolationMode  # noqa: PLC0415
        from torchvision.transforms.v2 import functional  # noqa: PLC0415

        method = InterpolationMode(self.policy.interpolation)
        return functional.resize(x, [height, width], method, antialias=PLAIN not in self.chosen)
