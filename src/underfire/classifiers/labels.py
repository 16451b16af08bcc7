"""Class names as people write them: lines, tables by index or by WordNet id, JSON, Python text."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from timm.data import ImageNetInfo

from underfire.core import ClassNames, UnderfireError

WORDNET = re.compile(r"n\d{8}")
INDEXED = re.compile(r"['\"]?(\d+)['\"]?(?:\s*[\t,;:]\s*|\s+-\s+|\s+)(\S.*)")
NUMBERED = re.compile(r"(.*[^\s,=:])(\s*[,=:]\s*|\s+)(\d+)")
BY_ID = re.compile(r"(n\d{8})(?:\s*[\t,;:]\s*|\s+)(\S.*)")


def parse(text: str, where: str) -> ClassNames:
    """Read class names in the order of the outputs.

    Args:
        text: lines of a name, of 'index name', of 'name,index' or of 'WordNet-id name'; or a JSON or Python list, or
            mapping by index.
        where: name of the text in an error.

    Raises:
        UnderfireError: an incomplete list or mapping, or indices that are not those of the outputs.
    """
    text = text.lstrip("\ufeff").strip()
    if text[:1] in ("[", "{"):
        return _structured(_literal(text, where), where)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise UnderfireError(
            f"There are no class names in {where}: give one name on each line, in the order of the outputs."
        )
    indexed = [INDEXED.fullmatch(line) for line in lines]
    if all(indexed):
        numbers = [int(found[1]) for found in indexed if found]
        if _first(numbers) is not None:
            return _by_index([(int(found[1]), found[2]) for found in indexed if found], where)
        if all("\t" in line for line in lines):
            raise _gaps(numbers, where)
    if numbered := _numbered(lines, where):
        return _by_index(numbered, where)
    ids = [BY_ID.fullmatch(line) for line in lines]
    if all(ids):
        return ClassNames(
            tuple(found[2].split("\t")[-1].strip() for found in ids if found), tuple(found[1] for found in ids if found)
        )
    return _tabled([line.split("\t") for line in lines])


def named(labels: list[str]) -> ClassNames:
    """Make class names from labels; WordNet ids become readable names."""
    info = ImageNetInfo()
    known = set(info.label_names())
    if all(label in known for label in labels):
        return ClassNames(
            tuple(info.label_name_to_description(label, detailed=False) for label in labels), tuple(labels)
        )
    return ClassNames(tuple(labels))


def _numbered(lines: list[str], where: str) -> list[tuple[int, str]]:
    """Read lines of a name and its index; none where they are none.

    A number that is all that differs is a part of the name, as in 'class 1'; so it is where it grows from line to line,
    unless a tab or a comma divides it from the name.

    Raises:
        UnderfireError: numbers behind tabs that are not those of the outputs.
    """
    found = [m for m in map(NUMBERED.fullmatch, lines) if m]
    pairs, marks = [(int(m[3]), m[1]) for m in found], "".join(m[2] for m in found)
    numbers = [index for index, _ in pairs]
    if len(found) < len(lines) or len({name for _, name in pairs}) == 1:
        return []
    if _first(numbers) is None:
        if all("\t" in m[2] for m in found):
            raise _gaps(numbers, where)
        return []
    return [] if numbers == sorted(numbers) and not set(marks) & {"\t", ","} else pairs


def _tabled(rows: list[list[str]]) -> ClassNames:
    """Read lines in the order of the outputs; where there are two columns, the first is a unique id."""
    if all(len(row) == 2 for row in rows):
        return ClassNames(tuple(name.strip() for _, name in rows), tuple(key.strip() for key, _ in rows))
    return named([row[-1].strip() for row in rows])


def _literal(text: str, where: str) -> Any:
    """Read JSON, or a Python list or mapping, without running code."""
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as e:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            raise UnderfireError(
                f"The class names in {where} are no complete list or mapping, neither in JSON nor in Python ({e})."
            ) from e


def _structured(content: Any, where: str) -> ClassNames:
    if isinstance(content, list | tuple) and all(isinstance(label, str | int | float) for label in content):
        return named([str(label).strip() for label in content])
    if isinstance(content, Mapping) and content:
        keys, values = list(content), list(content.values())
        if all(str(key).strip().isdecimal() for key in keys):
            return _by_index([(int(key), value) for key, value in content.items()], where)
        if all(isinstance(value, int) and not isinstance(value, bool) for value in values):  # name -> index
            return _by_index([(index, name) for name, index in content.items()], where)
    raise UnderfireError(
        f"The class names in {where} are neither a list of names nor a mapping by index: give one name on each line, "
        "in the order of the outputs."
    )


def _by_index(pairs: list[tuple[int, Any]], where: str) -> ClassNames:
    """Order names by their indices, which count from 0 or 1 without a gap; as in Keras, a name can be [id, name]."""
    numbers = [index for index, _ in pairs]
    if _first(numbers) is None:
        raise _gaps(numbers, where)
    values = [value for _, value in sorted(pairs, key=lambda pair: pair[0])]
    if all(isinstance(value, list | tuple) and len(value) == 2 for value in values):
        return ClassNames(tuple(str(name) for _, name in values), tuple(str(key) for key, _ in values))
    if not all(isinstance(value, str) for value in values):
        raise UnderfireError(f"Some class names in {where} are no words.")
    words = [value.rstrip(",").strip().strip("'\"") for value in values]
    ids = [BY_ID.fullmatch(word) for word in words]
    if all(ids):
        return ClassNames(tuple(m[2] for m in ids if m), tuple(m[1] for m in ids if m))
    return named(words)


def _first(numbers: list[int]) -> int | None:
    """Tell whether the numbers, in any order, count from 0 or from 1 without a gap; None where they do neither."""
    ordered = sorted(numbers)
    return next((start for start in (0, 1) if ordered == list(range(start, start + len(ordered)))), None)


def _gaps(numbers: list[int], where: str) -> UnderfireError:
    return UnderfireError(
        f"The class names in {where} have the indices {min(numbers)} to {max(numbers)} for {len(numbers)} names: they "
        "must count from 0 or 1, each once."
    )
