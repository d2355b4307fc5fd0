"""Weights of an exported file as Keras' arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from tfproj.errors import InputError, first_line

KINDS = ("Conv", "ConvTranspose", "Gemm")


def read_weights(path: Path) -> dict[str, list[np.ndarray]]:
    """Keras' arrays by layer name, of a graph whose nodes are called after Keras' layers.

    A bias of zeros is left out of a graph, and so of these.

    Raises:
        InputError: it is not such a graph.
    """
    try:
        return _weights(onnx.load(path))
    except Exception as error:  # a graph may be wrong in many ways, and onnx raises many kinds
        raise InputError(f"{path}: its weights cannot be taken ({first_line(error)})") from None


def _weights(model: onnx.ModelProto) -> dict[str, list[np.ndarray]]:
    graph = model.graph
    flattened = _flattened(model)
    arrays = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    for node in graph.node:  # weights that the file keeps in 16 bits
        if node.op_type == "Cast" and node.input[0] in arrays:
            arrays[node.output[0]] = arrays[node.input[0]].astype(np.float32)
    return {
        node.name: [
            _keras_kernel(arrays[node.input[1]], flattened.get(node.input[0]), _groups(node)),
            *(arrays[name] for name in node.input[2:]),
        ]
        for node in graph.node
        if node.op_type in KINDS
    }


def _flattened(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Tensors that a Reshape gives -> shape of what it flattened; 0 for a free dimension.

    The export flattens (channels, height, width), Keras (height, width, channels).
    """
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.input, *inferred.value_info)
    }
    reshapes = (node for node in model.graph.node if node.op_type == "Reshape")
    return {n.output[0]: shapes[n.input[0]] for n in reshapes if n.input[0] in shapes}


def _groups(node: onnx.NodeProto) -> int:
    return next((a.i for a in node.attribute if a.name == "group"), 1)


def _keras_kernel(kernel: np.ndarray, flattened: list[int] | None, groups: int) -> np.ndarray:
    """(out, in, h, w) -> (h, w, in, out), and the like for transposed; matrices as they are.

    Args:
        kernel: of a graph's node; ``groups``: of channels, where it is a convolution.
        flattened: shape (N, C, H, W) of what a matrix' rows were flattened from, if it was.
    """
    if kernel.ndim == 4:  # depthwise: (channels, 1, h, w) -> (h, w, channels, 1)
        return kernel.transpose((2, 3, 0, 1) if groups > 1 else (2, 3, 1, 0))
    if flattened is None or len(flattened) != 4:
        return kernel
    rows = kernel.reshape(*flattened[1:], -1)
    return rows.transpose(1, 2, 0, 3).reshape(kernel.shape)
