"""What an ONNX file says of its network: the shape of its input, how pixels go in, which output the logits are.

The standard's own metadata for pictures are read too (Image.BitmapPixelFormat, Image.NominalPixelRange).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underfire.classifiers.onnx_beside import files_beside
from underfire.classifiers.onnx_half import BFLOAT, FLOAT, HALF, half_of, widened
from underfire.core import DamagedFileError, MismatchError, NotFoundError, UnderfireError, UnsuitableError, unknown

ENDINGS = {"Softmax": "softmax", "LogSoftmax": "log-softmax", "Sigmoid": "sigmoid"}
"""Operators at the end of a network that logits lie before."""
QUANTISED = ("QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
"""Operators of quantised networks; their steps have no gradient."""
FLOATS, UINT8 = (FLOAT, HALF, BFLOAT), 2
"""Types of elements, in ONNX's numbers."""
IMAGENET_BGR = (103.5, 116.3, 123.7)
"""The mean of ImageNet's colours in levels, blue first."""


@dataclass(frozen=True)
class OnnxFile:
    """An ONNX network that ends in its logits.

    Args:
        model: the model, without what does not lead to the logits.
        name: of its input.
        layout: 'nchw' or 'nhwc'.
        channels: 'rgb' or 'bgr'.
        scale: the number that is white before what the network subtracts itself; None where nothing says so.
        planes: channels of its input: 3 colours or 1 grey; None where the file does not say.
        size: height and width of its input, px; None where they may vary.
        single: whether it takes one image at a time only.
        levels: whether its input is 8-bit integers.
        ending: what was taken off its end: 'softmax', 'log-softmax', 'sigmoid' or ''.
        classes: names of classes among its metadata, or ''.
        half: the half precision that the file has: 'float16' or 'bfloat16'; the model is its copy in float32.
        as_given: the file's own model of half precision, without what does not lead to the logits; b"" without it.
        beside: the other files that its weights lie in.
    """

    model: Any
    name: str
    layout: str
    channels: str
    scale: float | None
    planes: int | None
    size: tuple[int, int] | None
    single: bool
    levels: bool
    ending: str
    classes: str
    half: str = ""
    as_given: bytes = b""
    beside: tuple[str, ...] = ()


def read(path: str, output: str | None = None) -> OnnxFile:
    """Read an ONNX file; nothing of it is run.

    Args:
        path: the file.
        output: which of several outputs the logits are, by name or counted from 0.

    Raises:
        UnderfireError: there is no such file, it is damaged or quantised, or no network from pictures to classes.
    """
    model, beside = _loaded(path)
    graph = model.graph
    quantised = next((node.op_type for node in graph.node if node.op_type in QUANTISED), None)
    if quantised:
        raise MismatchError(
            f"'{path}' is quantised ({quantised}), so it has no gradient: export the network from before quantisation."
        )
    given = [one for one in graph.input if one.name not in {weight.name for weight in graph.initializer}]
    if len(given) != 1:
        raise UnsuitableError(f"'{path}' has {len(given)} inputs: a network that takes pictures alone is needed.")
    _opened([given[0], *graph.output])
    shape, kind = _shape(given[0]), given[0].type.tensor_type.elem_type
    layout, planes, size = _layout(shape, path)
    ending, half = _cut(graph, _chosen(graph, output, path)), half_of(model)
    as_given = model.SerializeToString() if half else b""
    if half:
        widened(model)
    props = {prop.key: prop.value for prop in model.metadata_props}
    return OnnxFile(
        model,
        given[0].name,
        layout,
        _channels(props, graph, given[0].name),
        255.0 if kind == UINT8 else _scale(props, graph, given[0].name),
        planes,
        size,
        shape[0] == 1,
        kind == UINT8,
        ending,
        props.get("classes") or props.get("names") or "",
        half,
        as_given,
        beside,
    )


def _loaded(path: str) -> tuple[Any, tuple[str, ...]]:
    """Load a model, and list the files beside that its weights come from."""
    import onnx  # noqa: PLC0415 (an extra)

    if not Path(path).is_file():
        raise NotFoundError(f"There is no ONNX file '{path}': the classifier is named onnx:FILE.")
    try:
        model = onnx.load(path, load_external_data=False)
        beside = files_beside(model, path)
        onnx.load_external_data_for_model(model, str(Path(path).parent))
        onnx.checker.check_model(model)
    except Exception as e:  # the reader of protobuf and the checker raise whatever comes
        said = (str(e).strip() or type(e).__name__).splitlines()[0]
        raise DamagedFileError(f"'{path}' is no complete ONNX file ({said[:200]}): export or copy it again.") from e
    return model, beside


def _shape(value: Any) -> list[int | None]:
    """Return the sizes of a value; None where a size may vary."""
    return [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim]


