"""Read an ONNX file that may come from anyone and refuse what ``tfproj export`` never writes.

onnxruntime would open external files, load operators of other domains and take any size it is
told. So the file is read once, as bytes, and looked through here before onnxruntime sees it: the
operators are on a list, every weight is in the file and as long as its shape says, windows and
paddings are of sane size, and input, outputs and metadata agree. The package ``onnx`` is not
needed.
"""

from __future__ import annotations

import json
import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfproj.core.spec import (
    ACTIVATION_NAME,
    INPUT_NAME,
    METADATA_KEY,
    OUTPUT_NAMES,
    PROBABILITIES_NAME,
    SCORES_NAME,
    UNKNOWN_NAME,
    ModelSpec,
    is_class_name,
)
from tfproj.errors import InputError
from tfproj.inference import protobuf
from tfproj.inference.protobuf import Reader, text

# Far above any model of this package; what is larger was not written by it.
MAX_MODEL_BYTES = 512 * 2**20
MAX_NODES = 10_000
MAX_DIMENSIONS = 8
# A window, stride or padding of a convolution or pooling; the widest here is a global pooling.
MAX_WINDOW = 4096
# Numbers of one image's output: 1 GB as float32, 4096 x 4096 with 16 classes.
MAX_OUTPUT_VALUES = 2**28
MAX_CLASSES = 10_000

WANTED = "give a run, or the file that 'tfproj export RUN --onnx' writes"
STANDARD_DOMAINS = ("", "ai.onnx")
# What Keras' layers for images become. None of them branches, loops, draws random numbers or
# makes a tensor out of a shape alone.
OPERATORS = frozenset({
    "Abs", "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant",
    "Conv", "ConvInteger", "ConvTranspose", "DepthToSpace", "DequantizeLinear", "Div",
    "DynamicQuantizeLinear", "Elu", "Equal", "Erf", "Exp", "Flatten", "Gather", "Gelu", "Gemm",
    "GlobalAveragePool", "GlobalMaxPool", "Greater", "HardSigmoid", "HardSwish", "Identity",
    "InstanceNormalization", "LayerNormalization", "LeakyRelu", "Less", "Log", "LogSoftmax",
    "MatMul", "MatMulInteger", "Max", "MaxPool", "Min", "Mul", "Neg", "PRelu", "Pad", "Pow",
    "QLinearConv", "QLinearMatMul", "QuantizeLinear", "Reciprocal", "ReduceL2", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "Relu", "Reshape", "Resize", "Selu",
    "Shape", "Sigmoid", "Slice", "Softmax", "Softplus", "Softsign", "SpaceToDepth", "Split",
    "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Transpose", "Unsqueeze", "Where",
})  # fmt: skip

# Bytes per element of the tensor types that a weight may have (TensorProto.DataType).
_ITEM_BYTES = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}
_FLOAT, _UINT8 = 1, 2
_AT_LEAST_ONE = {"kernel_shape", "strides", "dilations", "group", "blocksize", "output_shape"}
_AT_LEAST_ZERO = {"pads", "output_padding"}


@dataclass(frozen=True)
class ModelFile:
    """A file that was looked through.

    Attributes:
        data: the ONNX model.
        spec: task, classes, input.
        metadata: all that the file says of itself, plain JSON types.
        outputs: names, of ``tfproj.core.spec.OUTPUT_NAMES``.
    """

    data: bytes
    spec: ModelSpec
    metadata: dict[str, Any]
    outputs: frozenset[str]


def read_model(
    model: str | os.PathLike | bytes, name: str, max_bytes: int = MAX_MODEL_BYTES
) -> ModelFile:
    """Read and check a model.

    Args:
        model: path or bytes.
        name: what error messages call it.
        max_bytes: larger files are refused, unread.

    Raises:
        InputError: not readable, or not a model as ``tfproj export`` writes it.
    """
    data = bytes(model) if isinstance(model, (bytes, bytearray)) else _read(model, name, max_bytes)
    if len(data) > max_bytes:
        raise InputError(f"{name}: larger than {max_bytes / 2**20:.0f} MB")
    try:
        return _check_model(data)
    except InputError as error:
        from tfproj.core.file_kinds import kind_of  # noqa: PLC0415 (for what is refused)

        kind = kind_of(data)
        words = f"not an ONNX file, but {kind}; {WANTED}" if kind else " ".join(str(error).split())
        raise InputError(f"{name}: {words}") from None


