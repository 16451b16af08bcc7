"""Which settings go into the key of an audit, and which do not: this is data format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from underfire.core.hashing import digest_of
from underfire.core.naming import key_name
from underfire.core.place import FILES
from underfire.plan.settings import Settings

NOT_IN_KEY = frozenset(
    {"images", "weights", "classes", "device", "workers", "executor", "address", "gpus", "resolved", "target_map"}
    | {"defense", "interpolation", "channels", "head", "key", "output", "layout", "order", "scale"}
    | {"yardstick", "sanity"}
)
"""Settings that are not in the key. Some change no number; the files among them are in the key by their digests, and
the whole input policy, and the kind of head, are in the digest of the weights."""
LATER: dict[str, Any] = {
    **dict.fromkeys(("interpolation", "max_megapixels", "max_megabytes", "channels", "head", "door")),
    **dict.fromkeys(("key", "output", "layout", "order", "scale", "yardstick", "seeds", "sanity")),
    **{"at": "input", "save_as": None, "through": None},
}
"""Settings that earlier versions did not have, with their default: while they have it, keys and output folders do not
change."""


def as_before(given: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what an earlier version did not have and is not given, so that keys and folders are as they were."""
    return {name: value for name, value in given.items() if name not in LATER or value != LATER[name]}


def key_settings(settings: Settings) -> dict[str, Any]:
    """Pick the settings that go into the key: paths of files do not, since the key has the digests of the files."""
    found = settings.model_dump(mode="json", exclude=set(NOT_IN_KEY))
    found = as_before(found) | {"classifier": key_name(settings.classifier)}
    found["options"] = {
        part: {k: v for k, v in own.items() if k not in FILES} for part, own in found["options"].items()
    }
    return found


def settings_digest(settings: Settings) -> str:
    """Digest the settings that go into the key, by which plan.yaml tells that it is as the run wrote it."""
    return digest_of(key_settings(settings))