def _opened(values: Iterable[Any]) -> None:
    """Leave open the sizes of inputs and outputs that may vary, for which some exporters write 0 or −1."""
    for size in (size for value in values for size in value.type.tensor_type.shape.dim):
        if size.HasField("dim_value") and size.dim_value < 1:
            size.ClearField("dim_value")


def _layout(shape: list[int | None], path: str) -> tuple[str, int | None, tuple[int, int] | None]:
    """Tell the order of the axes, the channels, and the size of the input."""
    shown = " × ".join("?" if size is None else str(size) for size in shape)
    if len(shape) != 4:
        raise UnsuitableError(f"'{path}' takes {shown or 'a number'}: a network that takes pictures is needed.")
    if shape[0] is not None and shape[0] > 1:
        raise UnsuitableError(f"'{path}' takes {shape[0]} pictures at a time: export it with a batch that may vary.")
    layout = "nhwc" if shape[3] in (1, 3) and shape[1] not in (1, 3) else "nchw"
    channels, (high, wide) = (shape[3], shape[1:3]) if layout == "nhwc" else (shape[1], shape[2:])
    if channels not in (1, 3, None):
        raise UnsuitableError(
            f"'{path}' takes {channels} channels ({shown}): one that takes three colours, or grey, is needed."
        )
    return layout, channels, None if high is None or wide is None else (high, wide)


def _chosen(graph: Any, output: str | None, path: str) -> str:
    """Choose the output that the logits are."""
    names = [str(one.name) for one in graph.output]
    if output is not None:
        if output in names:
            return output
        if output.isdecimal() and int(output) < len(names):
            return names[int(output)]
        raise unknown(f"output of '{path}'", output, names)
    if len(names) == 1:
        return names[0]
    flat = [str(one.name) for one in graph.output if one.type.tensor_type.elem_type in FLOATS and len(_shape(one)) == 2]
    if len(flat) == 1:
        return flat[0]
    raise UnderfireError(f"'{path}' has the outputs {', '.join(names)}: say with --output which one the classes are.")


def _cut(graph: Any, output: str) -> str:
    """Cut a graph down to what leads to the logits of an output; return what it ended in."""
    makers = {name: node for node in graph.node for name in node.output}
    name, ending = output, ""
    while name in makers and makers[name].op_type in (*ENDINGS, "Identity"):
        node = makers[name]
        if ending and node.op_type != "Identity":
            break
        ending = ENDINGS.get(node.op_type, ending)
        name = node.input[0]
    kept, wanted = [], {name if ending else output}
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    value = next(one for one in graph.output if one.name == output)
    value.name = name if ending else output
    del graph.output[:], graph.node[:]
    graph.output.append(value)
    graph.node.extend(reversed(kept))
    return ending


def _channels(props: dict[str, str], graph: Any, name: str) -> str:
    mean = next((values for op, values in _leading(graph, name) if op == "Sub"), ())
    blue_first = len(mean) == 3 and all(abs(a - b) < 1.5 for a, b in zip(mean, IMAGENET_BGR, strict=True))
    return "bgr" if blue_first or props.get("Image.BitmapPixelFormat", "").startswith("Bgr") else "rgb"


def _scale(props: dict[str, str], graph: Any, name: str) -> float | None:
    """Tell the number that is white: from the metadata, or from what the network itself subtracts or divides by."""
    said = props.get("Image.NominalPixelRange", "")
    if said in ("NominalRange_0_255", "Normalized_0_1"):
        return 255.0 if said == "NominalRange_0_255" else 1.0
    for op, values in _leading(graph, name):
        if op in ("Sub", "Div") and any(values):  # to subtract 0 says nothing
            return 255.0 if max(values) > 2 else 1.0
        if op == "Mul" and values and min(values) > 2:  # it makes levels itself
            return 1.0
        if op == "Mul" and values and max(values) < 0.02:
            return 255.0
    return None


def _leading(graph: Any, name: str) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Yield the arithmetic with constants that an input goes through first: the operator, and its numbers."""
    from onnx import numpy_helper  # noqa: PLC0415 (an extra)

    known = {weight.name: weight for weight in graph.initializer}
    known |= {node.output[0]: node.attribute[0].t for node in graph.node if node.op_type == "Constant"}
    while True:
        readers = [node for node in graph.node if name in node.input]
        if len(readers) != 1 or readers[0].op_type not in ("Sub", "Div", "Mul", "Cast", "Transpose"):
            return
        node = readers[0]
        if node.op_type in ("Sub", "Div", "Mul"):
            other = next((one for one in node.input if one != name), "")
            if other not in known:
                return
            values = numpy_helper.to_array(known[other]).ravel()
            yield node.op_type, tuple(float(v) for v in values[:3])
        name = node.output[0]
