"""The same graph for clients that hold images as float32 (N, C, H, W), and take one output."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from tfproj.core.spec import INPUT_NAME, PROBABILITIES_NAME, SCORES_NAME
from tfproj.export.simplify import (
    constants,
    drop_unused,
    refill,
    replace_input,
    set_constant,
)

TO_LAST, TO_FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
INNER = "/nhwc"
ALONE = ("Cast", "Relu", "Clip", "Identity")
WITH_CONSTANT = ("Mul", "Add", "Sub", "Div", "QuantizeLinear", "DequantizeLinear")
OVER_CLASSES = ("Softmax", "LogSoftmax")


def channels_first(graph: onnx.GraphProto) -> None:
    """Take ``image`` as float32 0..255 (N, C, H, W), and give masks as (N, classes, H, W).

    ``probabilities`` come first. Transposes at both ends that meet others of the graph vanish.
    """
    (image,) = graph.input
    image.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    _move_channels(image)
    _take_floats(graph)
    for output in graph.output:
        masks = len(output.type.tensor_type.shape.dim) == 4
        if masks and output.name in (PROBABILITIES_NAME, SCORES_NAME):
            _rename(graph, output.name, output.name + INNER)
            graph.node.append(_transpose(output.name + INNER, output.name, TO_FIRST))
            _move_channels(output)
    refill(graph.output, sorted(graph.output, key=lambda o: o.name != PROBABILITIES_NAME))
    position = 0
    while position < len(graph.node):
        if _permutes(graph.node[position], TO_LAST):
            _push_down(graph, graph.node[position])
        position += 1
    drop_unused(graph)


def _take_floats(graph: onnx.GraphProto) -> None:
    """Turn the image first, and leave out its cast to float32."""
    inner = INPUT_NAME + INNER
    replace_input(graph, INPUT_NAME, inner)
    for node in [n for n in graph.node if n.op_type == "Cast" and n.input[0] == inner]:
        if helper.get_node_attr_value(node, "to") == onnx.TensorProto.FLOAT:
            replace_input(graph, node.output[0], inner)
            graph.node.remove(node)
    graph.node.insert(0, _transpose(INPUT_NAME, inner, TO_LAST))


def _push_down(graph: onnx.GraphProto, transpose: onnx.NodeProto) -> None:
    """Let each reader that does not mind the layout read what is not transposed."""
    source, name = transpose.input[0], transpose.output[0]
    for reader in [n for n in graph.node if name in n.input]:
        result = reader.output[0]
        if _permutes(reader, TO_FIRST) or _moves_one_channel(graph, reader):
            graph.node.remove(reader)
            if result in {output.name for output in graph.output}:
                _rename(graph, source, result)
                source = result
            else:
                replace_input(graph, result, source)
        elif _turned(graph, reader, name):
            reader.input[0], reader.output[0] = source, result + "/nchw"
            after = list(graph.node).index(reader) + 1
            graph.node.insert(after, _transpose(reader.output[0], result, TO_LAST))


def _turned(graph: onnx.GraphProto, node: onnx.NodeProto, name: str) -> bool:
    """Whether a reader now works on (N, C, H, W): its axis or constants are turned where it can."""
    if node.input[0] != name:
        return False
    if node.op_type in OVER_CLASSES:
        axis = next(a for a in node.attribute if a.name == "axis")
        axis.i = 1 if axis.i in (-1, 3) else axis.i
        return axis.i == 1
    if node.op_type not in WITH_CONSTANT:
        return node.op_type in ALONE
    known = constants(graph)
    values = [known.get(other) for other in node.input[1:]]
    if any(v is None or (v.size > 1 and v.ndim != 1) for v in values):
        return False
    if node.op_type.endswith("Linear"):
        return all(v.size == 1 for v in values)
    for position, value in enumerate(values, 1):
        if value.size > 1:
            node.input[position] += "/nchw"
            set_constant(graph, node.input[position], value.reshape(-1, 1, 1))
    return True


def _moves_one_channel(graph: onnx.GraphProto, node: onnx.NodeProto) -> bool:
    """Whether (N, H, W, 1) becomes (N, 1, H, W) by another shape."""
    if node.op_type != "Reshape":
        return False
    shape = constants(graph).get(node.input[1], np.empty(0)).tolist()
    dims = graph.input[0].type.tensor_type.shape.dim
    return len(shape) == 4 and shape[1:] == [1, dims[2].dim_value, dims[3].dim_value]


def _transpose(source: str, target: str, order: list[int]) -> onnx.NodeProto:
    return helper.make_node("Transpose", [source], [target], name=f"{target}/turn", perm=order)


def _permutes(node: onnx.NodeProto, order: list[int]) -> bool:
    return node.op_type == "Transpose" and helper.get_node_attr_value(node, "perm") == order


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Another name for a tensor, where it is made and where it is read."""
    replace_input(graph, old, new)
    for node in graph.node:
        node.output[:] = [new if name == old else name for name in node.output]


def _move_channels(value: onnx.ValueInfoProto) -> None:
    dims = value.type.tensor_type.shape.dim
    dims.insert(1, dims.pop())
