"""Square colour inputs: what some interpreters draw their masks and baselines for."""

from __future__ import annotations

from underfire.core import Classifier, UnsuitableError


def square_side(classifier: Classifier, name: str) -> int:
    """Return the side of a classifier's input, px.

    Args:
        classifier: whose input.
        name: the interpreter's name in the error.

    Raises:
        UnsuitableError: the input is not square, or not in three colours.
    """
    channels, height, width = classifier.preprocess.shape
    if height != width or channels != 3:
        raise UnsuitableError(
            f"{name} is drawn on square inputs of three colours, and '{classifier.name}' takes {channels} × {height} × "
            f"{width}: choose another interpreter for it, such as grad, mask or gradcam."
        )
    return height
