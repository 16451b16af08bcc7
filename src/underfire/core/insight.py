"""How underfire understands a classifier: the facts that are shown before a search, and kept beside its results."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class TwinFacts:
    """How close the smoothed twin of a network is to it; all numbers are shares, 0 is equal.

    Args:
        kinks: kinks that are smoothed in one forward pass.
        logits: largest difference of the logits, of their spread.
        gradient: difference of the gradients as τ → 0, of the gradient.
        second: the second derivative, of the change of the gradient; 1 where they are the same.
    """

    kinks: int
    logits: float
    gradient: float
    second: float


@dataclass(frozen=True)
class MapFacts:
    """Whether an interpreter fits a classifier.

    Args:
        name: the interpreter.
        reason: why it does not fit; '' where it does.
        passes: F of one map; None where it does not fit.
        seconds: of one map on this machine, estimated from the passes where a map takes many; None likewise.
        measured: whether the two are measured; else estimated.
    """

    name: str
    reason: str
    passes: float | None = None
    seconds: float | None = None
    measured: bool = False


@dataclass(frozen=True)
class GridFacts:
    """A layer whose output is maps: its name, the shape of one image's output, and px of the input to one place."""

    name: str
    shape: tuple[int, ...]
    stride: int


@dataclass(frozen=True)
class Insight:
    """How underfire understands a classifier; see `underfire.inspect`.

    Args:
        name: its name in records.
        architecture: class of the network.
        parameters: how many numbers its weights are.
        outputs: K.
        head: where the logits come from, in a sentence.
        taken_off: what was taken off the network's end: 'softmax', 'log-softmax' or ''.
        classes: names of the first outputs.
        classes_from: where the names are from.
        steps: how a photo becomes its input, step by step.
        device: where it computes.
        twin: the smoothed twin; None where it is refused.
        sharp: why the twin is refused, with the kinks that stay sharp; '' where it is not.
        gradients: image -> norm of the gradient of a log-odds; None where it is not finite.
        twice: difference of the logits when asked twice, of the largest.
        alone: difference of the logits of an image alone and in a batch, likewise.
        problem: why underfire refuses the classifier; '' where it does not.
        layers: those whose outputs are maps, in the order of a forward pass.
        maps: the interpreters.
        photo: name of the photo that it was looked at with.
        picture: what the network sees of this photo, as a data URI.
        seconds: what finding all this took.
    """

    name: str
    architecture: str
    parameters: int
    outputs: int
    head: str
    taken_off: str
    classes: tuple[str, ...]
    classes_from: str
    steps: tuple[str, ...]
    device: str
    twin: TwinFacts | None
    sharp: str
    gradients: dict[str, float | None]
    twice: float | None
    alone: float | None
    problem: str
    layers: tuple[GridFacts, ...]
    maps: tuple[MapFacts, ...]
    photo: str
    picture: str
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, as JSON has them; a number that is not finite is None."""
        return asdict(self)
