"""ONNX networks of half precision, written as networks of float32: what is attacked and judged is a float32 copy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

FLOAT, HALF, BFLOAT = 1, 10, 16
"""Types of elements, in ONNX's numbers."""
NAMES = {HALF: "float16", BFLOAT: "bfloat16"}


def widened(model: Any) -> None:
    """Turn all numbers of half precision in a model into float32, and steps to that precision into steps to float32."""
    graph = model.graph
    for weight in graph.initializer:
        _widen(weight)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _widen(attribute.t)
            if attribute.name in ("to", "dtype") and attribute.i in NAMES:
                attribute.i = FLOAT
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type in NAMES:
            value.type.tensor_type.elem_type = FLOAT
    del graph.value_info[:]  # the types of what lies between; they follow from the rest


def half_of(model: Any) -> str:
    """Name the half precision that a model's input or weights have; '' where they have none."""
    return next((NAMES[kind] for kind in _kinds(model.graph) if kind in NAMES), "")


def _kinds(graph: Any) -> Iterator[int]:
    yield from (value.type.tensor_type.elem_type for value in graph.input)
    yield from (weight.data_type for weight in graph.initializer)


def _widen(tensor: Any) -> None:
    from onnx import numpy_helper  # noqa: PLC0415 (an extra)

    if tensor.data_type in NAMES:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype("float32"), tensor.name))
