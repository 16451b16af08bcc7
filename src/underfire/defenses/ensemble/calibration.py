"""The file of an alarm: what benign images taught it, and for which classifier and members that holds. No torch.

The threshold is conformal (Vovk et al. 2005): of n benign scores that had no part in anything else it is the k-th
smallest, k = ⌈(n + 1)(1 − a)⌉. The next benign image, drawn like them, then raises an alarm with probability a at most.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from underfire import core
from underfire.core import UnderfireError
from underfire.core.files import write_whole

FORMAT = "underfire alarm 2"
"""Changes with what the score is, too: a file says nothing of another score."""


@dataclass(frozen=True)
class Member:
    """One interpreter of the ensemble.

    Args:
        name: as in `underfire list`.
        options: of its maker.
        digest: of what its maps depend on beside the classifier.
    """

    name: str
    options: Mapping[str, Any]
    digest: str


@dataclass(frozen=True)
class Calibration:
    """What an alarm has learnt from benign images.

    Args:
        classifier: its name.
        classifier_digest: of its weights and input policy.
        members: the interpreters, in the order of the statistics.
        mean: μ of the members' disagreements, see `interpreters.disagreement`.
        covariance: Σ of them.
        threshold: a score above it is an alarm.
        false_alarms: a, the share of benign images that may raise one.
        scores: of the benign images that the threshold is of, ascending.
        unexplained: further images that it is of, which have no score since a member has no map of them: alarms.
        photos: SHA-256 of all benign images' files.
        defense: the kind of alarm.
    """

    classifier: str
    classifier_digest: str
    members: tuple[Member, ...]
    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    threshold: float
    false_alarms: float
    scores: tuple[float, ...]
    photos: tuple[str, ...]
    unexplained: int = 0
    defense: str = "ensemble"

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names."""
        return tuple(member.name for member in self.members)

    def dump(self) -> bytes:
        """The file: JSON with a digest of itself."""
        content = {"format": FORMAT, **asdict(self)}
        return json.dumps(content | {"seal": _seal(content)}, indent=1, ensure_ascii=False).encode()

    def write(self, path: Path) -> None:
        """Write the file whole or not at all."""
        try:
            write_whole(path, self.dump())
        except OSError as e:
            raise UnderfireError(f"Cannot write '{path}' ({e.strerror or e}): give another --out.") from e


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read(path: str | Path) -> Calibration:
    """The calibration in a file.

    Raises:
        UnderfireError: missing, truncated, changed, or another kind of file.
    """
    try:
        content = json.loads(Path(path).expanduser().read_bytes())
    except FileNotFoundError as e:
        raise UnderfireError(f"There is no defense file '{path}': `underfire defend calibrate` makes one.") from e
    except OSError as e:
        raise UnderfireError(
            f"Cannot read the defense file '{path}' ({e.strerror or e}): give the one that `underfire defend "
            "calibrate` wrote."
        ) from e
    except ValueError as e:
        raise UnderfireError(f"'{path}' is no whole defense file: copy it again, or calibrate again.") from e
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UnderfireError(f"'{path}' is no defense file of this version: `underfire defend calibrate` makes one.")
    seal = content.pop("seal", None)
    if seal != _seal(content):
        raise UnderfireError(
            f"'{path}' was changed after it was calibrated (its digest does not fit): calibrate again."
        )
    try:
        known: dict[str, Any] = {f.name: _frozen(content[f.name]) for f in fields(Calibration)}
        return Calibration(**known | {"members": tuple(Member(**m) for m in content["members"])})
    except (KeyError, TypeError) as e:
        raise UnderfireError(f"'{path}' is no whole defense file: copy it again, or calibrate again.") from e


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def digest(path: str | Path) -> str:
    """SHA-256 of a defense file."""
    return hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()


def refuse_strangers(members: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise UnderfireError for settings of what is no member."""
    for name in options:
        if name not in members:
            raise core.unknown("member of this alarm", name, members)
