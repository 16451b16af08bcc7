"""ONNX files for tests: exports of PyTorch networks, and small graphs made by hand."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


def exported(
    net: nn.Module, path: Path, shape: tuple[int, ...], vary: bool = False, dtype: torch.dtype = torch.float32
) -> Path:
    """Export a network; ``vary`` leaves its batch, height and width open."""
    axes = {"x": {0: "n", 2: "h", 3: "w"}} if vary else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter needs no further package
        torch.onnx.export(
            net,
            (torch.rand(shape).to(dtype),),
            str(path),
            input_names=["x"],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
    return path


def graph(path: Path, kind: str, version: int = 17) -> Path:
    """Make a graph from (1, 3, 32, 32) to (1, 4): a mean over places, a matrix, and what ``kind`` says."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    channels = {"grey": 1, "four": 4}.get(kind, 3)
    draw = np.random.default_rng(0)
    weights = [numpy_helper.from_array(draw.normal(size=(channels, 4)).astype(np.float32), "w")]
    weights += [numpy_helper.from_array(np.array([2, 3]), "axes"), numpy_helper.from_array(np.float32(2.0), "two")]
    node, value = helper.make_node, helper.make_tensor_value_info
    x = value("x", TensorProto.FLOAT, [1, channels, 32, 32])
    outputs = [value("first", TensorProto.FLOAT, [1, 4])]
    if version >= 18:
        nodes: list[Any] = [
            node("Gelu", ["x"], ["g"]),
            node("Gelu", ["g"], ["h"], approximate="tanh"),
            node("ReduceMean", ["h", "axes"], ["m"], keepdims=0),
            node("Split", ["m"], ["a", "b", "c"], axis=1, num_outputs=3),
            node("Concat", ["c", "b", "a"], ["n"], axis=1),
            node("MatMul", ["n", "w"], ["first"]),
        ]
    else:
        start = {"unknown": "LpNormalization", "quantised": "DynamicQuantizeLinear"}.get(kind, "Relu")
        made = ["r"] if kind != "quantised" else ["q", "s", "z"]
        last = [node("DequantizeLinear", made, ["r"])] if kind == "quantised" else []
        nodes = [
            node(start, ["x"], made),
            *last,
            node("ReduceMean", ["r"], ["m"], axes=[2, 3], keepdims=0),
            node("MatMul", ["m", "w"], ["first"]),
        ]
    if kind == "two":
        nodes.append(node("Mul", ["first", "two"], ["second"]))
        outputs.append(value("second", TensorProto.FLOAT, [1, 4]))
    inputs = [x, *([value("y", TensorProto.FLOAT, [1])] if kind == "inputs" else [])]
    if kind == "inputs":
        nodes.append(node("Identity", ["y"], ["unused"]))
    model = helper.make_model(
        helper.make_graph(nodes, "toy", inputs, outputs, weights), opset_imports=[helper.make_opsetid("", version)]
    )
    model.ir_version = 9
    onnx.save(model, str(path))
    return path
