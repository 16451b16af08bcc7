"""Names of classifiers that say where a file lies: 'onnx:FILE', 'script:FILE', 'hf:DIR'.

The digest of the file is in the key of a result; its path is not, since it changes no number.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from underfire.core.place import absolute

DEMO = "demo"
"""The word for the photos that scikit-image ships."""
FILE_KINDS = ("onnx", "script", "hf")
"""Kinds of classifiers whose variant is a file or a folder."""


def file_of(name: str) -> Path | None:
    """Return the file or folder that a classifier's name says; None where it says none, or there is none."""
    kind, colon, variant = name.partition(":")
    if kind not in FILE_KINDS or not colon or not variant:
        return None
    path = Path(variant).expanduser()
    return path if kind != "hf" or path.is_dir() else None  # 'hf:OWNER/NAME' is no path


def absolute_name(name: str) -> str:
    """Make the path in a name absolute, so that plan.yaml can be run from any folder."""
    file = file_of(name)
    return name if file is None else f"{name.partition(':')[0]}:{absolute(str(file))}"


def short_name(name: str) -> str:
    """Cut the path in a name to its last part, as records and reports show it."""
    kind, _, variant = name.partition(":")
    if kind not in FILE_KINDS or (kind == "hf" and not _is_path(variant)):
        return name
    return f"{kind}:{PurePath(variant.replace(chr(92), '/')).name}"


def key_name(name: str) -> str:
    """Return what a key has of a name: without the path, since the key has the digest of what lies there."""
    return name.partition(":")[0] if name.partition(":")[0] in FILE_KINDS else name


def _is_path(variant: str) -> bool:
    """Tell whether 'hf:…' names a folder: a name on the hub has one slash at most, and no other sign of a path."""
    return variant.startswith(("/", "~", ".")) or variant.count("/") > 1 or chr(92) in variant or Path(variant).is_dir()


def as_flags(given: Mapping[str, Any]) -> list[str]:
    """Write settings, or a classifier's options, as words of the command line; those that are None are left out."""
    words = []
    for key, value in given.items():
        if value is not None:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [f"--{key.replace('_', '-')}", shown]
    return words
