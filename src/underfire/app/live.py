"""The live view of a search: a small picture, the prediction and the map every few steps, for little of its time.

A frame is due when twelve times as long as the last one took has gone by: so the view takes 8 % of the search at most,
whatever a frame costs, and no more than five frames a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underfire.core import Classifier, ImageErrors, Interpreter, UnderfireError
from underfire.core.watch import Glimpse
from underfire.heads import head_of
from underfire.images import pixels
from underfire.images.overlay import over, uri
from underfire.report.text import first_name

EVERY = 0.2
"""Seconds from one frame to the next, at least."""
APART = 12
"""Times as long as a frame takes that the search has for itself before the next one."""
CHEAP = 8.0
"""F of a map up to which the view asks for one of its own where the search has not looked."""
OTHERS = 3
"""Classes beside the photo's own and the wanted one whose probabilities are shown."""


class Abandoned(UnderfireError):  # noqa: N818 (it is no mistake)
    """Raised in a search that nobody waits for any more."""


@dataclass(frozen=True)
class Frame:
    """What the page shows of one step.

    Args:
        step, steps: the step, and the most there will be.
        picture: data URI of what the classifier is shown.
        map: data URI of the map over it; None before the first one is known.
        map_step: the step that the map is of.
        distance: mean distance of that map from the wanted one.
        bars: name, probability in [0, 1] and role ('own', 'wanted' or '') of some classes.
        passes: F so far.
        left: seconds that it takes at most from here on; None at the first step.
    """

    step: int
    steps: int
    picture: str
    map: str | None
    map_step: int | None
    distance: float | None
    bars: tuple[tuple[str, float, str], ...]
    passes: float | None
    left: float | None


@dataclass
class LiveView:
    """A watcher that draws frames.

    Args:
        classifier: under attack.
        interpreter: whose map is shown.
        show: takes each frame.
        ended: 'stop' where the search shall end with what it has, 'leave' where nobody waits for it; else ''.
    """

    classifier: Classifier
    interpreter: Interpreter
    show: Callable[[Frame], None]
    ended: Callable[[], str] = lambda: ""
    spent: float = 0.0
    """Seconds spent on the view."""
    _begun: float | None = None
    _due: float = 0.0
    _map: tuple[str, int, float | None] | None = field(default=None, repr=False)

    def see(self, glimpse: Glimpse) -> bool:
        """Draw a frame where one is due; True ends the search."""
        start = time.perf_counter()
        self._begun = self._begun or start
        match self.ended():
            case "leave":
                raise Abandoned("Nobody waits for this search any more.")
            case "stop":
                return True
        if start < self._due or not len(glimpse.rows):
            return False
        passes = self.classifier.meter.so_far()
        with self.classifier.meter.aside():
            self.show(self._frame(glimpse, start - self._begun, None if passes is None else float(passes[0])))
        end = time.perf_counter()
        self.spent += end - start
        self._due = end + max(EVERY, APART * (end - start))
        return False

    def _frame(self, glimpse: Glimpse, elapsed: float, passes: float | None) -> Frame:
        levels = pixels.to_levels(glimpse.images[:1])[0]
        self._look(glimpse, levels)
        shown = self._map
        left = elapsed / glimpse.step * (glimpse.steps - glimpse.step) if glimpse.step else None
        picture = uri(levels, 80) or ""
        return Frame(
            step=glimpse.step,
            steps=glimpse.steps,
            picture=picture,
            map=None if shown is None else shown[0],
            map_step=None if shown is None else shown[1],
            distance=None if shown is None else shown[2],
            bars=tuple(bars(self.classifier, glimpse)),
            passes=passes,
            left=left,
        )

    def _look(self, glimpse: Glimpse, levels: NDArray[np.uint8]) -> None:
        """Take the map that the search has seen at this step, or ask for one where that is cheap."""
        m = glimpse.maps.get(self.interpreter.name)
        if m is None:
            if self.interpreter.map_passes > CHEAP:
                return
            try:
                m = self.interpreter.explain(glimpse.images[:1], glimpse.goal.labels[:1])
            except ImageErrors:  # an iterate without a map is no reason to end the search
                return
        found = m[0].detach().float().cpu().numpy()
        wanted = glimpse.goal.maps.get(self.interpreter.name)
        far = None if wanted is None else float(np.abs(found - wanted[0].float().cpu().numpy()).mean())
        self._map = uri(over(levels, found), 80) or "", glimpse.step, far


def bars(classifier: Any, glimpse: Glimpse) -> list[tuple[str, float, str]]:
    """List the wanted class, the photo's own and the strongest others, with their probabilities."""
    p = head_of(classifier).probabilities(glimpse.logits[:1].double())[0].cpu()
    own, wanted = int(glimpse.goal.source[0]), int(glimpse.goal.labels[0])
    order = [k for k in p.argsort(descending=True).tolist() if k not in (own, wanted)][:OTHERS]
    names = classifier.classes.names
    roles = {wanted: "wanted", own: "own"}
    return [(first_name(names[k]), float(p[k]), roles.get(k, "")) for k in (wanted, own, *order)]
