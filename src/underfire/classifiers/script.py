"""TorchScript files as classifiers. TorchScript is a language of its own: its programs cannot call Python.

They can compute without end, take memory, print, and read or write files by two operators; a file whose code has these,
or operators of other libraries, is refused before it is loaded.
"""

from __future__ import annotations

import hashlib
import re
import warnings
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from underfire.classifiers import given, inputs
from underfire.classifiers.base import TorchClassifier
from underfire.classifiers.front import Fronted, pixels_said
from underfire.classifiers.inputs import side_asked
from underfire.classifiers.outputs import kind_for, not_softmax
from underfire.classifiers.sound import grey
from underfire.classifiers.unheard import ONE, refuse_unheard
from underfire.core import (
    FAILURES,
    ClassifierOptions,
    DamagedFileError,
    NotFoundError,
    Preprocess,
    UnderfireError,
    UnsafeFileError,
    refused,
)
from underfire.core.hashing import digest_of, spell
from underfire.registry import register

FILES = re.compile(
    rb"\b(torch\.from_file|torch\.save|aten::save|aten::from_file|ops\.(?!prim\b|aten\b|torchvision\b)\w+)"
)
"""Operators that touch files, or that another library has added."""


@register("classifiers", "script")
def script(variant: str, options: ClassifierOptions) -> TorchClassifier:
    """A TorchScript file: ``script:network.pt``; its code is TorchScript, which cannot call Python."""
    if options.weights:
        raise UnderfireError(f"script:{variant} has its own weights: leave --weights out.")
    refuse_unheard(f"script:{variant}", options, key=ONE["key"])
    path = Path(variant).expanduser()
    name, side = f"script:{path.name}", side_asked(options) or 224
    own = {"layout": options.layout or "nchw", "channels": options.order or "rgb"}
    module = Fronted(loaded(str(path)), own["layout"], own["channels"], options.output, name)
    notes = given.whole_precision(module)
    channels = options.channels or given.channels_found(module, partial(_base, side), name)
    policy = inputs.policy(_base(side, channels), {}, options)
    how = "as given" if options.mean or options.scale else "assumed: give --scale, --mean and --std"
    order = own["channels"] if policy.channels == 3 else "grey"
    k = _outputs(module, policy, name)
    head = kind_for(k, options.head, name)
    built = TorchClassifier(
        module.eval(),
        name=name,
        preprocess=policy,
        classes=inputs.class_names(k, {}, options),
        classes_from=inputs.classes_from(k, {}, options),
        notes=[pixels_said(own["layout"], order, policy.mean, policy.std, how), *notes],
        head=head,
    )
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    built.digest = digest_of([content, spell(policy), *own.values(), options.output, *not_softmax(head)])
    return built


def _base(side: int, channels: int) -> Preprocess:
    """Make the policy that is assumed, for 3 colours or 1 grey."""
    usual = Preprocess(side, round(side * 8 / 7))
    return usual if channels == 3 else replace(usual, mean=grey(usual.mean), std=grey(usual.std))


def loaded(path: str) -> nn.Module:
    """Load a TorchScript network.

    Raises:
        UnderfireError: there is no such file, it is another one, or its code touches files.
    """
    if not Path(path).is_file():
        raise NotFoundError(f"There is no TorchScript file '{path}': the classifier is named script:FILE.")
    try:
        _refuse_files(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch advises torch.export
            module: nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except UnderfireError:
        raise
    except Exception as e:  # its reader raises whatever comes
        raise DamagedFileError(
            f"'{path}' is no complete TorchScript file: save it with torch.jit.save, or copy it again; weights alone "
            "are given with --weights."
        ) from e
    return module.eval()


def _refuse_files(path: str) -> None:
    """Raise UnsafeFileError for code that reads or writes files, or calls another library."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.namelist():
            asked = FILES.search(archive.read(entry)) if "/code/" in entry else None
            if asked:
                raise UnsafeFileError(
                    f"'{path}' calls {asked[1].decode()}, which could read or write files, so it was not loaded: wrap "
                    "the PyTorch network itself (underfire.wrap)."
                )


@torch.no_grad()
def _outputs(module: nn.Module, policy: Preprocess, name: str) -> int:
    """Count the outputs, on a black image."""
    anchor = next(module.parameters(), torch.zeros(()))
    try:
        shape = tuple(module(torch.zeros(1, *policy.shape, dtype=anchor.dtype)).shape)
    except FAILURES as e:
        raise refused(name, policy.size, e) from e
    if len(shape) != 2:
        raise UnderfireError(f"'{name}' returns {shape} for one image: logits (1, K) are needed.")
    return int(shape[1])
