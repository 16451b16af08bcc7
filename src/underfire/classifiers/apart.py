"""A copy of the user's network that shares its weights, so that the user's own module stays exactly as it is.

Why a copy, and not the module itself in eval mode for the time of each call: the backward comes after the call, and so
does what a checkpointed block computes again in it; threads need not wait for each other; after an exception nothing
must be restored; and a step costs no more. The weights share their memory, so the copy costs the buffers only.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from underfire.core import UnderfireError

Function = Callable[..., Any]


def apart(module: nn.Module, name: str, functions: list[Function | None]) -> tuple[nn.Module, list[Function | None]]:
    """Make a copy in eval mode with frozen weights, and let the functions that read the module read the copy.

    Args:
        module: the user's module.
        name: its name in an error.
        functions: methods of the module or of its parts, submodules, partials of these. A function of another kind
            still reads the user's module, which must then be in eval mode.

    Raises:
        UnderfireError: a module that cannot be copied, or that has no gradient.
    """
    if any("quantized" in type(part).__module__ for part in module.modules()):
        raise UnderfireError(f"'{name}' is quantised, so it has no gradient: give the network before quantisation.")
    known = {id(t): shared for t, shared in _shared(module)}
    try:
        with torch.no_grad():
            ours = copy.deepcopy(module, known)
            theirs = [copy.deepcopy(function, known) for function in functions]
    except Exception as e:  # a module can hold anything: locks, files, a whole training
        raise UnderfireError(
            f"'{name}' cannot be copied ({type(e).__name__}: {first_line(e)}): underfire works on a copy, so that "
            "yours stays as it is. Wrap the network alone, without what trains it."
        ) from e
    for p in ours.eval().parameters():
        p.requires_grad_(False)
    return ours, [
        partial(_of_theirs, given, module, name) if copied is given and given is not None else copied
        for given, copied in zip(functions, theirs, strict=True)
    ]


def first_line(error: Exception) -> str:
    """Return the first line of an exception's text."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")


def _shared(module: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the tensors of a module that are not copied, and what the copy has in their place."""
    for part in module.modules():
        if isinstance(part, torch.jit.ScriptModule):
            continue
        for p in part._parameters.values():
            if type(p) is nn.Parameter:
                yield p, nn.Parameter(p.detach(), requires_grad=False)
        for value in part.__dict__.values():
            if isinstance(value, Tensor) and not value.is_leaf:  # weight norm and spectral norm compute it anew
                yield value, value.detach().clone()


def _of_theirs(function: Function, module: nn.Module, name: str, x: Tensor) -> Any:
    if any(part.training for part in module.modules()):
        raise UnderfireError(
            f"features=, scores= or pyramid= of '{name}' read your network itself, which is in training mode: call "
            "eval() on it, or give a method of the network, which is then taken from underfire's own copy."
        )
    return function(x)
