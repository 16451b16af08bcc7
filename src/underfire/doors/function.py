"""A door of one's own: a function of a Pillow image, as MODULE:FUNCTION or FILE.py:FUNCTION."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from PIL import Image

from underfire.core import Classifier, Limits, Preprocess, UnderfireError
from underfire.core.door import Door
from underfire.doors.geometry import Geometry, matrix
from underfire.doors.measured import MeasuredDoor, as_levels
from underfire.images import pixels
from underfire.registry import build_door, register

if TYPE_CHECKING:
    from numpy.typing import NDArray


@register("doors", "function")
class FunctionDoor(MeasuredDoor):
    """Your own code, 'module:function' or 'file.py:function': it takes a Pillow image and returns the input.

    Args:
        variant: where the function is.
        policy: the classifier's sizes.
        function: the function itself, in place of its name.
    """

    def __init__(self, variant: str, policy: Preprocess, function: Callable[..., Any] | None = None) -> None:
        super().__init__(policy)
        self.name = variant
        self.function = function or found(variant)
        self.digest = f"{variant} {hashlib.sha256(_source(self.function)).hexdigest()}"

    def enter(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """Call the function with a picture that has pixels and nothing else."""
        return self._called(Image.fromarray(picture))

    def open(self, content: bytes, path: str, limits: Limits = Limits()) -> NDArray[Any]:
        """Call the function with the file as Pillow opens it, with all that the file says of itself."""
        return self._called(pixels.as_opened(content, path, limits))

    def _called(self, picture: Image.Image) -> NDArray[Any]:
        try:
            answer = self.function(picture)
        except Exception as e:  # it is the user's code
            raise UnderfireError(f"--door {self.name} failed: {type(e).__name__}: {e}.") from e
        return as_levels(answer, self.policy, self.name)

    def _measured(self, height: int, width: int) -> Geometry:
        declared = getattr(self.function, "geometry", None)
        if declared is None:
            return super()._measured(height, width)
        left, top, right, bottom = (float(side) for side in declared(width, height))
        noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        tall, wide = self.policy.size
        down, across = self._between(height, top, bottom, tall), self._between(width, left, right, wide)
        way = Geometry(down, across, self.policy.channels == 1)
        return self._tried(way, noise)

    def _between(self, n: int, first: float, last: float, size: int) -> Any:
        """Resize the part of ``n`` pixels that the function says it resizes, as Pillow does."""
        method = Image.Resampling[self.policy.interpolation.upper()]

        def line(rows: NDArray[np.float32]) -> NDArray[np.float32]:
            box = (first, 0, last, len(rows))
            return np.asarray(Image.fromarray(rows).resize((size, len(rows)), method, box))

        return matrix(n, line)


def given_door(given: str | Callable[..., Any] | Door, classifier: Classifier) -> Door:
    """Make a classifier's front door of what its owner says: a name, a function, or a door.

    Raises:
        UnderfireError: an unknown name, or something else.
    """
    if isinstance(given, str):
        return build_door(given, classifier)
    if all(callable(getattr(given, verb, None)) for verb in ("open", "enter", "way")):
        return cast("Door", given)
    if not callable(given):
        raise UnderfireError(f"door={given!r}: give the name of a door, or a function of a Pillow image.")
    name = getattr(given, "__qualname__", type(given).__name__)
    return FunctionDoor(f"{getattr(given, '__module__', '')}:{name}", classifier.preprocess, given)


def found(word: str) -> Callable[..., Any]:
    """Import the function that 'module:function' or 'file.py:function' names.

    Raises:
        UnderfireError: there is none.
    """
    where, _, name = word.rpartition(":")
    try:
        module = _file(Path(where)) if where.endswith(".py") else _module(where)
    except UnderfireError:
        raise
    except Exception as e:  # importing runs the user's code
        raise UnderfireError(f"--door {word}: '{where}' cannot be imported ({type(e).__name__}: {e}).") from e
    function = getattr(module, name, None)
    if not callable(function):
        raise UnderfireError(f"--door {word}: '{where}' has no function '{name}'.")
    loaded: Callable[..., Any] = function
    return loaded


def _module(name: str) -> Any:
    here = str(Path.cwd())
    if here not in sys.path:  # a command line tool does not look into the folder that it is called from
        sys.path.append(here)
    return importlib.import_module(name)


def _file(path: Path) -> Any:
    if not path.expanduser().is_file():
        raise UnderfireError(f"--door: there is no file '{path}' with a function.")
    spec = importlib.util.spec_from_file_location(f"underfire_door_{path.stem}", path.expanduser())
    if spec is None or spec.loader is None:
        raise UnderfireError(f"--door: '{path}' is no Python file.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _source(function: Callable[..., Any]) -> bytes:
    """Give the text of the function's module, so that another function is another door."""
    try:
        return Path(inspect.getsourcefile(function) or "").read_bytes()
    except (OSError, TypeError):
        return repr(function).encode()
