"""ONNX files as classifiers: converted to PyTorch by onnx2torch, and held against onnxruntime before anything else."""

from __future__ import annotations

import importlib.util
import re
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from underfire.classifiers import inputs, onnx_file
from underfire.classifiers.base import TorchClassifier
from underfire.classifiers.front import Fronted, pixels_said
from underfire.classifiers.onnx_beside import content_digest
from underfire.classifiers.onnx_file import OnnxFile
from underfire.classifiers.onnx_lower import lowered
from underfire.classifiers.outputs import kind_for, not_softmax
from underfire.classifiers.photographs import photographs
from underfire.classifiers.sound import grey
from underfire.classifiers.unheard import ONE, refuse_unheard
from underfire.core import (
    FAILURES,
    ClassifierOptions,
    MismatchError,
    Preprocess,
    UnderfireError,
    UnsuitableError,
    refused,
)
from underfire.core.hashing import digest_of, spell
from underfire.registry import register

USUAL_SIDE = 224
"""Side of the input, px, where neither the file nor the user says it."""
APART = 1e-4
"""Difference from onnxruntime at most, as a share of the spread of its logits."""
APART_HALF = 0.05
"""The same from a file of half precision itself, whose numbers have three digits."""


@register("classifiers", "onnx")
def onnx(variant: str, options: ClassifierOptions) -> TorchClassifier:
    """An ONNX file: ``onnx:network.onnx`` (pip install 'underfire[onnx]')."""
    for package in ("onnx", "onnx2torch", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise UnderfireError(f"onnx:FILE needs {package}: pip install 'underfire[onnx]'.")
    if options.weights:
        raise UnderfireError(f"onnx:{variant} has its own weights: leave --weights out.")
    refuse_unheard(f"onnx:{variant}", options, key=ONE["key"])
    path = str(Path(variant).expanduser())
    file = onnx_file.read(path, options.output)
    file = replace(file, layout=options.layout or file.layout, channels=options.order or file.channels)
    policy = _policy(file, options)
    module = Fronted(converted(file, path), file.layout, file.channels, None, path, file.single)
    k = held(module.eval(), file, policy, path)
    labels = "multilabel" if file.ending == "sigmoid" and k > 1 else None
    said = {"classes": file.classes} if file.classes else {}
    head = kind_for(k, options.head or labels, f"onnx:{Path(path).name}")
    built = TorchClassifier(
        module,
        name=f"onnx:{Path(path).name}",
        preprocess=policy,
        classes=inputs.class_names(k, said, options),
        classes_from=inputs.classes_from(k, said, options),
        notes=_found(replace(file, single=module.single), policy, options),
        head=head,
        ending=file.ending,
    )
    content = content_digest((path, *file.beside))
    built.digest = digest_of([content, spell(policy), file.layout, file.channels, options.output, *not_softmax(head)])
    built.beside = file.beside
    return built


def _policy(file: OnnxFile, options: ClassifierOptions) -> Preprocess:
    asked = options.input_size
    asked = (asked, asked) if isinstance(asked, int) else asked
    if file.size and asked and tuple(asked) != file.size:
        raise UnderfireError(
            f"--input-size {'x'.join(map(str, asked))}: this ONNX file takes {file.size[0]} × {file.size[1]} px and "
            "nothing else: export it with height and width that may vary."
        )
    height, width = file.size or asked or (USUAL_SIDE, USUAL_SIDE)
    planes = file.planes or options.channels or 3
    usual = Preprocess(1, 1)
    mean, std = (usual.mean, usual.std) if planes == 3 else (grey(usual.mean), grey(usual.std))
    if file.scale is not None:
        mean, std = (0.0,) * planes, (1 / file.scale,) * planes
    oblong = None if width == height else width
    base = Preprocess(height, round(min(height, width) * 8 / 7), mean, std, width=oblong)
    return inputs.policy(base, {}, replace(options, input_size=None))


def _found(file: OnnxFile, policy: Preprocess, options: ClassifierOptions) -> list[str]:
    """Say what was found in the file, and what is assumed of it."""
    given = options.mean or options.std or options.scale
    how = "as given" if given else "as the file says" if file.scale else "assumed: give --scale, --mean and --std"
    order = file.channels if policy.channels == 3 else "grey"
    said = [pixels_said(file.layout, order, policy.mean, policy.std, how)]
    if file.size is None and options.input_size is None:
        said.append(f"The file does not say its input's size; {USUAL_SIDE} px are assumed.")
    if file.ending:
        said.append(f"The {file.ending} at its end is taken off: attacks need logits.")
    if file.half:
        said.append(f"Its weights are {file.half}: a float32 copy of them is attacked and judged.")
    if file.single:
        said.append("It takes one image at a time.")
    return said


def converted(file: OnnxFile, path: str) -> nn.Module:
    """Convert an ONNX network to a PyTorch one.

    Raises:
        UnsuitableError: it has an operator that the converter lacks.
    """
    import onnx2torch  # noqa: PLC0415 (an extra)

    # The converter's slices index by lists; the comparison with onnxruntime would notice if that changed its meaning.
    warnings.filterwarnings("ignore", message="Using a non-tuple sequence for multidimensional indexing")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module: nn.Module = onnx2torch.convert(lowered(file.model))
    except NotImplementedError as e:
        told = re.search(r"domain='([^']*)', operation_type='(\w+)', version=(\d+)", str(e))
        operator = f"{told[1] + '.' if told[1] else ''}{told[2]} (version {told[3]})" if told else str(e)
        raise UnsuitableError(
            f"'{path}' has the operator {operator}, which onnx2torch lacks: export the network again with "
            "opset_version=17 and dynamo=False, or wrap the PyTorch network itself (underfire.wrap)."
        ) from e
    except Exception as e:  # the converter raises whatever its converters raise
        said = (str(e).strip() or type(e).__name__).splitlines()[0]
        raise UnsuitableError(
            f"'{path}' cannot be converted to PyTorch ({said[:200]}): wrap the PyTorch network itself (underfire.wrap)."
        ) from e
    return module


@torch.no_grad()
def held(module: Fronted, file: OnnxFile, policy: Preprocess, path: str) -> int:
    """Hold a converted network against onnxruntime on photos.

    Returns:
        The number of outputs.

    Raises:
        UnderfireError: they differ, or the network fails.
    """
    x = photographs(policy)
    try:
        if not file.single and not _each(module, x):
            file, module.single = replace(file, single=True), True
        ours = module(x)
        if module.single and _takes_several(module, x, ours):
            module.single = False
        shown = module.arranged(x).contiguous().numpy()
        theirs = torch.from_numpy(_run(file, file.model.SerializeToString(), shown))
        limits = [(theirs, APART)]
        if file.half == "float16":  # runtimes on CPUs do not compute in bfloat16
            limits.append((torch.from_numpy(_run(file, file.as_given, shown.astype(np.float16))).float(), APART_HALF))
    except FAILURES as e:
        raise refused(f"onnx:{Path(path).name}", policy.size, e) from e
    for one, limit in limits:
        _compare(ours, one.flatten(1), limit, path)
    return int(ours.shape[1])


def _each(module: Fronted, x: torch.Tensor) -> bool:
    """Tell whether a network whose file leaves the batch open gives a row for each of several images."""
    try:
        return len(module(x)) == len(x)
    except FAILURES:
        return False


def _takes_several(module: Fronted, x: torch.Tensor, ours: torch.Tensor) -> bool:
    """Tell whether a network whose file takes one image at a time takes several now that it is converted."""
    module.single = False
    try:
        return torch.allclose(module(x), ours, rtol=1e-4, atol=1e-4 * float(ours.max() - ours.min()))
    except FAILURES:
        return False
    finally:
        module.single = True


def _compare(ours: torch.Tensor, theirs: torch.Tensor, limit: float, path: str) -> None:
    """Compare outputs (N, K) with onnxruntime's; errors as in `held`."""
    if ours.shape != theirs.shape or ours.dim() != 2:
        raise UnsuitableError(
            f"'{path}' returns {tuple(ours.shape)} for {len(ours)} pictures: one row of classes each is needed."
        )
    if not bool(ours.isfinite().all() and theirs.isfinite().all()):
        raise UnsuitableError(
            f"'{path}' returns values that are not finite on photos: some of its weights are not finite, or overflow. "
            "Export it again from weights that are."
        )
    spread, apart = float(theirs.max() - theirs.min()), float((ours - theirs).abs().max())
    if not apart <= limit * spread:
        raise MismatchError(
            f"'{path}', converted to PyTorch, is another network: on photos its outputs differ from onnxruntime's by "
            f"{apart:.2g} of a spread of {spread:.2g}. Wrap the PyTorch network itself (underfire.wrap)."
        )


def _run(file: OnnxFile, model: bytes, x: Any) -> Any:
    """Ask onnxruntime, image by image where the file takes no more."""
    import onnxruntime  # noqa: PLC0415 (an extra)

    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        x = np.rint(x).astype(np.uint8) if file.levels else x
        batches = [x[i : i + 1] for i in range(len(x))] if file.single else [x]
        return np.concatenate([session.run(None, {file.name: batch})[0] for batch in batches])
    except Exception as e:  # its own exceptions share no class
        raise RuntimeError(f"onnxruntime: {e}") from e
