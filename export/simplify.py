"""Tidy a converted graph: no useless nodes, no computed shapes, names that a reader can follow.

tf2onnx leaves an addition of zero, shapes that are computed although only the batch is free, and
names such as ``StatefulPartitionedCall/cnn_1/conv1_1/BiasAdd:0``. Every pass here keeps the
function; ``verify`` proves it afterwards.

onnxslim 0.1.98 could take the place of two passes, 18 lines, for a package that needs sympy. It
leaves dense layers in two operators, the transposes before both answers, and the names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tfproj.core.spec import OUTPUT_NAMES, PROBABILITIES_NAME, SCORES_NAME
from tfproj.errors import TfprojError, first_line
from tfproj.export.node_names import rename
from tfproj.inference.model_file import OPERATORS

STANDARD_DOMAINS = ("", "ai.onnx")
# Operators that a file for inference has no use for.
UNWANTED = ("BatchNormalization", "Dropout", "Identity", "If", "Loop", "Scan", "Shape")


def tidy(proto: onnx.ModelProto, layers: Iterable[str], free_size: bool = False) -> onnx.ModelProto:
    """The same function as a graph for readers.

    Args:
        proto: one graph that tf2onnx wrote, input ``image``, outputs of OUTPUT_NAMES.
        layers: names of the Keras layers, after which the nodes are called.
        free_size: leave height and width open, in a graph that nowhere depends on them.

    Returns:
        A new model with batch dimension ``N``, for :func:`check`.

    Raises:
        TfprojError: the size can't be left open.
    """
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    graph = model.graph
    _order_outputs(graph)
    _drop_zero_additions(graph)
    _drop_double_transposes(graph)
    _freeze_reshapes(model)
    _repeat_by_concat(graph)
    _fuse_dense(model)
    _flatten_in_place(model)
    _softmax_last(graph)
    drop_unused(graph)
    if free_size:
        _free_size(graph)
    rename(graph, sorted(layers, key=len, reverse=True))
    graph.name = "tfproj"
    clean(model)
    return model


def clean(model: onnx.ModelProto) -> None:
    """Leave out what only a converter needs: shapes in between, its notes, its domains."""
    del model.graph.value_info[:]
    del model.metadata_props[:]
    standard = [o for o in model.opset_import if o.domain in STANDARD_DOMAINS]
    refill(model.opset_import, standard)


def check(model: onnx.ModelProto, tidied: bool = True) -> None:
    """TfprojError where the graph holds what no exported file may hold.

    Args:
        tidied: of a network of ours, so without ``UNWANTED`` operators, which others may need.
    """
    # The worst first: loops bring much that is only useless.
    for node in sorted(model.graph.node, key=lambda node: node.op_type in OPERATORS):
        if node.domain not in STANDARD_DOMAINS:
            raise TfprojError(f"the graph holds {node.domain}.{node.op_type}, not a standard one")
        if node.op_type not in OPERATORS:
            raise TfprojError(f"{node.name} needs the operator {node.op_type}: no file may hold it")
        if tidied and node.op_type in UNWANTED:
            raise TfprojError(f"the graph holds a useless {node.op_type} ({node.name})")
    if model.functions or any(i.external_data for i in model.graph.initializer):
        raise TfprojError("the graph holds local functions or external data")
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise TfprojError(f"conversion failed: {first_line(error)}") from error


def shapes(model: onnx.ModelProto) -> dict[str, list[int | None]]:
    """Dimensions of every tensor whose rank is known; None for a free one."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    return {
        value.name: [d.dim_value or None for d in value.type.tensor_type.shape.dim]
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
        if value.type.tensor_type.HasField("shape")
    }


def constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    """The initializers as arrays."""
    return {i.name: numpy_helper.to_array(i) for i in graph.initializer}


def set_constant(graph: onnx.GraphProto, name: str, value: np.ndarray) -> None:
    """Add or replace an initializer."""
    drop_constant(graph, name)
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))


