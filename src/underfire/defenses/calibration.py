"""The file of an alarm: what its detector has learnt, its threshold, and the classifier and members that these are for.

It imports no torch. For the threshold see `metrics.conformal`.
"""

from __future__ import annotations

import bisect
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from underfire import core
from underfire.core import DamagedFileError, NotFoundError, OtherVersionError, UnderfireError
from underfire.core.files import write_or_say
from underfire.core.place import FILES
from underfire.core.sealed import SEAL, seal_of, unsealed
from underfire.metrics import conformal

FORMAT = "underfire alarm 3"
"""Version of the file. It changes with the formula of the score too, since a file is no use for another score."""
OF_SQUEEZE = "underfire alarm 2"
"""Files of before had one kind, which was called 'ensemble' and is `squeeze` by the blur. They stay readable."""
CONFIDENCE = 0.95
"""How sure the bound on false alarms is."""


@dataclass(frozen=True)
class Member:
    """One interpreter of the ensemble.

    Args:
        name: as in `underfire list`.
        options: options of its maker.
        digest: digest of what its maps depend on beside the classifier.
    """

    name: str
    options: Mapping[str, Any]
    digest: str


@dataclass(frozen=True)
class Calibration:
    """What an alarm has from benign photos.

    Args:
        classifier: name of the classifier.
        classifier_digest: digest of its weights and input policy.
        members: the interpreters, in the order of the statistics.
        learnt: what its detector has learnt from benign photos that give no threshold, as `Detector.learn` gives it.
        threshold: every score above it is an alarm.
        false_alarms: a, the share of benign photos that may raise an alarm.
        scores: scores of the benign photos that give the threshold, ascending.
        unexplained: number of further photos that give the threshold; some member has no map of them: they are alarms.
        photos: SHA-256 of the files of all benign photos.
        defense: kind of the alarm: the name of its detector.
        options: settings of the detector.
        confidence: how sure it is that this threshold raises false alarms on a share `false_alarms` of benign photos at
            most; None: on average over calibrations it does, and `bound` says what is sure of this one.
        door: name and digest of the front door that the benign photos came through; '' in files of before.
    """

    classifier: str
    classifier_digest: str
    members: tuple[Member, ...]
    learnt: Mapping[str, Any]
    threshold: float
    false_alarms: float
    scores: tuple[float, ...]
    photos: tuple[str, ...]
    unexplained: int = 0
    defense: str = "squeeze"
    options: Mapping[str, Any] = field(default_factory=dict)
    confidence: float | None = None
    door: str = ""

    @property
    def expected(self) -> float:
        """The share of benign photos that raise an alarm, on average over calibrations."""
        return conformal.expected(len(self.scores) + self.unexplained, self._rank)

    @property
    def bound(self) -> float:
        """The share of benign photos that raise an alarm at most, with 95 % confidence in this calibration."""
        return conformal.bound(len(self.scores) + self.unexplained, self._rank, CONFIDENCE)

    @property
    def _rank(self) -> int:
        """Which of the scores the threshold is, from the lowest; of equal scores the first, to be sure."""
        return bisect.bisect_left(self.scores, self.threshold) + 1

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the members."""
        return tuple(member.name for member in self.members)

    @property
    def files(self) -> tuple[str, ...]:
        """Options that name a file of the machine where the alarm was calibrated, such as 'rts.weights'."""
        of = [*((member.name, member.options) for member in self.members), (self.defense, self.options)]
        return tuple(found for name, own in of for found in _files(name, own))

    def dump(self) -> bytes:
        """Return the file's content: JSON with a digest of itself."""
        content = {"format": FORMAT, **asdict(self)}
        return json.dumps(content | {SEAL: seal_of(content)}, indent=1, ensure_ascii=False).encode()

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            UnderfireError: it cannot be written.
        """
        write_or_say(path, self.dump(), "give another --out")


def read(path: str | Path) -> Calibration:
    """Read the calibration in a file.

    Raises:
        UnderfireError: there is no such file, or it is truncated, changed or of another kind.
    """
    try:
        content = json.loads(Path(path).expanduser().read_bytes())
    except FileNotFoundError as e:
        raise NotFoundError(f"There is no defense file '{path}': `underfire defend calibrate` makes one.") from e
    except OSError as e:
        raise UnderfireError(
            f"Cannot read the defense file '{path}' ({e.strerror or e}): give the one that `underfire defend "
            "calibrate` wrote."
        ) from e
    except (ValueError, RecursionError) as e:
        raise DamagedFileError(f"'{path}' is not a complete defense file: copy it again, or calibrate again.") from e
    if not isinstance(content, dict) or content.get("format") not in (FORMAT, OF_SQUEEZE):
        raise OtherVersionError(f"'{path}' is no defense file of this version: `underfire defend calibrate` makes one.")
    if not unsealed(content):
        raise DamagedFileError(f"'{path}' was changed after it was calibrated (its digest is wrong): calibrate again.")
    try:
        content = _as_squeeze(content) if content["format"] == OF_SQUEEZE else content
        content.setdefault("door", "")
        known: dict[str, Any] = {f.name: _frozen(content[f.name]) for f in fields(Calibration)}
        if any(math.isnan(number) for number in (known["threshold"], *known["scores"])):
            raise ValueError("a number is none")
        return Calibration(**known | {"members": tuple(Member(**m) for m in content["members"])})
    except (KeyError, TypeError, ValueError) as e:
        raise DamagedFileError(f"'{path}' is not a complete defense file: copy it again, or calibrate again.") from e


def _as_squeeze(content: dict[str, Any]) -> dict[str, Any]:
    """Read a file of before, whose one kind was squeezing by a blur."""
    learnt = {name: content.pop(name) for name in ("mean", "covariance")}
    return {**content, "learnt": learnt, "defense": "squeeze", "options": {}, "confidence": None}


def _files(name: str, value: Any) -> Iterator[str]:
    """Name what is, or looks like, a file, at any depth of options."""
    if isinstance(value, Mapping):
        for k, v in value.items():
            yield from [f"{name}.{k}"] if k in FILES and v is not None else _files(f"{name}.{k}", v)
    elif isinstance(value, list | tuple):
        for v in value:
            yield from _files(name, v)
    elif isinstance(value, str) and any(mark in value for mark in "/\\"):
        yield name


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def digest(path: str | Path) -> str:
    """Compute the SHA-256 of a defense file."""
    return hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()


def refuse_strangers(members: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise UnderfireError for options of an interpreter that is no member."""
    for name in options:
        if name not in members:
            raise core.unknown("member of this alarm", name, members)
