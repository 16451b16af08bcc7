"""Input policy and class names of a classifier: what its metadata says, what the user says, and what is usual."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from timm.data import ImageNetInfo

from underfire.classifiers import labels
from underfire.classifiers.sound import sound
from underfire.core import ClassifierOptions, ClassNames, Preprocess, UnderfireError


def policy(base: Preprocess, metadata: Mapping[str, str], options: ClassifierOptions) -> Preprocess:
    """The input policy: the architecture's, then the file's metadata, then the flags.

    A new input size without a resize keeps the architecture's share of the picture.
    """
    found: dict[str, Any] = {}
    for key, read_value in (("input_size", _side), ("resize", _side), ("mean", _three), ("std", _three)):
        if getattr(options, key) is not None:
            found[key] = getattr(options, key)
        elif key in metadata:
            try:
                found[key] = read_value(metadata[key])
            except ValueError as e:
                raise UnderfireError(
                    f"The checkpoint's metadata says {key} = '{metadata[key]}', which is no number or three: give "
                    f"--{key.replace('_', '-')}."
                ) from e
    interpolation = options.interpolation or metadata.get("interpolation")
    if interpolation:
        found["interpolation"] = interpolation
    if "input_size" in found and "resize" not in found:
        found["resize"] = round(found["input_size"] * base.resize / base.input_size)
    new = replace(base, **found)
    return sound(new)


def _numbers(value: str) -> list[float]:
    """Numbers of a metadata string: '128', '3,128,128' or '[0.5, 0.5, 0.5]'."""
    return [float(word) for word in value.strip("[]() ").split(",")]


def _side(value: str) -> int:
    return int(_numbers(value)[-1])


def _three(value: str) -> tuple[float, float, float]:
    r, g, b = _numbers(value)
    return r, g, b


def class_names(k: int, metadata: Mapping[str, str], options: ClassifierOptions) -> ClassNames:
    """Names of ``k`` outputs: from the flag's file, the checkpoint's metadata, ImageNet-1k, or numbers."""
    if options.classes is not None:
        names = _names_file(options.classes)
    elif "classes" in metadata:
        names = _in_metadata(metadata["classes"])
    elif k == 1000:
        names = labels.named(ImageNetInfo().label_names())
    else:
        names = ClassNames(tuple(f"class {i}" for i in range(k)))
    if len(names) != k:
        raise UnderfireError(
            f"{len(names)} class names ({options.classes or 'in the checkpoint'}) for a classifier of {k} outputs: "
            "give one a line, in the order of the outputs."
        )
    return names


def _in_metadata(text: str) -> ClassNames:
    """As a file has them, or with commas."""
    if text.lstrip()[:1] in ("[", "{") or "\n" in text.strip():
        return labels.parse(text, "the checkpoint's metadata")
    return labels.named([word.strip() for word in text.split(",")])


def _names_file(path: str) -> ClassNames:
    try:
        content = Path(path).read_bytes()
        text = content.decode("utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise UnderfireError(
            f"Cannot read the class names in '{path}': --classes takes a text file in UTF-8, one a line."
        ) from e
    return labels.parse(text, f"'{path}'")