def _read(path: str | os.PathLike, name: str, max_bytes: int) -> bytes:
    try:
        status = os.stat(path)
        # A pipe or a device may never end.
        if not stat.S_ISREG(status.st_mode):
            raise InputError(f"{name}: not a regular file")
        if status.st_size > max_bytes:
            raise InputError(f"{name}: larger than {max_bytes / 2**20:.0f} MB")
        return Path(path).read_bytes()
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror or error})") from None
    except ValueError:  # a NUL in the path
        raise InputError(f"{name!r}: not a file name") from None


def _check_model(data: bytes) -> ModelFile:
    # onnxruntime would take such bytes for its own format, whatever else they are.
    if not data or data[4:8] == b"ORTM":
        raise InputError("not an ONNX file" if data else "the file is empty (0 bytes)")
    reader = Reader()
    model = reader.message(memoryview(data), protobuf.MODEL, "the model")
    for key, phrase in (("functions", "local functions"), ("training_info", "training graphs")):
        if key in model:
            raise InputError(f"it holds {phrase}; models of tfproj have none")
    if "graph" not in model:
        raise InputError("an ONNX file without a graph")
    metadata = _metadata(reader, model.get("metadata", []))
    spec = read_spec(metadata)
    graph = reader.message(model["graph"][0], protobuf.GRAPH, "the graph")
    _check_graph(reader, graph)
    return ModelFile(data, spec, metadata, _check_ends(reader, graph, spec))


def _metadata(reader: Reader, entries: list) -> dict[str, Any]:
    """The JSON object that the exporter wrote."""
    found: dict[str, str] = {}
    for entry in entries:
        pair = reader.message(entry, protobuf.ENTRY, "the metadata")
        key = text(pair.get("key", []), "a metadata key")
        if key in found:
            raise InputError(f"the metadata key {key!r} occurs twice")
        found[key] = text(pair.get("value", []), "the metadata")
    if METADATA_KEY not in found:
        raise InputError("an ONNX model, but not one that tfproj exported (no metadata)")
    try:
        metadata = json.loads(found[METADATA_KEY])
    except (ValueError, RecursionError):
        raise InputError("its metadata is damaged, not valid JSON") from None
    if not isinstance(metadata, dict):
        raise InputError("its metadata is damaged, not a JSON object")
    return metadata


def read_spec(metadata: dict[str, Any]) -> ModelSpec:
    """The model's spec in its metadata, with limits on what may be shown or allocated.

    Raises:
        InputError: fields missing, of the wrong type, or beyond the limits.
    """
    spec = ModelSpec.from_dict(metadata)
    limit = 256 if spec.task == "segment" else MAX_CLASSES  # a mask is uint8
    if len(spec.classes) > limit:
        raise InputError(f"metadata: {len(spec.classes)} classes; at most {limit}")
    for name in spec.classes:
        if not is_class_name(name):
            raise InputError(f"metadata: the class name {name[:20]!r} is not a line of text")
    pixels = spec.height * spec.width
    if pixels * (len(spec.classes) if spec.task == "segment" else 3) > MAX_OUTPUT_VALUES:
        raise InputError(f"metadata: an input of {spec.height} x {spec.width} px is too large")
    return spec


def _check_graph(reader: Reader, graph: dict[str, list]) -> None:
    if "sparse_initializer" in graph:
        raise InputError("it holds sparse weights; models of tfproj have none")
    nodes = graph.get("node", [])
    if len(nodes) > MAX_NODES:
        raise InputError(f"it has {len(nodes)} operators; at most {MAX_NODES}")
    for node in nodes:
        _check_node(reader, reader.message(node, protobuf.NODE, "an operator"))
    for tensor in graph.get("initializer", []):
        _check_tensor(reader, tensor)


def _check_node(reader: Reader, node: dict[str, list]) -> None:
    operator = text(node.get("op_type", []), "an operator's name")
    domain = text(node.get("domain", []), "an operator's domain")
    if domain not in STANDARD_DOMAINS:
        raise InputError(f"the operator {operator[:40]!r} belongs to the domain {domain[:40]!r}")
    for data in node.get("attribute", []):
        attribute = reader.message(data, protobuf.ATTRIBUTE, f"an attribute of {operator[:40]!r}")
        if "g" in attribute or "graphs" in attribute:
            raise InputError(f"the operator {operator[:40]!r} holds a graph of its own")
        _check_attribute(reader, attribute, operator)
    if operator not in OPERATORS:
        raise InputError(f"the operator {operator[:40]!r} is not one that tfproj writes")


def _check_attribute(reader: Reader, attribute: dict[str, list], operator: str) -> None:
    for tensor in attribute.get("t", []):
        _check_tensor(reader, tensor)
    name = text(attribute.get("name", []), "an attribute's name")
    if name in _AT_LEAST_ONE or name in _AT_LEAST_ZERO:
        least = 1 if name in _AT_LEAST_ONE else 0
        numbers = reader.integers(attribute.get("ints", []) + attribute.get("i", []))
        if any(not least <= number <= MAX_WINDOW for number in numbers):
            raise InputError(f"the operator {operator[:40]!r} has {name} {numbers[:8]}")


