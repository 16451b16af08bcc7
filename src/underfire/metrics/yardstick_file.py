"""The file of a yardstick: what was measured, and for which classifier and interpreter. It imports no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from underfire.core import (
    DamagedFileError,
    MismatchError,
    NotFoundError,
    OtherVersionError,
    TooFewError,
    UnderfireError,
)
from underfire.core.files import write_or_say
from underfire.core.sealed import SEAL, seal_of, unsealed
from underfire.metrics.ranked import Four, RankedPhoto, ranked, yardsticks
from underfire.metrics.yardstick import IMPOSTORS, PhotoDistances, Yardstick

FORMATS = {3: "underfire yardstick 1", 4: "underfire yardstick 2"}
"""Versions of the file by its number of distances: three, with the ranks of the numbers, or four, with those of the
maps as shown too (`metrics.ranked`). It changes with copies and distances, since they are what a verdict compares."""
LARGEST = 64 << 20
"""Bytes of a file at most; one of 200 photos has 60,000."""
MOST_COPIES = 64
FARTHEST = 2.0
"""A distance at most: 1 − rank of a map in reverse order."""


@dataclass(frozen=True)
class YardstickFile:
    """A yardstick, and whose it is.

    Args:
        classifier: name of the classifier.
        classifier_digest: digest of its weights and input policy.
        interpreter: name of the interpreter.
        yardstick: what was measured.
        options: options of the interpreter.
        interpreter_digest: digest of what its maps depend on beside the classifier; '' where that is nothing.
        exact: where `yardstick` ranks maps as they are shown, that of their numbers; None where `yardstick` is that.
    """

    classifier: str
    classifier_digest: str
    interpreter: str
    yardstick: Yardstick
    options: Mapping[str, Any] = field(default_factory=dict)
    interpreter_digest: str = ""
    exact: Yardstick | None = None

    def _content(self) -> dict[str, Any]:
        own = self.yardstick
        photos: Sequence[PhotoDistances | RankedPhoto] = ranked(own, self.exact) if self.exact else own.photos
        return {
            "format": FORMATS[3 if self.exact is None else 4],
            "classifier": self.classifier,
            "classifier_digest": self.classifier_digest,
            "interpreter": self.interpreter,
            "interpreter_digest": self.interpreter_digest,
            "options": dict(self.options),
            "share": own.share,
            "photos": [
                {"sha256": one.sha256, "copies": _lists(one.copies), "impostors": _by_name(one.impostors)}
                for one in photos
            ],
        }

    @cached_property
    def digest(self) -> str:
        """Digest of the content."""
        return seal_of(self._content())

    def dump(self) -> bytes:
        """Return the file's content: JSON with a digest of itself, one photo on each line."""
        content = self._content() | {SEAL: self.digest}
        photos = ",\n".join(json.dumps(one, separators=(",", ":")) for one in content.pop("photos"))
        head = json.dumps(content, indent=1, ensure_ascii=False)
        return f'{head[:-2]},\n "photos": [\n{photos}\n ]\n}}\n'.encode()

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            UnderfireError: it cannot be written.
        """
        write_or_say(path, self.dump(), "give another --out")

    def fits(self, classifier_digest: str, interpreter: str, interpreter_digest: str, options: Any) -> bool:
        """Tell whether it was made for this classifier and this interpreter."""
        theirs = (classifier_digest, interpreter, interpreter_digest, seal_of(said(options or {}, interpreter_digest)))
        own = said(self.options, self.interpreter_digest)
        return theirs == (self.classifier_digest, self.interpreter, self.interpreter_digest, seal_of(own))

    def refuse_other(self, path: str, classifier_digest: str, interpreter_digest: str, options: Any) -> None:
        """Check that the file ``path`` was made for this classifier, and for the interpreter as it is set here.

        Raises:
            MismatchError: it was not.
        """
        if self.fits(classifier_digest, self.interpreter, interpreter_digest, options):
            return
        if self.classifier_digest != classifier_digest:
            what = f"another classifier ({self.classifier}) or other weights, sizes or colours of it"
        else:
            what = f"{self.interpreter} with other settings or other weights"
        raise MismatchError(
            f"--yardstick '{path}' was made for {what}: leave it out, or make one with `underfire yardstick`."
        )


def said(options: Mapping[str, Any], interpreter_digest: str) -> dict[str, Any]:
    """Leave out where an interpreter's weights lie: its digest stands for them, wherever that is."""
    return {name: value for name, value in options.items() if name != "weights" or not interpreter_digest}


