"""The input policy and the class names of a classifier: from the user's flags, a file's metadata, or the default."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from timm.data import ImageNetInfo

from underfire.classifiers import labels
from underfire.classifiers.outputs import named_outputs
from underfire.classifiers.sound import by_channel, sound
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
    for key, read_value in (("input_size", _size), ("resize", _side), ("mean", _by_channel), ("std", _by_channel)):
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
    if options.scale is not None:
        found |= _in_unit(options)
    for key in ("mean", "std"):
        if key in found:
            found[key] = by_channel(key, found[key], base.channels)
    if options.channels not in (None, base.channels):
        raise UnderfireError(f"--channels {options.channels}: this network takes {base.channels}; leave it out.")
    interpolation = options.interpolation or metadata.get("interpolation")
    if interpolation:
        found["interpolation"] = interpolation
    found |= _sides(found.get("input_size"))
    new = replace(base, **found)
    if "input_size" in found and "resize" not in found:
        new = replace(new, resize=round(min(new.size) * base.resize / min(base.size)))
    return sound(new)


def side_asked(options: ClassifierOptions) -> int | None:
    """Return the side, px, of a square input that is asked for; None where none is.

    Raises:
        UnderfireError: height and width are asked for, and differ.
    """
    size = options.input_size
    if size is None or isinstance(size, int):
        return size
    raise UnderfireError(f"--input-size {size[0]}x{size[1]}: this kind of classifier takes square inputs: give a side.")


def _sides(size: int | tuple[int, int] | None) -> dict[str, int | None]:
    """Say an input size as the policy does; nothing where there is none."""
    if size is None:
        return {}
    height, width = (size, size) if isinstance(size, int) else size
    return {"input_size": height, "width": None if width == height else width}


def _in_unit(options: ClassifierOptions) -> dict[str, Any]:
    """Read mean and std in the unit of --scale; without them, pixels are not shifted and white is the scale."""
    scale = options.scale or 1.0
    mean, std = options.mean or (0.0,), options.std or (1.0,)
    return {"mean": tuple(m / scale for m in mean), "std": tuple(s / scale for s in std)}


def _numbers(value: str) -> tuple[float, ...]:
    """Read the numbers of a metadata string: '128', '3,128,128' or '[0.5, 0.5, 0.5]'."""
    return tuple(float(word) for word in value.strip("[]() ").split(","))


def _by_channel(value: str) -> tuple[float, ...]:
    numbers = _numbers(value)
    if len(numbers) not in (1, 3):
        raise ValueError(value)
    return numbers


def _side(value: str) -> int:
    return int(_numbers(value)[-1])


def _size(value: str) -> tuple[int, int]:
    """Read a height and a width; one number is both."""
    height, width = (_numbers(value) * 2)[-2:] if len(_numbers(value)) == 1 else _numbers(value)[-2:]
    return int(height), int(width)


def class_names(k: int, metadata: Mapping[str, str], options: ClassifierOptions) -> ClassNames:
    """Name the classes of ``k`` outputs: from the user's file, the checkpoint's metadata, ImageNet-1k, or numbers.

    One output is two classes: first that of a low output, then that of a high one.

    Args:
        k: number of outputs.
        metadata: of the weights' file.
        options: the user's flags.

    Raises:
        UnderfireError: a file that cannot be read, or a wrong number of names.
    """
    outputs, k = k, named_outputs(k)
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
            f"{len(names)} class names ({options.classes or 'in the checkpoint'}) for a classifier of "
            + (
                "one output: give two lines, the class of a low output and that of a high one."
                if outputs == 1
                else f"{k} outputs: give one name on each line, in the order of the outputs."
            )
        )
    return names


NUMBERS = "numbers"
"""Where the names of classes are from that nobody names."""


def classes_from(k: int, metadata: Mapping[str, str], options: ClassifierOptions) -> str:
    """Say where the names that `class_names` gives are from; the same arguments."""
    if options.classes is not None:
        return f"the file {options.classes}"
    if "classes" in metadata:
        return "the network's own file"
    return "those of ImageNet-1k, since it has 1,000 outputs" if named_outputs(k) == 1000 else NUMBERS


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