def _check_tensor(reader: Reader, data: memoryview) -> None:
    """A weight is in the file, of a plain type, and as long as its shape says."""
    tensor = reader.message(data, protobuf.TENSOR, "a weight")
    name = text(tensor.get("name", []), "a weight's name")[:40]
    if "external_data" in tensor or tensor.get("data_location", [0]) != [0]:
        raise InputError(f"the weight {name!r} is in another file (external data)")
    width = _ITEM_BYTES.get(tensor.get("data_type", [0])[0])
    dims = reader.integers(tensor.get("dims", []))
    if width is None or len(dims) > MAX_DIMENSIONS or any(d < 0 for d in dims):
        raise InputError(f"the weight {name!r} is of an unexpected type or shape")
    if _count(reader, tensor, width) != math.prod(dims):
        raise InputError(f"damaged: the weight {name!r} is not as long as its shape says")


def _count(reader: Reader, tensor: dict[str, list], width: int) -> int:
    """Elements that are stored, or -1 where they are stored in no way or in two."""
    stored = [key for key in tensor if key.endswith("_data")]
    if len(stored) != 1:
        return -1 if stored else 0
    values = tensor[stored[0]]
    if stored == ["raw_data"]:
        return len(values[0]) // width if len(values[0]) % width == 0 else -1
    item = {"float_data": 4, "double_data": 8}.get(stored[0])
    if item is None:
        return len(reader.integers(values))
    total = sum(len(value) for value in values)
    return total // item if total % item == 0 else -1


def _check_ends(reader: Reader, graph: dict[str, list], spec: ModelSpec) -> frozenset[str]:
    """One image input and outputs of the shapes that the metadata says, whose names it gives."""
    size = (None, None) if spec.dynamic_size else spec.size
    first = spec.layout == "NCHW"
    counts = spec.channels, len(spec.classes)
    image, mask = ((count, *size) if first else (*size, count) for count in counts)
    answer = mask if spec.task == "segment" else counts[1:]
    inputs = [_value(reader, value) for value in graph.get("input", [])]
    if len(inputs) != 1 or not _fits(inputs[0], INPUT_NAME, _FLOAT if first else _UINT8, image):
        raise InputError("its input does not fit its metadata")
    outputs = {value[0]: value for value in (_value(reader, v) for v in graph.get("output", []))}
    known = OUTPUT_NAMES[: 4 if spec.task == "classify" else 2]
    needed = {SCORES_NAME, PROBABILITIES_NAME}
    if not needed <= set(outputs) <= set(known) or len(graph["output"]) != len(outputs):
        raise InputError(f"its outputs are not {SCORES_NAME} and {PROBABILITIES_NAME}")
    shapes = dict.fromkeys(needed, answer)
    sides = [*outputs.get(ACTIVATION_NAME, ("", 0, []))[2][1:3], 0, 0][:2]  # its own
    shapes |= {UNKNOWN_NAME: (), ACTIVATION_NAME: (*sides, len(spec.classes))}
    for name, value in outputs.items():
        if not _fits(value, name, _FLOAT, shapes[name]):
            raise InputError(f"its output {name} does not fit its metadata")
    return frozenset(outputs)


def _value(reader: Reader, data: memoryview) -> tuple[str, int, list[int | None]]:
    """(name, element type, shape with None where a dimension is free) of an input or output."""
    value = reader.message(data, protobuf.VALUE, "an input or output")
    kind = reader.message((value.get("type") or [memoryview(b"")])[0], protobuf.TYPE, "a type")
    if "tensor" not in kind:
        raise InputError("an input or output is not a tensor")
    tensor = reader.message(kind["tensor"][0], protobuf.TENSOR_TYPE, "a type")
    shape = reader.message((tensor.get("shape") or [memoryview(b"")])[0], protobuf.SHAPE, "a shape")
    dims = [reader.message(dim, protobuf.DIM, "a shape") for dim in shape.get("dim", [])]
    name = text(value.get("name", []), "a name")
    return name, tensor.get("element", [0])[0], [dim.get("value", [None])[0] for dim in dims]


def _fits(value: tuple, name: str, element: int, shape: tuple) -> bool:
    """The batch is free; a fixed dimension is the expected one."""
    actual = value[2]
    return (
        value[:2] == (name, element)
        and len(actual) == len(shape) + 1
        and actual[0] is None
        and all(a == e or (a is None and e is None) for a, e in zip(actual[1:], shape, strict=True))
    )
