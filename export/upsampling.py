"""Transposed convolutions as plain ones, which onnxruntime computes in 8 bits."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper

from tfproj.core.spec import SCORES_NAME
from tfproj.export.simplify import constants, drop_unused, set_constant, shapes

WEIGHTED = ("Conv", "Gemm", "MatMul")
ROW = "/row"  # follows the name of an upsampling layer in those of its rows


def ending(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes from the scores back to the last one with weights."""
    name, names = SCORES_NAME, []
    while True:
        node = next(n for n in graph.node if name in n.output)
        names.append(node.name)
        if node.op_type in (*WEIGHTED, "ConvTranspose"):
            return names
        name = node.input[0]


def upsample_by_convolution(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Each 2x2 ConvTranspose of stride 2 as two 1x1 Conv whose channels are put in place.

    Exact: without overlap, output (2y + i, 2x + j) is one matrix product for each (i, j). A Conv
    makes row i: in NHWC its channels (j, c) are the pixels 2x and 2x + 1, and both rows side by
    side are the doubled image. Slower in float32, but onnxruntime has no 8-bit ConvTranspose. In
    NHWC, in which 8-bit convolutions work, nothing is transposed in between. The layer that makes
    the scores stays as it is; so does the graph where height or width is free.
    """
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    known, graph = shapes(model), model.graph
    last = ending(graph)[-1]
    for node in [n for n in graph.node if n.op_type == "ConvTranspose" and n.name != last]:
        if _doubles(node, constants(graph)):
            height, width = known[node.input[0]][2:]
            if height and width:
                _replace_upsampling(graph, node, height, width)
    drop_unused(graph)
    del graph.value_info[:]
    return model


def _doubles(node: onnx.NodeProto, values: dict[str, np.ndarray]) -> bool:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return (
        list(attributes.get("strides", [])) == [2, 2]
        and values[node.input[1]].shape[2:] == (2, 2)
        and not any(attributes.get("pads", []))
        and attributes.get("group", 1) == 1
        and len(node.input) == 3
    )


def _replace_upsampling(graph: onnx.GraphProto, node: onnx.NodeProto, height: int, width: int):
    values, name = constants(graph), node.name
    weight, bias = values[node.input[1]], values[node.input[2]]  # (in, out, 2, 2), (out,)
    channels = len(bias)
    shape = f"{name}/together/shape"
    set_constant(graph, shape, np.array([-1, 2 * height, 2 * width, channels], np.int64))
    made, rows = [], []

    def add(kind: str, title: str, inputs: list[str], **attributes) -> str:
        made.append(helper.make_node(kind, inputs, [title], name=title, **attributes))
        return title

    for i in range(2):
        row = f"{name}{ROW}{i}"
        kernel = weight[:, :, i].transpose(2, 1, 0).reshape(2 * channels, -1, 1, 1)
        set_constant(graph, f"{row}/weight", kernel)
        set_constant(graph, f"{row}/bias", np.tile(bias, 2))
        inputs = [node.input[0], f"{row}/weight", f"{row}/bias"]
        made_row = add("Conv", row, inputs, kernel_shape=[1, 1])
        rows.append(add("Transpose", f"{row}/nhwc", [made_row], perm=[0, 2, 3, 1]))
    beside = add("Concat", f"{name}/rows", rows, axis=2)
    together = add("Reshape", f"{name}/together", [beside, shape])
    add("Transpose", f"{name}/nchw", [together], perm=[0, 3, 1, 2])
    made[-1].output[0] = node.output[0]
    position = list(graph.node).index(node)
    graph.node.remove(node)
    for offset, new in enumerate(made):
        graph.node.insert(position + offset, new)
