"""Check pictures with a calibrated alarm, one after the other; one that cannot be read does not stop the others."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from underfire.core import Listener, Quiet, UnderfireError
from underfire.defenses.ensemble.alarm import EnsembleAlarm, Verdict
from underfire.images.pixels import forged_note


@dataclass(frozen=True)
class Checked:
    """What came of one picture.

    Args:
        image: as it was named.
        verdict: what the alarm says; None where the picture cannot be read.
        error: why it cannot be read.
        ours: underfire forged it. It is resized and cropped anew like any upload, which undoes much of an attack: what
            skips a deployed system's resizing must not be for the picture itself to say.
    """

    image: str
    verdict: Verdict | None = None
    error: str | None = None
    ours: bool = False


def check(images: Sequence[str | Path], alarm: EnsembleAlarm, listener: Listener | None = None) -> Iterator[Checked]:
    """Ask an alarm about pictures, each as it is asked for.

    Args:
        images: their files.
        alarm: from ``underfire.alarm``.
        listener: hears how it goes on.

    Example:
        ``[one.verdict.alarm for one in check(["upload.jpg"], alarm("alarm.json")) if one.verdict]``
    """
    listener = listener or Quiet()
    listener.begin("check", len(images), 0)
    for n, image in enumerate(map(str, images), 1):
        yield _checked(alarm, image)
        listener.done(n)


def _checked(alarm: EnsembleAlarm, image: str) -> Checked:
    there = Path(image).expanduser()
    try:
        if there.is_dir():
            files = f"{shlex.quote(image.rstrip('/'))}/*.png"
            raise UnderfireError(f"'{image}' is a folder: name its pictures, such as {files}.")
        if not there.is_file():
            raise UnderfireError(f"There is no image '{image}' to check.")
        return Checked(image, alarm.check(image), ours=bool(forged_note(there.read_bytes())))
    except UnderfireError as e:
        return Checked(image, error=str(e))
