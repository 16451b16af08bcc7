"""One check of a file against an alarm: it waits for the worker as forgeries do."""

from __future__ import annotations

import base64
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from underfire.app.album import LIMITS, Given, jpeg
from underfire.app.networks import Networks
from underfire.core import UnderfireError

if TYPE_CHECKING:
    from underfire.defenses.verdict import Verdict

SIDE = 320
"""Longest side of a map, px."""
LONGEST = 600.0
"""Seconds that a page waits for its check."""


@dataclass(frozen=True)
class Answer:
    """What the alarm says.

    Args:
        verdict: its verdict.
        seen: data URI of what the classifier is shown.
        maps: member -> data URI of its map over that.
        note: which attack of underfire's made the file, by what the file itself says; None where it says nothing.
    """

    verdict: Verdict
    seen: str
    maps: Mapping[str, str]
    note: str | None


@dataclass
class Checking:
    """A task for the worker.

    Args:
        given: the file.
        alarm: the alarm's file.
        networks: who builds the classifier.
    """

    given: Given
    alarm: Path
    networks: Networks
    answer: Answer | None = None
    error: str = ""
    done: threading.Event = field(default_factory=threading.Event)
    unwanted: bool = False

    def run(self) -> None:
        """Ask the alarm; whatever goes wrong is kept."""
        try:
            self.answer = self._asked()
        except UnderfireError as e:
            self.error = str(e).replace(str(self.alarm), self.alarm.name)
        except Exception as e:  # the worker goes on with the next task, whatever a network raises
            self.error = f"This failed with {type(e).__name__}: {e}"
        finally:
            self.done.set()

    def wait(self) -> Answer:
        """Wait for the answer.

        Raises:
            UnderfireError: the file cannot be read, or the alarm is for another classifier.
        """
        if not self.done.wait(LONGEST):
            self.unwanted = True
            raise UnderfireError("Others were before this check for ten minutes: try again.")
        if self.answer is None:
            raise UnderfireError(self.error)
        return self.answer

    def _asked(self) -> Answer:
        from underfire.defenses import calibration
        from underfire.defenses.alarm import Alarm
        from underfire.images import pixels
        from underfire.images.overlay import over

        pixels.decode(self.given.content, self.given.name, LIMITS)
        classifier = self.networks.classifier(calibration.read(self.alarm).classifier)
        verdict = Alarm(classifier, str(self.alarm)).check((self.given.name, self.given.content))
        drawn = {name: _uri(over(verdict.levels, m)) for name, m in verdict.maps.items()}
        return Answer(verdict, _uri(verdict.levels), drawn, pixels.forged_note(self.given.content))


def _uri(levels: object) -> str:
    from underfire.images.formats import picture

    image = picture(levels)  # type: ignore[arg-type]
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(image)).decode("ascii")
