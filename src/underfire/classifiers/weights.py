"""Weights from a file: they load without running code, and an error says which keys and shapes do not fit."""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from underfire.classifiers.kinds import called_by, refuse_foreign
from underfire.core import DamagedFileError, MismatchError, NotFoundError, UnsafeFileError

State = dict[str, Tensor]
"""Weights by name."""
AVERAGED, RAW = ("state_dict_ema", "model_ema"), ("state_dict", "model", "model_state_dict")
"""Keys of averaged weights in training checkpoints, and of the weights of the last step."""
ENTRY = "entry"
"""Key of the metadata that says which of several weights in a file were taken."""
PREFIXES = ("module.", "model.", "_orig_mod.")
"""Prefixes that wrappers of networks add to names."""


def read(path: str) -> tuple[State, dict[str, str]]:
    """Read the weights and the metadata of a checkpoint file.

    Where a training checkpoint has averaged weights too, these are taken, as timm does, since they are deployed; the
    metadata then say so under `ENTRY`.

    Raises:
        UnderfireError: there is no such file, it is no checkpoint, or it would run code.
    """
    if not Path(path).is_file():
        raise NotFoundError(f"There is no weights file '{path}': --weights takes a safetensors file or a checkpoint.")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except Exception as e:  # SafetensorError, and whatever a damaged header makes of types and shapes
        if _looks_safe(path):
            raise DamagedFileError(f"'{path}' is not a complete safetensors file ({e}): save or copy it again.") from e
    refuse_foreign(path)
    return _unwrapped(_unpickled(path), path)


def _looks_safe(path: str) -> bool:
    """Tell whether a file that did not open begins as a safetensors file: eight bytes of length, then JSON."""
    try:
        with Path(path).open("rb") as file:
            return file.read(9)[6:] == b"\0\0{"
    except OSError:
        return False


def _unpickled(path: str) -> Any:
    try:
        with warnings.catch_warnings(), Path(path).open("rb") as file:  # by its content, whatever it is called
            warnings.simplefilter("ignore")  # on protocols and storages: what matters is whether it loads
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as e:  # a damaged pickle makes the unpickler raise whatever comes
        told = re.search(r"GLOBAL (\S+)", str(e))
        asked = (told[1] if told else called_by(path)) if isinstance(e, pickle.UnpicklingError) else ""
        if asked:
            raise UnsafeFileError(
                f"'{path}' holds more than weights ({asked}): loading it would run code, so it was not loaded. Save "
                "the state_dict alone, best as safetensors."
            ) from e
        raise DamagedFileError(
            f"'{path}' is no checkpoint that PyTorch can read, or it is damaged: save the state_dict again."
        ) from e


def _unwrapped(content: Any, path: str) -> tuple[State, dict[str, str]]:
    """Find the state dict inside a training checkpoint, remove the prefixes that wrappers add, and say where it was."""
    entries = []
    for keys in (AVERAGED + RAW, RAW):
        found = [key for key in keys if isinstance(content, Mapping) and _is_state(content.get(key))]
        if found:
            content = content[found[0]]
            entries.append(found[0])
    if not _is_state(content) or not any(isinstance(v, Tensor) for v in content.values()):
        raise DamagedFileError(f"'{path}' holds no named weights: save the network's state_dict.")
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    odd = next((key for key, value in state.items() if not _is_plain(value)), None)
    if odd is not None:
        raise DamagedFileError(f"'{path}' holds '{odd}' in a form that no network has: save the state_dict again.")
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    averaged = [entry for entry in entries if entry in AVERAGED]
    return state, {ENTRY: averaged[0]} if averaged else {}


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) > 0


def _is_plain(value: Tensor) -> bool:
    """Tell whether a tensor has memory for all its numbers: a tensor of a few bytes can claim a terabyte."""
    return (
        value.layout == torch.strided
        and not value.is_quantized
        and value.device.type == "cpu"
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def fit(module: nn.Module, state: State, path: str, architecture: str) -> None:
    """Load a state dict that must fit exactly, except for the batch counters of batch norm.

    Args:
        module: the network.
        state: the weights.
        path: name of their file in an error.
        architecture: name of the network in an error.

    Raises:
        UnderfireError: missing or unknown keys, or other shapes.
    """
    problems = [
        f"{len(found)} {what} ({', '.join(found[:3])}{', …' if len(found) > 3 else ''})"
        for what, found in _misfits(module.state_dict(), state)
        if found
    ]
    if problems:
        raise MismatchError(
            f"'{path}' does not fit {architecture}: {'; '.join(problems)}. Give --classifier with the architecture "
            "that was trained."
        )
    module.load_state_dict(state, strict=False)


def _misfits(own: State, state: State) -> Iterator[tuple[str, list[str]]]:
    """Yield what does not fit, and the keys, with shapes or types where these are wrong."""
    both = [key for key in own if key in state]
    yield "missing", [key for key in own if key not in state and not key.endswith("num_batches_tracked")]
    yield "not known", [key for key in state if key not in own]
    yield (
        "of another shape",
        [
            f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
            for key in both
            if state[key].shape != own[key].shape
        ],
    )
    yield (
        "of another type",
        [
            f"{key} {state[key].dtype} for {own[key].dtype}"
            for key in both
            if state[key].is_floating_point() != own[key].is_floating_point()
        ],
    )


def fit_in_order(module: nn.Module, state: State, architecture: str) -> None:
    """Load weights that have other names but the module's own order; every shape is checked.

    Raises:
        UnderfireError: another number of weights, or other shapes.
    """
    own = module.state_dict()
    wrong = [
        f"{theirs} {tuple(value.shape)} for {mine} {tuple(own[mine].shape)}"
        for mine, (theirs, value) in zip(own, state.items(), strict=False)
        if value.shape != own[mine].shape
    ]
    if wrong or len(own) != len(state):
        raise MismatchError(
            f"The packaged weights do not fit this version of timm's {architecture}: {len(state)} entries for "
            f"{len(own)}; {'; '.join(wrong[:3])}. Install the versions in constraints.txt."
        )
    module.load_state_dict(dict(zip(own, state.values(), strict=True)))
