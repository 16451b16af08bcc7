"""The check of images with a calibrated alarm, one after the other; a bad image does not stop the others."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from underfire.core import Listener, Quiet, UnderfireError
from underfire.defenses.alarm import Alarm
from underfire.defenses.verdict import Verdict
from underfire.images.pixels import forged_note


@dataclass(frozen=True)
class Checked:
    """The answer about one image.

    Args:
        image: path of its file, as the user wrote it.
        verdict: the alarm's verdict; None where the image cannot be read.
        error: why it cannot be read; None where it can.
        ours: whether underfire forged it. It goes through the front door as any upload, where a forged input loses much
            of its attack: an image must not decide that a deployed system leaves this out.
    """

    image: str
    verdict: Verdict | None = None
    error: str | None = None
    ours: bool = False


def check(images: Sequence[str | Path], alarm: Alarm, listener: Listener | None = None) -> Iterator[Checked]:
    """Ask an alarm about images, and yield the answers one by one.

    Example:
        ``[one.verdict.alarm for one in check(["upload.jpg"], alarm("alarm.json")) if one.verdict]``

    Args:
        images: paths of their files.
        alarm: from ``underfire.alarm``.
        listener: hears how it goes on.
    """
    listener = listener or Quiet()
    listener.begin("check", len(images), 0)
    for n, image in enumerate(map(str, images), 1):
        yield _checked(alarm, image)
        listener.done(n)


def _checked(alarm: Alarm, image: str) -> Checked:
    there = Path(image).expanduser()
    try:
        if there.is_dir():
            files = f"{shlex.quote(image.rstrip('/'))}/*.png"
            raise UnderfireError(f"'{image}' is a folder: name its images, such as {files}.")
        if not there.is_file():
            raise UnderfireError(f"There is no image '{image}' to check.")
        return Checked(image, alarm.check(image), ours=bool(forged_note(there.read_bytes())))
    except UnderfireError as e:
        return Checked(image, error=str(e))
