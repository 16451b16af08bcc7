"""Weights from a file: they load without running code, and a misfit says which keys and which shapes."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from timm.data import ImageNetInfo
from torch import Tensor, nn

from underfire.core import ClassifierOptions, ClassNames, Preprocess, UnderfireError, unknown

State = dict[str, Tensor]
INTERPOLATIONS = ("bilinear", "bicubic", "lanczos", "nearest")
PREFIXES = ("module.", "model.", "_orig_mod.")


def read(path: str) -> tuple[State, dict[str, str]]:
    """Weights and metadata of a checkpoint file.

    Raises:
        UnderfireError: missing, no checkpoint, or one that wants to run code.
    """
    if not Path(path).is_file():
        raise UnderfireError(f"There is no weights file '{path}': --weights takes a safetensors file or a checkpoint.")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as e:
        if path.endswith(".safetensors"):
            raise UnderfireError(f"'{path}' is no whole safetensors file ({e}): save or copy it again.") from e
    return _unwrapped(_unpickled(path), path), {}


def _unpickled(path: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        raise UnderfireError(
            f"'{path}' holds more than weights and would run code when loaded, so it was not: save the bare "
            "state_dict, best as safetensors."
        ) from e
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as e:
        raise UnderfireError(f"'{path}' is no checkpoint that PyTorch can read: save the state_dict again.") from e


def _unwrapped(content: Any, path: str) -> State:
    """The state dict inside a training checkpoint, without the prefixes that wrappers add."""
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor) for v in content.values()):
        raise UnderfireError(f"'{path}' holds no weights by name: save the network's state_dict.")
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def fit(module: nn.Module, state: State, path: str, architecture: str) -> None:
    """Load a state dict that must fit exactly (batch counters of batch norm aside)."""
    own = module.state_dict()
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    extra = [key for key in state if key not in own]
    shapes = [
        f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    problems = [
        f"{len(found)} {what} ({', '.join(found[:3])}{', …' if len(found) > 3 else ''})"
        for what, found in (("missing", missing), ("not known", extra), ("of another shape", shapes))
        if found
    ]
    if problems:
        raise UnderfireError(
            f"'{path}' does not fit {architecture}: {'; '.join(problems)}. Name the architecture that it was trained "
            "as with --classifier."
        )
    module.load_state_dict(state, strict=False)


def fit_in_order(module: nn.Module, state: State, architecture: str) -> None:
    """Load weights whose keys are named otherwise but come in the module's own order; every shape is checked."""
    own = module.state_dict()
    wrong = [
        f"{theirs} {tuple(value.shape)} for {mine} {tuple(own[mine].shape)}"
        for mine, (theirs, value) in zip(own, state.items(), strict=False)
        if value.shape != own[mine].shape
    ]
    if wrong or len(own) != len(state):
        raise UnderfireError(
            f"The packaged weights do not fit this version of timm's {architecture}: {len(state)} entries for "
            f"{len(own)}; {'; '.join(wrong[:3])}. Install the versions in constraints.txt."
        )
    module.load_state_dict(dict(zip(own, state.values(), strict=True)))


def policy(base: Preprocess, metadata: Mapping[str, str], options: ClassifierOptions) -> Preprocess:
    """The input policy: the architecture's, then the file's metadata, then the flags.

    A new input size without a resize keeps the architecture's share of the picture.
    """
    found: dict[str, Any] = {}
    for key, read_value in (("input_size", _side), ("resize", _side), ("mean", _three), ("std", _three)):
        if key in metadata:
            try:
                found[key] = read_value(metadata[key])
            except ValueError as e:
                raise UnderfireError(
                    f"The checkpoint's metadata says {key} = '{metadata[key]}', which is no number or three: give "
                    f"--{key.replace('_', '-')}."
                ) from e
        if getattr(options, key) is not None:
            found[key] = getattr(options, key)
    if metadata.get("interpolation"):
        found["interpolation"] = metadata["interpolation"]
    if "input_size" in found and "resize" not in found:
        found["resize"] = round(found["input_size"] * base.resize / base.input_size)
    new = replace(base, **found)
    if new.interpolation not in INTERPOLATIONS:
        raise unknown("interpolation", new.interpolation, INTERPOLATIONS)
    if new.resize < new.input_size or new.input_size < 1 or min(new.std) <= 0:
        raise UnderfireError(
            f"Input size {new.input_size}, resize {new.resize}, std {new.std} make no picture: the resize must not be "
            "smaller than the input size, and std must be above 0."
        )
    return new


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
        names = named(_list(metadata["classes"], "the checkpoint's metadata"))
    elif k == 1000:
        names = named(ImageNetInfo().label_names())
    else:
        names = ClassNames(tuple(f"class {i}" for i in range(k)))
    if len(names) != k:
        raise UnderfireError(
            f"{len(names)} class names ({options.classes or 'in the checkpoint'}) for a classifier of {k} outputs: "
            "give one a line, in the order of the outputs."
        )
    return names


def named(labels: list[str]) -> ClassNames:
    """Class names from labels, WordNet ids among them spelled out."""
    info = ImageNetInfo()
    known = set(info.label_names())
    if all(label in known for label in labels):
        return ClassNames(
            tuple(info.label_name_to_description(label, detailed=False) for label in labels), tuple(labels)
        )
    return ClassNames(tuple(labels))


def _list(text: str, where: str) -> list[str]:
    """A list written as JSON or with commas."""
    if not text.lstrip().startswith("["):
        return [word.strip() for word in text.split(",")]
    try:
        return [str(label) for label in json.loads(text)]
    except json.JSONDecodeError as e:
        raise UnderfireError(f"The class names in {where} are no whole JSON list ({e}).") from e


def _names_file(path: str) -> ClassNames:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise UnderfireError(
            f"Cannot read the class names in '{path}': --classes takes a text file, one a line."
        ) from e
    if text.lstrip().startswith("["):
        return named(_list(text, f"'{path}'"))
    rows = [line.split("\t") for line in text.splitlines() if line.strip()]
    if rows and all(len(row) == 2 for row in rows):
        return ClassNames(tuple(name.strip() for _, name in rows), tuple(key.strip() for key, _ in rows))
    return named([row[-1].strip() for row in rows])
