"""Read a gate.yaml: a mistake is one sentence with the file, the line and the nearest word that is known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from pydantic import ValidationError

from underfire.core import NotFoundError, UnderfireError, unknown
from underfire.core.bounded import load_yaml
from underfire.core.place import Place, place
from underfire.gating.measures import MEASURES
from underfire.gating.policy import Policy, PolicyFile, Rule, Where, of_mapping

LARGEST = 1 << 20
"""Bytes of a policy at most."""
Lines: TypeAlias = dict[tuple[str | int, ...], int]
_KNOWN = {"rule": Rule.model_fields, "where": Where.model_fields, "policy": Policy.model_fields}


def read_policy(given: str | Path | Mapping[str, Any] | Policy) -> PolicyFile:
    """Read a policy from a file, from plain values, or take one as it is.

    Raises:
        UnderfireError: the first mistake, in the user's words.
    """
    if isinstance(given, Policy):
        return PolicyFile(given)
    if isinstance(given, Mapping):
        return PolicyFile(_checked(given, "The policy", {}))
    text = _text(place(str(given)))
    lines = _lines(text, str(given))
    policy = _checked(_mapping(text, str(given)), f"'{given}'", lines)
    return PolicyFile(policy, str(given), tuple(lines.get(("rules", i), 1) for i in range(len(policy.rules))))


def _text(path: Place) -> str:
    try:
        content = path.read_bytes()
    except FileNotFoundError as e:
        raise NotFoundError(f"There is no policy '{path}': write one with underfire gate AUDIT --init.") from e
    except OSError as e:
        raise UnderfireError(f"Cannot read the policy '{path}' ({e.strerror or e}).") from e
    if len(content) > LARGEST:
        raise UnderfireError(f"The policy '{path}' has more than {LARGEST // 1024:,} KB: is it one?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise UnderfireError(f"The policy '{path}' is no UTF-8 text.") from e


def _mapping(text: str, path: str) -> Mapping[str, Any]:
    try:
        content = load_yaml(text)
    except yaml.YAMLError as e:
        raise UnderfireError(f"The policy '{path}' is no YAML ({' '.join(str(e).split())[:200]}).") from e
    if not isinstance(content, dict):
        raise UnderfireError(f"The policy '{path}' is no mapping: it begins with 'rules:' and holds a list of them.")
    return content


def _lines(text: str, path: str) -> Lines:
    """Find the line of everything in a policy; bounded reading comes first, since this walks through the text."""
    _mapping(text, path)
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    return dict(_walk(root, (), path)) if root is not None else {}


def _walk(node: yaml.Node, where: tuple[str | int, ...], path: str) -> Iterator[tuple[tuple[str | int, ...], int]]:
    yield where, node.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode):
        for i, child in enumerate(node.value):
            yield from _walk(child, (*where, i), path)
    if isinstance(node, yaml.MappingNode):
        names = Counter(str(key.value) for key, _ in node.value)
        for key, child in node.value:
            if names[str(key.value)] > 1:
                raise UnderfireError(f"'{path}', line {key.start_mark.line + 1}: it says '{key.value}' twice.")
            yield from _walk(child, (*where, str(key.value)), path)
            yield (*where, str(key.value)), key.start_mark.line + 1


def _checked(values: Mapping[str, Any], who: str, lines: Lines) -> Policy:
    try:
        return of_mapping(values)
    except ValidationError as e:
        typos = [error for error in e.errors() if error["type"] == "extra_forbidden"]  # often the cause of the others
        raise _mistake([*typos, *e.errors()][0], who, lines) from e


def _mistake(error: Any, who: str, lines: Lines) -> UnderfireError:
    """Tell a mistake in the user's words."""
    loc: tuple[str | int, ...] = tuple(error["loc"])
    deepest = next((loc[:i] for i in range(len(loc), -1, -1) if loc[:i] in lines), None)
    at = who if deepest is None else f"{who}, line {lines[deepest]}"
    word = str(loc[-1]) if loc else ""
    if error["type"] == "extra_forbidden":
        kind = "where" if "where" in loc else "rule" if "rules" in loc else "policy"
        return UnderfireError(
            f"{at}: {unknown('setting of a ' + kind if kind != 'where' else 'column', word, _KNOWN[kind])}"
        )
    if word == "measure" and error["type"] == "literal_error":
        return UnderfireError(f"{at}: {unknown('measure', str(error['input'])[:100], MEASURES)}")
    if error["type"] == "missing":
        return UnderfireError(f"{at}: it does not say '{word}'.")
    said = error["msg"].removeprefix("Value error, ").rstrip(".")
    if error["type"] == "value_error":
        return UnderfireError(f"{at}: {said}.")
    named = next((str(part) for part in reversed(loc) if isinstance(part, str) and part in _ALL), word)
    return UnderfireError(f"{at}: {named} {str(error['input'])[:100]!r}: {said[0].lower()}{said[1:]}.")


_ALL = {name for fields in _KNOWN.values() for name in fields}
