"""Files of JSON that hold a digest of themselves. It prevents accidents, not attacks: the digest has no key."""

from __future__ import annotations

import hashlib
import json
from typing import Any

SEAL = "seal"
"""Where the digest stands."""


def seal_of(content: Any) -> str:
    """Digest the content of a file, without its seal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def unsealed(content: dict[str, Any]) -> bool:
    """Take the seal out of a file's content, and tell whether it fits."""
    return bool(content.pop(SEAL, None) == seal_of(content))
