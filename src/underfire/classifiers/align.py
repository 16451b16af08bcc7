"""Names of weights, brought to a network's own: prefixes in any order, other things beside, a normaliser inside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from underfire.classifiers.checkpoints import State
from underfire.core import MismatchError

INNER = ("_orig_mod", "module")
"""Parts of names that compiled and parallel modules add anywhere."""
MEANS, SPREADS = ("mean", "mu", "new_mean", "_mean", "means"), ("std", "sigma", "new_std", "_std", "stds")
"""Last parts of the names of a normaliser's two buffers."""


@dataclass(frozen=True)
class Aligned:
    """Weights by a network's own names.

    Args:
        state: the weights.
        prefix: what stood before their names; '' for nothing.
        beside: names of what else is in the file.
        normaliser: mean and std of a normaliser in the file, as metadata have them: one number or three; or nothing.
    """

    state: State
    prefix: str
    beside: tuple[str, ...]
    normaliser: Mapping[str, str]

    @property
    def found(self) -> Iterator[str]:
        """Say what was found beside the network."""
        if self.normaliser:
            yield "The normaliser in the weights' file is the input policy; it is applied once."
        if self.beside:
            more = f" and {len(self.beside) - 3} more" if len(self.beside) > 3 else ""
            yield f"Left out of the weights' file: {', '.join(self.beside[:3])}{more}."


def align(state: State, own: State, path: str) -> Aligned:
    """Find a network's weights in a file that calls them by longer names.

    Args:
        state: the weights by their names in the file.
        own: the network's own state.
        path: the file in an error.

    Raises:
        MismatchError: several networks lie in it, and none is the averaged one; or it has a head on top of this one.
    """
    prefix, whole = _prefix(state, own, path)
    if not whole:
        state = _without_inner(state, own)
        prefix, _ = _prefix(state, own, path)
    normaliser, used = _normaliser({name: value for name, value in state.items() if name not in own})
    inside = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix) and k not in used}
    inside.pop("n_averaged", None)  # torch's own count of averaged steps
    beside = tuple(k for k in state if not k.startswith(prefix) and k not in used and not k.endswith("n_averaged"))
    _refuse_head_on_top({name: state[name] for name in beside}, own, path)
    return Aligned(inside, prefix, beside, normaliser)


def _refuse_head_on_top(beside: State, own: State, path: str) -> None:
    """Raise MismatchError for a matrix beside a network that takes its outputs, and is no part of a copy of it."""
    outputs = next((value.shape[0] for value in reversed(own.values()) if value.dim() > 1), None)
    for name, value in beside.items():
        copied = any(rest in own and own[rest].shape == value.shape for _, rest in _splits(name))
        if value.dim() == 2 and value.shape[1] == outputs and not copied:
            raise MismatchError(
                f"'{path}' holds '{name}' {tuple(value.shape)} beside the network, whose {outputs} outputs fit it. "
                "A head of its own would be left out: build the whole network in Python and wrap it (underfire.wrap)."
            )


def _without_inner(state: State, own: State) -> State:
    """Remove what wrappers have put into the middle of names, unless the network has such names itself."""
    parts = {part for name in own for part in name.split(".")}
    drop = [part for part in INNER if part not in parts]
    short = {".".join(p for p in name.split(".") if p not in drop): value for name, value in state.items()}
    return short if len(short) == len(state) else state


def _prefix(state: State, own: State, path: str) -> tuple[str, bool]:
    """Find the prefix under which most of the network's names lie, and tell whether all of them do."""
    counts: Counter[str] = Counter()
    for name in state:
        counts.update(prefix for prefix, rest in _splits(name) if rest in own)
    needed = {name: value.shape for name, value in own.items() if not name.endswith("num_batches_tracked")}
    none = torch.empty(0, 0)
    whole = [
        p for p in sorted(counts, key=len) if all(state.get(f"{p}{k}", none).shape == s for k, s in needed.items())
    ]
    if not whole:
        return max(counts, key=lambda p: (counts[p], -len(p)), default=""), False
    others = [p for p in whole[1:] if not _same(state, whole[0], p, needed)]
    if not others:
        return whole[0], True
    averaged = [p for p in whole if "ema" in p.lower() or "averaged" in p.lower()]
    if averaged:
        return averaged[0], True
    named = [p.rstrip(".") or "no prefix" for p in (whole[0], *others)]
    raise MismatchError(f"'{path}' holds several such networks ({', '.join(named)}): choose one with --key.")


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Yield the ways to cut a name into a prefix of whole parts and the rest."""
    parts = name.split(".")
    for i in range(len(parts)):
        yield "".join(f"{part}." for part in parts[:i]), ".".join(parts[i:])


def _same(state: State, one: str, other: str, names: Iterable[str]) -> bool:
    """Tell whether the same weights lie under two prefixes, as in an attacker that holds its network."""
    return all(torch.equal(state[f"{one}{name}"], state[f"{other}{name}"]) for name in names)


def _normaliser(strangers: State) -> tuple[dict[str, str], set[str]]:
    """Find the mean and std of a normaliser, in the unit of pixels in [0, 1]; and the names of all such buffers."""
    found: dict[str, str] = {}
    used: set[str] = set()
    for name, mean in strangers.items():
        parent, last = name.rpartition(".")[::2]
        spread = next((s for s in (f"{parent}.{x}".lstrip(".") for x in SPREADS) if s in strangers), None)
        if last not in MEANS or spread is None:
            continue
        std = strangers[spread]
        if not {mean.numel(), std.numel()} <= {1, 3}:
            continue
        used |= {name, spread}
        unit = 255.0 if max(float(mean.max()), float(std.max())) > 1 else 1.0
        found = found or {"mean": _word(mean, unit), "std": _word(std, unit)}
    return found, used


def _word(value: Tensor, unit: float) -> str:
    return ",".join(f"{number / unit:.8g}" for number in value.flatten().tolist())