def drop_constant(graph: onnx.GraphProto, name: str) -> None:
    """Remove an initializer, if there is one of that name."""
    refill(graph.initializer, [i for i in graph.initializer if i.name != name])


def refill(repeated, items: Iterable) -> None:
    """Make ``items`` the content of a repeated field, which knows no such assignment."""
    items = list(items)
    del repeated[:]
    repeated.extend(items)


def replace_input(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Let every reader of tensor ``old`` read ``new``."""
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def _order_outputs(graph: onnx.GraphProto) -> None:
    found = {output.name: output for output in graph.output}
    refill(graph.output, [found[name] for name in OUTPUT_NAMES if name in found])
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"


def _free_size(graph: onnx.GraphProto) -> None:
    """Open height and width; tf2onnx, told that they are open, would compute every shape."""
    height, width, channels = (d.dim_value for d in graph.input[0].type.tensor_type.shape.dim[1:])
    values = constants(graph)
    for value in (*graph.input, *graph.output):
        for position, symbol in ((1, "H"), (2, "W")):
            value.type.tensor_type.shape.dim[position].dim_param = symbol
    for node in list(graph.node):
        if node.op_type == "Reshape":
            # The input, (N, H, W, 1) to (N, 1, H, W), may pass. Where a level of the network is one
            # pixel large, there are others.
            target = values.get(node.input[1], np.empty(0)).tolist()
            if channels != 1 or target[1:] != [1, height, width]:
                raise TfprojError(
                    f"--dynamic-size: at {height} x {width} px the graph depends on the image's "
                    "size; train with a larger --image-size"
                )
            transpose = helper.make_node(
                "Transpose", node.input[:1], node.output, name=node.name, perm=[0, 3, 1, 2]
            )
            graph.node.insert(list(graph.node).index(node), transpose)
            graph.node.remove(node)
    drop_unused(graph)


def _drop_zero_additions(graph: onnx.GraphProto) -> None:
    values = constants(graph)
    for node in list(graph.node):
        zeros = [v for v in (values.get(name) for name in node.input) if v is not None]
        if node.op_type == "Add" and zeros and zeros[0].size == 1 and not zeros[0].any():
            kept = next(name for name in node.input if name not in values)
            replace_input(graph, node.output[0], kept)
            graph.node.remove(node)


def _drop_double_transposes(graph: onnx.GraphProto) -> None:
    """A tensor that is transposed and transposed back is read as it was."""
    for node in graph.node:
        before = _producer(graph, node.input[0]) if node.op_type == "Transpose" else None
        if before is not None and before.op_type == "Transpose":
            first, second = (helper.get_node_attr_value(n, "perm") for n in (before, node))
            if [first[axis] for axis in second] == sorted(first):
                replace_input(graph, node.output[0], before.input[0])


def _freeze_reshapes(model: onnx.ModelProto) -> None:
    """Replace computed target shapes where only the batch is free."""
    graph, known, values = model.graph, shapes(model), constants(model.graph)
    for node in graph.node:
        target = known.get(node.output[0])
        computed = node.op_type == "Reshape" and node.input[1] not in values
        if computed and target and target[0] is None and None not in target[1:]:
            name = f"{node.output[0]}_shape"
            set_constant(graph, name, np.array([-1, *target[1:]], np.int64))
            node.input[1] = name


def _repeat_by_concat(graph: onnx.GraphProto) -> None:
    """A Tile along one axis, as of UpSampling2D, by an operator that a file may hold."""
    values = constants(graph)
    for node in graph.node:
        repeats = values.get(node.input[1]) if node.op_type == "Tile" else None
        if repeats is not None and sorted(repeats)[:-1] == [1] * (len(repeats) - 1):
            (source, _), axis = node.input, int(repeats.argmax())
            copies = [source] * int(repeats[axis])
            node.CopyFrom(
                helper.make_node("Concat", copies, node.output, name=node.name, axis=axis)
            )


def _fuse_dense(model: onnx.ModelProto) -> None:
    """MatMul + Add of a bias on a matrix is Gemm, which quantises as one operator."""
    graph, known, values = model.graph, shapes(model), constants(model.graph)
    readers = Counter(name for node in graph.node for name in node.input)
    for node in list(graph.node):
        product = _producer(graph, node.input[0]) if node.op_type == "Add" else None
        if product is None or product.op_type != "MatMul" or readers[product.output[0]] != 1:
            continue
        weight, bias = values.get(product.input[1]), values.get(node.input[1])
        if weight is None or bias is None or weight.ndim != 2 or bias.ndim != 1:
            continue
        if len(known.get(product.input[0], ())) != 2:
            continue
        gemm = helper.make_node(
            "Gemm", [*product.input, node.input[1]], list(node.output), name=product.name
        )
        graph.node.insert(list(graph.node).index(node), gemm)
        graph.node.remove(product)
        graph.node.remove(node)


def _flatten_in_place(model: onnx.ModelProto) -> None:
    """Transpose to NHWC + flatten + Gemm: flatten as it lies, and permute the weights instead."""
    graph, known, values = model.graph, shapes(model), constants(model.graph)
    readers = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        # Whoever else reads what is flattened, or the weights, wants them as they were.
        alone = node.op_type == "Gemm" and readers[node.input[0]] == readers[node.input[1]] == 1
        reshape = _producer(graph, node.input[0]) if alone else None
        transpose = _producer(graph, reshape.input[0]) if reshape is not None else None
        if transpose is None or (reshape.op_type, transpose.op_type) != ("Reshape", "Transpose"):
            continue
        channels, height, width = known[transpose.input[0]][1:]
        if list(helper.get_node_attr_value(transpose, "perm")) != [0, 2, 3, 1]:
            continue
        weight = values[node.input[1]]
        permuted = weight.reshape(height, width, channels, -1).transpose(2, 0, 1, 3)
        set_constant(graph, node.input[1], permuted.reshape(weight.shape))
        reshape.input[0] = transpose.input[0]


def _softmax_last(graph: onnx.GraphProto) -> None:
    """Both softmaxes after the last transpose: tf2onnx has them before it, on a strided axis."""
    transpose = _producer(graph, SCORES_NAME)
    log_softmax = _producer(graph, transpose.input[0])
    if transpose.op_type == "Transpose" and log_softmax.op_type == "LogSoftmax":
        source, between = log_softmax.input[0], log_softmax.output[0]
        log_softmax.CopyFrom(_on_last_axis("LogSoftmax", between, SCORES_NAME, log_softmax.name))
        transpose.input[0], transpose.output[0] = source, between
        graph.node.remove(log_softmax)
        graph.node.append(log_softmax)
    last = _producer(graph, PROBABILITIES_NAME)
    if last.op_type == "Transpose":
        graph.node.remove(last)
        graph.node.append(
            _on_last_axis("Softmax", SCORES_NAME, PROBABILITIES_NAME, PROBABILITIES_NAME)
        )


def _on_last_axis(kind: str, source: str, target: str, name: str) -> onnx.NodeProto:
    return helper.make_node(kind, [source], [target], name=name, axis=-1)


def _producer(graph: onnx.GraphProto, name: str) -> onnx.NodeProto | None:
    return next((node for node in graph.node if name in node.output), None)


def drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and initializers that lead to no output."""
    read = {output.name for output in graph.output}
    for node in reversed(list(graph.node)):  # a node stands before its readers
        if read & set(node.output):
            read |= set(node.input)
        else:
            graph.node.remove(node)
    refill(graph.initializer, [i for i in graph.initializer if i.name in read])


def nodes_beside_scores(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that the scores do not depend on: the softmax, other outputs."""
    read, beside = {SCORES_NAME}, []
    for node in reversed(list(graph.node)):
        if read & set(node.output):
            read |= set(node.input)
        else:
            beside.append(node.name)
    return beside
