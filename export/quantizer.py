"""Static quantisation of one graph with onnxruntime's tools, calibrated once, built many times."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from tfproj.core.spec import INPUT_NAME, SCORES_NAME
from tfproj.export.simplify import (
    STANDARD_DOMAINS,
    check,
    constants,
    drop_unused,
    replace_input,
    set_constant,
    shapes,
)

# Operators that onnxruntime computes in 8 bits on a CPU, or that only move data. ConvTranspose,
# Softmax and LogSoftmax are not among them.
OPERATORS = ("Add", "Conv", "Gemm", "MatMul", "MaxPool", "Relu", "Reshape", "Transpose",
             "GlobalAveragePool", "AveragePool", "Concat")  # fmt: skip
WEIGHTED = ("Conv", "Gemm", "MatMul")
# Operators that only move elements.
MOVES = ("Transpose", "Reshape", "Concat")
ROW = "/row"  # follows the name of an upsampling layer in those of its rows
CHUNK = 4  # images whose activations are in memory at once


class Quantizer:
    """Quantises one float32 graph.

    Args:
        proto: the graph, as ``simplify.tidy`` gives it.
        images: uint8 (N, H, W, C) at the model's size, to find the ranges of the activations.

    Attributes:
        layers: names of those with weights that may be left in float32.
        float_layers: those that always are: the one that makes the scores, and ConvTranspose
            that could not be rewritten.
    """

    METHODS = ("MinMax", "Percentile", "Entropy")

    def __init__(self, proto: onnx.ModelProto, images: np.ndarray):
        self._images = images
        self._model = upsample_by_convolution(proto)
        self._prepared = _prepare(self._model)
        weighted = [n for n in self._model.graph.node if n.op_type in WEIGHTED]
        fixed = [n.name for n in self._model.graph.node if n.op_type == "ConvTranspose"]
        self.float_layers = list(dict.fromkeys([_ending(self._model.graph)[-1], *fixed]))
        names = dict.fromkeys(_layer(n) for n in weighted)
        self.layers = [name for name in names if name not in self.float_layers]
        self._ranges: dict[str, object] = {}

    def build(self, method: str, excluded: Sequence[str]) -> onnx.ModelProto:
        """The quantised graph, of standard operators only.

        Args:
            method: one of :attr:`METHODS`.
            excluded: of :attr:`layers`, those that stay in float32, too.
        """
        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        if method not in self._ranges:
            self._ranges[method] = self._calibrate(method)
        model = onnx.ModelProto()
        model.CopyFrom(self._prepared)
        spared = [n.name for n in model.graph.node if _layer(n) in excluded]
        quantizer = QDQQuantizer(
            model,
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            # QInt8 activations take a path on x86 that is about half as fast.
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges[method],
            nodes_to_quantize=[],
            nodes_to_exclude=[*self.float_layers, *_ending(model.graph), *spared],
            op_types_to_quantize=list(OPERATORS),
            extra_options={},
        )
        with _quiet():
            quantizer.quantize_model()
            quantizer.model.topological_sort()
        return self._finish(quantizer.model.model)

    def _calibrate(self, method: str):
        from onnxruntime.quantization import CalibrationMethod, create_calibrator
        from onnxruntime.quantization.calibrate import TensorData

        # Symmetric ranges would waste half of the levels behind a ReLU.
        extra = {"symmetric": False}
        if method == "Entropy":
            # With the default of 128 bins there is nothing to choose between; more take seconds.
            extra |= {"num_bins": 256, "num_quantized_bins": 128}
        with tempfile.TemporaryDirectory() as folder, _quiet():
            path = Path(folder) / "model.onnx"
            onnx.save(self._prepared, path)
            calibrator = create_calibrator(
                path,
                list(OPERATORS),
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=CalibrationMethod[method],
                extra_options=extra,
            )
            for start in range(0, len(self._images), CHUNK):
                calibrator.collect_data(_reader(self._images[start : start + CHUNK]))
            ranges = calibrator.compute_data()
        _share_ranges(self._model.graph, ranges.data)
        for name in _input_tensors(self._model.graph):
            # The image itself: 0..255 is its own quantisation, with scale 1/255.
            ranges.data[name] = TensorData(
                lowest=np.array(0, np.float32), highest=np.array(1, np.float32)
            )
        return ranges

    def _finish(self, model: onnx.ModelProto) -> onnx.ModelProto:
        model.ir_version = self._model.ir_version
        standard = [o for o in model.opset_import if o.domain in STANDARD_DOMAINS]
        del model.opset_import[:]
        model.opset_import.extend(standard)
        del model.metadata_props[:]
        del model.graph.value_info[:]
        _move_bytes(model.graph)
        _feed_image(model.graph)
        check(model)
        return model


def _prepare(proto: onnx.ModelProto) -> onnx.ModelProto:
    """With the shapes that the quantiser needs.

    Its own optimisation is left out: ``simplify.tidy`` has done that, and what onnxruntime writes
    may hold operators of its own.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prepared.onnx"
        quant_pre_process(proto, path, skip_optimization=True, skip_symbolic_shape=True)
        return onnx.load(path)


