"""Newer ONNX operators, written as those of version 17, which the converter knows.

Most operators of versions 18 to 22 are as before and allow more types. Whatever is changed here is checked afterwards:
the converted network is held against onnxruntime on the file as it was.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

KNOWN = 17
"""The version that the converter knows well."""
REDUCING = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceSumSquare")
"""Operators whose axes became an input in version 18."""


def lowered(model: Any) -> Any:
    """Return a model of version 17 or earlier that computes the same, where the rules below can write it."""
    main = next((one for one in model.opset_import if one.domain in ("", "ai.onnx")), None)
    model = copy.deepcopy(model)
    _name_weights_themselves(model.graph)
    if main is None or main.version <= KNOWN:
        return model
    next(one for one in model.opset_import if one.domain in ("", "ai.onnx")).version = KNOWN
    constants = _constants(model.graph)
    nodes = [new for node in model.graph.node for new in RULES.get(node.op_type, _same)(node, constants)]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _constants(graph: Any) -> dict[str, Any]:
    known = {weight.name: weight for weight in graph.initializer}
    return known | {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}


def _name_weights_themselves(graph: Any) -> None:
    """Remove the identities through which exporters share equal weights: the converter looks for weights themselves."""
    source = {weight.name: weight.name for weight in graph.initializer}
    shown, kept = {one.name for one in graph.output}, []
    for node in graph.node:
        if node.op_type == "Identity" and node.input[0] in source and node.output[0] not in shown:
            source[node.output[0]] = source[node.input[0]]
            continue
        node.input[:] = [source.get(name, name) for name in node.input]
        kept.append(node)
    del graph.node[:]
    graph.node.extend(kept)


def _same(node: Any, constants: dict[str, Any]) -> Iterator[Any]:
    yield node


def _axes_as_attribute(node: Any, constants: dict[str, Any]) -> Iterator[Any]:
    from onnx import helper, numpy_helper  # noqa: PLC0415 (an extra)

    if len(node.input) > 1 and node.input[1] in constants:
        axes = [int(axis) for axis in numpy_helper.to_array(constants[node.input[1]]).ravel()]
        del node.input[1]
        node.attribute.append(helper.make_attribute("axes", axes))
    yield node


def _equal_parts(node: Any, constants: dict[str, Any]) -> Iterator[Any]:
    """Before version 18, a split without sizes is into equal parts; the number of the outputs says how many."""
    kept = [one for one in node.attribute if one.name != "num_outputs"]
    del node.attribute[:]
    node.attribute.extend(kept)
    yield node


def _gelu(node: Any, constants: dict[str, Any]) -> Iterator[Any]:
    """x/2 · (1 + erf(x/√2)), or its approximation by tanh."""
    from onnx import helper  # noqa: PLC0415 (an extra)

    x, y = node.input[0], node.output[0]
    approximate = any(one.name == "approximate" and one.s == b"tanh" for one in node.attribute)

    def constant(name: str, value: float) -> Any:
        return helper.make_node("Constant", [], [f"{y}/{name}"], value=helper.make_tensor(name, 1, [], [value]))

    def op(kind: str, a: str, b: str | None, out: str) -> Any:
        return helper.make_node(kind, [a] if b is None else [a, b], [out], name=f"{y}/{kind}-{out}")

    yield from (constant("half", 0.5), constant("one", 1.0))
    if approximate:
        yield from (constant("cubic", 0.044715), constant("root", math.sqrt(2 / math.pi)))
        yield from (op("Mul", x, x, f"{y}/x2"), op("Mul", f"{y}/x2", x, f"{y}/x3"))
        yield from (op("Mul", f"{y}/x3", f"{y}/cubic", f"{y}/c"), op("Add", f"{y}/c", x, f"{y}/s"))
        yield from (op("Mul", f"{y}/s", f"{y}/root", f"{y}/u"), op("Tanh", f"{y}/u", None, f"{y}/e"))
    else:
        yield constant("root", math.sqrt(0.5))
        yield from (op("Mul", x, f"{y}/root", f"{y}/u"), op("Erf", f"{y}/u", None, f"{y}/e"))
    yield from (op("Add", f"{y}/e", f"{y}/one", f"{y}/p"), op("Mul", f"{y}/p", x, f"{y}/q"))
    yield op("Mul", f"{y}/q", f"{y}/half", y)


RULES: dict[str, Callable[[Any, dict[str, Any]], Iterator[Any]]] = {
    **dict.fromkeys(REDUCING, _axes_as_attribute),
    "Split": _equal_parts,
    "Gelu": _gelu,
}
"""Operator -> the nodes of version 17 that compute it."""