def read(path: str | Path) -> YardstickFile:
    """Read a yardstick's file.

    Raises:
        UnderfireError: there is no such file, or it is truncated, changed, too large or of another kind.
    """
    try:
        with Path(path).expanduser().open("rb") as file:
            content = file.read(LARGEST + 1)
    except FileNotFoundError as e:
        raise NotFoundError(f"There is no yardstick '{path}': `underfire yardstick` makes one.") from e
    except OSError as e:
        raise UnderfireError(f"Cannot read the yardstick '{path}' ({e.strerror or e}).") from e
    return parse(content, str(path))


def parse(content: bytes, where: str) -> YardstickFile:
    """Read the content of a yardstick's file; arguments and errors as of `read`."""
    broken = f"'{where}' is not a complete yardstick: copy it again, or make it again with `underfire yardstick`."
    if len(content) > LARGEST:
        raise DamagedFileError(f"'{where}' is larger than any yardstick ({LARGEST >> 20} MB).")
    try:
        found = json.loads(content)
    except (ValueError, RecursionError) as e:
        raise DamagedFileError(broken) from e
    if not isinstance(found, dict) or found.get("format") not in FORMATS.values():
        raise OtherVersionError(f"'{where}' is no yardstick of this version: `underfire yardstick` makes one.")
    if not unsealed(found):
        raise DamagedFileError(f"'{where}' was changed after it was made (its digest is wrong): make it again.")
    try:
        return _file(found)
    except (KeyError, TypeError, ValueError, AttributeError, TooFewError) as e:
        raise DamagedFileError(broken) from e


def _file(found: Mapping[str, Any]) -> YardstickFile:
    share = float(found["share"])
    if not 0 < share < 1:
        raise ValueError("share")
    ranks_once = found["format"] == FORMATS[3]
    photos = tuple(_photo(one, ranks_once) for one in found["photos"])
    if len({photo.sha256 for photo in photos}) < len(photos):
        raise ValueError("the same photo twice")
    texts = ("classifier", "classifier_digest", "interpreter", "interpreter_digest")
    if not all(isinstance(found[name], str) for name in texts) or not isinstance(found["options"], dict):
        raise TypeError("names")
    own = {name: found[name] for name in (*texts, "options")}
    as_shown, exact = yardsticks(photos, share)
    if ranks_once:
        return YardstickFile(**own, yardstick=exact)
    return YardstickFile(**own, yardstick=as_shown, exact=exact)


def _photo(one: Mapping[str, Any], ranks_once: bool) -> RankedPhoto:
    copies = tuple(_four(d, ranks_once) for d in one["copies"])
    if not 0 < len(copies) <= MOST_COPIES or not isinstance(one["sha256"], str):
        raise ValueError("copies")
    impostors = {name: _four(d, ranks_once) for name, d in one["impostors"].items()}
    if not impostors.keys() <= set(IMPOSTORS):
        raise ValueError("impostors")
    return RankedPhoto(one["sha256"], copies, impostors)


def _four(values: Any, ranks_once: bool) -> Four:
    l1, iou, rank, shown = (float(value) for value in ([*values, values[2]] if ranks_once else values))
    if not all(-1e-6 <= value <= FARTHEST + 1e-6 for value in (l1, iou, rank, shown)):  # NaN is not either
        raise ValueError("distance")
    return l1, iou, rank, shown


def _lists(distances: Sequence[tuple[float, ...]]) -> list[list[float]]:
    return [list(one) for one in distances]


def _by_name(impostors: Mapping[str, tuple[float, ...]]) -> dict[str, list[float]]:
    return {name: list(d) for name, d in impostors.items()}