def _layer(node: onnx.NodeProto) -> str:
    """The layer that a node comes from: each row of an upsampling is a node of its own."""
    return node.name.partition(ROW)[0]


def _ending(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes from the scores back to the last one with weights."""
    name, names = SCORES_NAME, []
    while True:
        node = next(n for n in graph.node if name in n.output)
        names.append(node.name)
        if node.op_type in (*WEIGHTED, "ConvTranspose"):
            return names
        name = node.input[0]


def _input_tensors(graph: onnx.GraphProto) -> list[str]:
    """Tensors that hold nothing but the scaled image: rescaled, and moved."""
    names: list[str] = []
    name = INPUT_NAME
    while True:
        node = next(n for n in graph.node if name in n.input)
        if node.op_type not in ("Cast", "Mul", "Reshape", "Transpose"):
            return names
        name = node.output[0]
        if node.op_type != "Cast":
            names.append(name)


def _share_ranges(graph: onnx.GraphProto, ranges: dict) -> None:
    """One range for all that a Concat puts side by side, so that it moves bytes as they are."""
    from onnxruntime.quantization.calibrate import TensorData

    for node in graph.node:
        if node.op_type != "Concat":
            continue
        sources = [_before_moves(graph, name) for name in node.input]
        lowest, highest = zip(*(ranges[name].range_value for name in sources), strict=True)
        for name in (*sources, *node.input, node.output[0]):
            ranges[name] = TensorData(
                lowest=np.min(lowest, axis=0), highest=np.max(highest, axis=0)
            )


def _before_moves(graph: onnx.GraphProto, name: str) -> str:
    """The tensor whose elements ``name`` holds in another order."""
    node = next(n for n in graph.node if name in n.output)
    return _before_moves(graph, node.input[0]) if node.op_type in MOVES[:2] else name


def _move_bytes(graph: onnx.GraphProto) -> None:
    """Move 8-bit tensors as they are, where they were dequantised and quantised again as before.

    onnxruntime leaves these steps out by itself; OpenVINO would run every one.
    """
    values = constants(graph)
    for node in [n for n in graph.node if n.op_type in MOVES]:
        count = len(node.input) if node.op_type == "Concat" else 1
        before = [n for name in node.input[:count] for n in graph.node if name in n.output]
        after = [n for n in graph.node if node.output[0] in n.input]
        kinds = [n.op_type for n in (*before, *after)]
        if kinds != ["DequantizeLinear"] * count + ["QuantizeLinear"]:
            continue
        codings = [[values[name] for name in n.input[1:]] for n in (*before, *after)]
        if all(np.array_equal(a, b) for c in codings for a, b in zip(c, codings[0], strict=True)):
            node.input[:count] = [n.input[0] for n in before]
            node.output[0] = after[0].output[0]
            graph.node.remove(after[0])
    drop_unused(graph)


def _feed_image(graph: onnx.GraphProto) -> None:
    """Read the uint8 image as the quantised tensor that it is: without Cast, Mul, QuantizeLinear.

    Quantised with scale 1/255 and zero point 0, ``image * (1/255)`` is ``image`` again.
    """
    scaling, quantize, name = [], None, INPUT_NAME
    while quantize is None:
        readers = [n for n in graph.node if name in n.input]
        if len(readers) != 1:
            return
        kind, name = readers[0].op_type, readers[0].output[0]
        if kind in ("Cast", "Mul"):
            scaling.append(readers[0])
        elif kind == "QuantizeLinear":
            quantize = readers[0]
        elif kind not in ("Reshape", "Transpose"):  # these move bytes as well as floats
            return
    values = constants(graph)
    scale, zero = (values[constant] for constant in quantize.input[1:])
    if not np.isclose(scale, 1 / 255, rtol=1e-6) or zero != 0:
        return
    for node in [*scaling, quantize]:
        replace_input(graph, node.output[0], node.input[0])
        graph.node.remove(node)
    drop_unused(graph)


def _reader(images: np.ndarray):
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._feeds: Iterator = iter([{INPUT_NAME: picture[None]} for picture in images])

        def get_next(self) -> dict | None:
            return next(self._feeds, None)

    return Reader()


class _quiet:
    """Without the quantiser's progress on the root logger and stdout."""

    def __enter__(self) -> None:
        import contextlib
        import io

        self._level = logging.root.level
        logging.root.setLevel(logging.ERROR)
        self._stdout = contextlib.redirect_stdout(io.StringIO())
        self._stdout.__enter__()

    def __exit__(self, *exc) -> None:
        self._stdout.__exit__(*exc)
        logging.root.setLevel(self._level)


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
    last = _ending(graph)[-1]
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
