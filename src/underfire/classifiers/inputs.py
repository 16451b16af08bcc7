"""The input policy and the class names of a classifier: from the user's flags, a file's metadata, or the default."""

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
    """Choose the input policy: flags win over the file's metadata, and these over the architecture's policy.

    A new input size without a resize keeps the share of the photo that the architecture's crop shows.

    Args:
        base: the architecture's policy.
        metadata: of the weights' file.
        options: the user's flags.

    Raises:
        UnderfireError: metadata that are no numbers, or sizes that do not fit together.
    """
    found: dict[str, Any] = {}
    if options.scale is None and options.mean is not None and max(options.mean) > 1:
        raise UnderfireError(
            f"--mean {','.join(f'{m:g}' for m in options.mean)}: it is for pixels in [0, 1]; add --scale 255 if the "
            "network takes levels."
        )
    for key, read_value in (("input_size", _side), ("resize", _side), ("mean", _three), ("std", _three)):
        if getattr(options, key) is not None:
            found[key] = getattr(options, key)
        elif key in metadata:
            try:
                found[key] = read_value(metadata[key])
            except ValueError as e:
                raise UnderfireError(
                    f"The checkpoint's metadata says {key} = '{metadata[key]}', which is not a number, or three of "
                    f"them: give --{key.replace('_', '-')}."
                ) from e
    interpolation = options.interpolation or metadata.get("interpolation")
    if interpolation:
        found["interpolation"] = interpolation
    if options.scale is not None:
        found |= _in_unit(options)
    if "input_size" in found and "resize" not in found:
        found["resize"] = round(found["input_size"] * base.resize / base.input_size)
    new = replace(base, **found)
    return sound(new)


def _in_unit(options: ClassifierOptions) -> dict[str, Any]:
    """Read mean and std in the unit of --scale; without them, pixels are not shifted and white is the scale."""
    scale = options.scale or 1.0
    mean, std = options.mean or (0.0,) * 3, options.std or (1.0,) * 3
    return {"mean": tuple(m / scale for m in mean), "std": tuple(s / scale for s in std)}


def _numbers(value: str) -> list[float]:
    """Read the numbers of a metadata string: '128', '3,128,128' or '[0.5, 0.5, 0.5]'."""
    return [float(word) for word in value.strip("[]() ").split(",")]


def _side(value: str) -> int:
    return int(_numbers(value)[-1])


def _three(value: str) -> tuple[float, float, float]:
    r, g, b = _numbers(value)
    return r, g, b


def class_names(k: int, metadata: Mapping[str, str], options: ClassifierOptions) -> ClassNames:
    """Name ``k`` outputs: from the user's file, else the checkpoint's metadata, else ImageNet-1k, else numbers.

    Args:
        k: number of outputs.
        metadata: of the weights' file.
        options: the user's flags.

    Raises:
        UnderfireError: a file that cannot be read, or a wrong number of names.
    """
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
            "give one name on each line, in the order of the outputs."
        )
    return names


def prompts(options: ClassifierOptions) -> ClassNames:
    """Read the texts that stand for the classes of a zero-shot classifier, one on each line.

    Raises:
        UnderfireError: there is no such file, or it has fewer than two lines.
    """
    names = _names_file(str(options.classes))
    if len(names) < 2:
        raise UnderfireError(f"'{options.classes}' has {len(names)} prompt: two classes or more are needed.")
    return names


def _in_metadata(text: str) -> ClassNames:
    """Read names as a file has them, or separated by commas."""
    if text.lstrip()[:1] in ("[", "{") or "\n" in text.strip():
        return labels.parse(text, "the checkpoint's metadata")
    return labels.named([word.strip() for word in text.split(",")])


def _names_file(path: str) -> ClassNames:
    try:
        content = Path(path).read_bytes()
        text = content.decode("utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise UnderfireError(
            f"Cannot read the class names in '{path}': --classes takes a text file in UTF-8 with one name on each line."
        ) from e
    return labels.parse(text, f"'{path}'")
