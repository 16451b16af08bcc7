"""Weights from a file: they load without running code, and an error says which keys and shapes do not fit."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from underfire.core import DamagedFileError, MismatchError, NotFoundError, UnsafeFileError

State = dict[str, Tensor]
"""Weights by name."""
PREFIXES = ("module.", "model.", "_orig_mod.")
"""Prefixes that wrappers of networks add to names."""


def read(path: str) -> tuple[State, dict[str, str]]:
    """Read the weights and the metadata of a checkpoint file.

    Raises:
        UnderfireError: there is no such file, it is no checkpoint, or it would run code.
    """
    if not Path(path).is_file():
        raise NotFoundError(f"There is no weights file '{path}': --weights takes a safetensors file or a checkpoint.")
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except SafetensorError as e:
        if path.endswith(".safetensors"):
            raise DamagedFileError(f"'{path}' is not a complete safetensors file ({e}): save or copy it again.") from e
    return _unwrapped(_unpickled(path), path), {}


def _unpickled(path: str) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as e:
        raise UnsafeFileError(
            f"'{path}' holds more than weights: loading it would run code, so it was not loaded. Save the state_dict "
            "alone, best as safetensors."
        ) from e
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as e:
        raise DamagedFileError(f"'{path}' is no checkpoint that PyTorch can read: save the state_dict again.") from e


def _unwrapped(content: Any, path: str) -> State:
    """Find the state dict inside a training checkpoint, and remove the prefixes that wrappers add."""
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not any(isinstance(v, Tensor) for v in content.values()):
        raise DamagedFileError(f"'{path}' holds no named weights: save the network's state_dict.")
    state = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    for prefix in PREFIXES:
        if all(key.startswith(prefix) for key in state):
            state = {key.removeprefix(prefix): value for key, value in state.items()}
    return state


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
        raise MismatchError(
            f"'{path}' does not fit {architecture}: {'; '.join(problems)}. Give --classifier with the architecture "
            "that was trained."
        )
    module.load_state_dict(state, strict=False)


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
