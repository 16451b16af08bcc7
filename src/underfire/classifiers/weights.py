"""Weights from a file: they load without running code, and an error says which keys and shapes do not fit."""

from __future__ import annotations

import argparse
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import nn

from underfire.classifiers.align import align
from underfire.classifiers.checkpoints import ENTRY, State, unwrapped
from underfire.classifiers.kinds import called_by, refuse_foreign
from underfire.core import DamagedFileError, MismatchError, NotFoundError, UnsafeFileError

FOUND = "found"
"""Key of the metadata that says what was found beside the weights."""


def read(path: str, key: str | None = None) -> tuple[State, dict[str, str]]:
    """Read the weights and the metadata of a checkpoint file.

    Where a training checkpoint has averaged weights too, these are taken, as timm does, since they are deployed; the
    metadata then say so under `ENTRY`.

    Args:
        path: the file.
        key: which of several weights in it; None: those that are deployed.

    Raises:
        UnderfireError: there is no such file, it is no checkpoint, or it would run code.
    """
    if not Path(path).is_file():
        raise NotFoundError(f"There is no weights file '{path}': --weights takes a safetensors file or a checkpoint.")
    try:
        with safe_open(path, framework="pt") as file:
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except Exception as e:  # SafetensorError, and whatever a damaged header makes of types and shapes
        if _looks_safe(path):
            raise DamagedFileError(f"'{path}' is not a complete safetensors file ({e}): save or copy it again.") from e
        refuse_foreign(path)
        return unwrapped(_unpickled(path), path, key)
    found, entry = unwrapped(state, path, key)
    return found, metadata | entry


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
            with torch.serialization.safe_globals([argparse.Namespace]):  # timm's training checkpoints have one
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


def fit(module: nn.Module, state: State, path: str, architecture: str) -> dict[str, str]:
    """Load weights that must fit exactly, except for prefixes and the batch counters of batch norm.

    Args:
        module: the network.
        state: the weights.
        path: name of their file in an error.
        architecture: name of the network in an error.

    Returns:
        What the weights say beside, as metadata: a normaliser's mean and std, the prefix of averaged weights.

    Raises:
        UnderfireError: missing or unknown keys, or other shapes.
    """
    aligned = align(state, module.state_dict(), path)
    problems = [
        f"{len(found)} {what} ({', '.join(found[:3])}{', …' if len(found) > 3 else ''})"
        for what, found in _misfits(module.state_dict(), aligned.state)
        if found
    ]
    if problems:
        raise MismatchError(
            f"'{path}' does not fit {architecture}: {'; '.join(problems)}. Give --classifier with the architecture "
            "that was trained."
        )
    module.load_state_dict(_as_own(aligned.state, module), strict=False)
    averaged = "ema" in aligned.prefix or "averaged" in aligned.prefix
    said = {FOUND: " ".join(aligned.found), ENTRY: aligned.prefix.rstrip(".") if averaged else ""}
    return {**aligned.normaliser, **{key: word for key, word in said.items() if word}}


def _as_own(state: State, module: nn.Module) -> State:
    """Give weights that fit the versions of the module's own parts: safetensors hold none, and some modules ask."""
    own = OrderedDict(state)
    own._metadata = getattr(module.state_dict(), "_metadata", {})  # type: ignore[attr-defined]
    return own


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
