"""What lies in a training checkpoint: which of several weights are deployed, and under which key they lie."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from underfire.core import DamagedFileError, MismatchError, unknown

State = dict[str, Tensor]
"""Weights by name."""
AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "params_ema", "ema")
"""Keys of averaged weights in training checkpoints."""
RAW = ("state_dict", "model", "model_state_dict", "net", "network", "params")
"""Keys of the weights of the last step."""
ENTRY = "entry"
"""Key of the metadata that says which of several weights in a file were taken."""
WRAPPERS = ("module.", "_orig_mod.", "model.", "net.", "backbone.", "network.")
"""Prefixes that wrappers of networks add to names, in any order."""
PACKED = ("_packed_params", "qweight", "qzeros", "SCB", "absmax", "quant_state", "weight_scale", "zero_point", "scb")
"""Last or second last parts of the names that only quantised weights have (PyTorch, GPTQ, bitsandbytes)."""


def unwrapped(content: Any, path: str, key: str | None) -> tuple[State, dict[str, str]]:
    """Find the weights in what a checkpoint holds.

    Args:
        content: what was loaded.
        path: its file in an error.
        key: the user's choice, such as ``teacher``; None: the averaged weights, as timm takes them, else the others.

    Returns:
        The weights, and metadata that say under `ENTRY` which of several were taken.

    Raises:
        UnderfireError: there are none, no such key, or they are quantised.
    """
    content, entry = (content, "") if key is None else _asked(content, key, path)
    content, inner = _deployed(content)
    if not _is_state(content) or not any(isinstance(v, Tensor) for v in content.values()):
        raise _no_weights(content, path)
    refuse_quantised(((str(k), v) for k, v in content.items()), path)
    state = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    odd = next((k for k, value in state.items() if not _is_plain(value)), None)
    if odd is not None:
        raise DamagedFileError(f"'{path}' holds '{odd}' in a form that no network has: save the state_dict again.")
    entry = entry or inner
    return without_wrappers(state), {ENTRY: entry} if entry else {}


def below(state: State, key: str, path: str) -> State:
    """Pick the weights whose names begin with a key.

    Raises:
        UnderfireError: there are none.
    """
    found = {name.removeprefix(f"{key}."): value for name, value in state.items() if name.startswith(f"{key}.")}
    if not found:
        raise unknown(f"key in '{path}'", key, dict.fromkeys(name.partition(".")[0] for name in state))
    return found


def without_wrappers(state: State) -> State:
    """Remove the prefixes of wrappers that all names share."""
    prefix = next((p for p in WRAPPERS if state and all(name.startswith(p) for name in state)), None)
    return state if prefix is None else without_wrappers({k.removeprefix(prefix): v for k, v in state.items()})


def refuse_quantised(entries: Iterable[tuple[str, Any]], path: str) -> None:
    """Raise MismatchError for weights that were quantised."""
    for name, value in entries:
        if any(part in PACKED for part in name.split(".")[-2:]) or (isinstance(value, Tensor) and value.is_quantized):
            raise MismatchError(
                f"'{path}' holds quantised weights ('{name}'), which have no gradient: give the weights from before "
                "quantisation."
            )


def _asked(content: Any, key: str, path: str) -> tuple[Any, str]:
    """Follow the user's key into the mappings, then into the names of the weights."""
    if _is_state(content) and _is_state(content.get(key)):
        return content[key], key
    first, _, rest = key.partition(".")
    if rest and _is_state(content) and _is_state(content.get(first)):
        return _asked(content[first], rest, path)[0], key
    inside, entry = _deployed(content)
    state = {str(k): v for k, v in inside.items() if isinstance(v, Tensor)} if _is_state(inside) else {}
    there = [str(k) for k, v in content.items() if _is_state(v)] if _is_state(content) else []
    if not any(name.startswith(f"{key}.") for name in state) and there:
        raise unknown(f"key in '{path}'", key, there)
    return below(state, key, path), f"{entry}.{key}".removeprefix(".")


def _deployed(content: Any) -> tuple[Any, str]:
    """Follow the usual keys; return what lies there, and the key where these are averaged weights."""
    taken = []
    for keys in (AVERAGED + RAW, RAW):
        found = [key for key in keys if _is_state(content) and _holds_weights(content.get(key))]
        if found:
            content = content[found[0]]
            taken.append(found[0])
    return content, next((key for key in taken if key in AVERAGED), "")


def _no_weights(content: Any, path: str) -> Exception:
    inside = [str(key) for key, value in _weights_in(content)] if _is_state(content) else []
    if inside:
        return MismatchError(
            f"'{path}' holds weights under {', '.join(inside[:6])}: choose with --key, such as --key {inside[0]}."
        )
    return DamagedFileError(f"'{path}' holds no named weights: save the network's state_dict.")


def _weights_in(content: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    yield from (
        (key, value)
        for key, value in content.items()
        if _is_state(value) and any(isinstance(one, Tensor) for one in value.values())
    )


def _holds_weights(value: Any) -> bool:
    """Tell whether there are weights by name at any depth: averaged ones can be a bare list, beside counters."""
    return isinstance(value, Tensor) or (_is_state(value) and any(map(_holds_weights, value.values())))


def _is_state(value: Any) -> bool:
    return isinstance(value, Mapping) and len(value) > 0


def _is_plain(value: Tensor) -> bool:
    """Tell whether a tensor has memory for all its numbers: a tensor of a few bytes can claim a terabyte."""
    return (
        value.layout == torch.strided
        and value.device.type == "cpu"
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )
