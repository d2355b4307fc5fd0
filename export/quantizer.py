"""Static quantisation of one graph with onnxruntime's tools, calibrated once, built many times."""

from __future__ import annotations

import contextlib
import io
import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantType,
    quantize_static,
)

from tfproj.core.spec import INPUT_NAME
from tfproj.export.simplify import check, clean, constants, drop_unused, nodes_beside_scores
from tfproj.export.upsampling import ROW, WEIGHTED, ending, upsample_by_convolution

# Operators that onnxruntime computes in 8 bits on a CPU, or that only move data. ConvTranspose,
# Softmax and LogSoftmax are not among them.
OPERATORS = ("Add", "Clip", "Conv", "Gemm", "MatMul", "MaxPool", "Relu", "Reshape", "Transpose",
             "GlobalAveragePool", "AveragePool", "Concat")  # fmt: skip
# Operators that only move elements.
MOVES = ("Transpose", "Reshape", "Concat")
SCALINGS = {"Mul": np.multiply, "Add": np.add, "Sub": np.subtract, "Div": np.divide}
CODINGS = ("QuantizeLinear", "DequantizeLinear")
CHUNK = 4  # images, or fewer, whose activations are in memory at once


class Quantizer:
    """Quantises one float32 graph.

    Args:
        proto: the graph, as ``simplify.tidy`` gives it.
        images: uint8 (N, H, W, C) at the model's size, to find the ranges of the activations.
        folder: for files; the ranges are kept in it from one build to the next.

    Attributes:
        layers: names of those with weights that may be left in float32.
        float_layers: those that always are: the one that makes the scores, and ConvTranspose
            that could not be rewritten.
    """

    # Entropy is left out: with the 128 bins of quantize_static it has nothing to choose between,
    # and with 256 it was the worst of the three on each of three networks.
    METHODS = ("MinMax", "Percentile")

    def __init__(self, proto: onnx.ModelProto, images: np.ndarray, folder: Path):
        self._images, self._folder = images, folder
        self._model = upsample_by_convolution(proto)
        onnx.save(self._model, folder / "float32.onnx")
        nodes = self._model.graph.node
        self._ending = ending(self._model.graph)
        self._beside = nodes_beside_scores(self._model.graph)
        self._scaled = _scaled_image(self._model.graph)
        fixed = [n.name for n in nodes if n.op_type == "ConvTranspose"]
        self.float_layers = list(dict.fromkeys([self._ending[-1], *fixed]))
        names = dict.fromkeys(_layer(n) for n in nodes if n.op_type in WEIGHTED)
        spared = (*self.float_layers, *self._beside)
        self.layers = [name for name in names if name not in spared]

    def build(self, method: str, excluded: Sequence[str]) -> onnx.ModelProto:
        """The quantised graph, of standard operators only.

        Args:
            method: one of :attr:`METHODS`.
            excluded: of :attr:`layers`, those that stay in float32, too.
        """
        spared = [n.name for n in self._model.graph.node if _layer(n) in excluded]
        path = self._folder / "quantized.onnx"
        with _quiet():
            quantize_static(
                self._folder / "float32.onnx",
                path,
                _Images(self._images),
                op_types_to_quantize=list(OPERATORS),
                per_channel=True,
                # QInt8 activations take a path on x86 that is about half as fast.
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=[
                    *(*self.float_layers, *self._ending, *self._scaled.nodes, *spared),
                    *self._beside,
                ],
                calibrate_method=CalibrationMethod[method],
                calibration_cache_path=self._folder / f"{method}.json",
                extra_options={
                    # It divides the number of images, as it must.
                    "CalibStridedMinMax": math.gcd(len(self._images), CHUNK),
                    # Symmetric ranges would waste half of the levels behind a ReLU.
                    "CalibTensorRangeSymmetric": False,
                    # The image itself: 0..255 is its own quantisation, scaled as the network wants.
                    "TensorQuantOverrides": {
                        name: [{"rmin": self._scaled.least, "rmax": self._scaled.most}]
                        for name in self._scaled.tensors
                    },
                },
            )
        return self._finish(onnx.load(path))

    def _finish(self, model: onnx.ModelProto) -> onnx.ModelProto:
        model.ir_version = self._model.ir_version
        clean(model)
        _share_codings(model.graph)
        _move_bytes(model.graph)
        _quantize_first(model.graph, self._scaled.tensors[0])
        check(model, tidied=False)
        return model


class _Images(CalibrationDataReader):
    """Images one by one, for the calibration."""

    def __init__(self, images: np.ndarray):
        self._images = images
        self.set_range(0, len(images))

    def __len__(self) -> int:
        return len(self._images)

    def set_range(self, start_index: int, end_index: int) -> None:
        chosen = self._images[start_index:end_index]
        self._feeds: Iterator = iter([{INPUT_NAME: picture[None]} for picture in chosen])

    def get_next(self) -> dict | None:
        return next(self._feeds, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the quantiser's progress on the root logger and stdout."""
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.root.setLevel(level)


def _layer(node: onnx.NodeProto) -> str:
    """The layer that a node comes from: each row of an upsampling is a node of its own."""
    return node.name.partition(ROW)[0]


class _Scaled(NamedTuple):
    """Nodes that scale the image, the range of what they make of 0..255, and where it stands."""

    nodes: list[str]
    least: np.float32
    most: np.float32
    tensors: list[str]  # the scaled image, and the same moved


def _scaled_image(graph: onnx.GraphProto) -> _Scaled:
    values, name = constants(graph), INPUT_NAME
    pixels, nodes, tensors = np.float32([0, 255]), [], []
    while True:
        node = next(n for n in graph.node if name in n.input)
        constant = values.get(node.input[-1])
        if node.op_type in SCALINGS and constant is not None and name == node.input[0]:
            # A constant for each channel is one of all: the range is that of the whole image.
            pixels = SCALINGS[node.op_type](pixels[:, None], constant.reshape(1, -1))
            pixels = np.float32([pixels.min(), pixels.max()])
        elif node.op_type not in ("Cast", *MOVES[:2]):
            return _Scaled(nodes, np.float32(pixels.min()), np.float32(pixels.max()), tensors)
        name = node.output[0]
        if node.op_type not in MOVES[:2]:
            nodes.append(node.name)
            tensors = []
        tensors.append(name)


def _share_codings(graph: onnx.GraphProto) -> None:
    """Code all that a Concat puts side by side as the whole, so that it moves bytes as they are."""
    made_by = {name: node for node in graph.node for name in node.output}
    for node in [n for n in graph.node if n.op_type == "Concat"]:
        whole = next(n for n in graph.node if node.output[0] in n.input)
        if whole.op_type != "QuantizeLinear":
            continue
        for name in node.input:
            source = made_by[name]
            while source.op_type in (*CODINGS, *MOVES[:2]):
                if source.op_type in CODINGS:
                    source.input[1:] = whole.input[1:]
                source = made_by[source.input[0]]


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


def _quantize_first(graph: onnx.GraphProto, scaled: str) -> None:
    """Quantise the scaled image, a tensor of this name, before it is moved, not after.

    The uint8 image is cast, scaled and quantised, which gives its own bytes again. Without these
    steps OpenCV 4 would read it as signed bytes, and be up to 0.86 off in a probability.
    """
    moves, name = [], scaled
    while len(readers := [n for n in graph.node if name in n.input]) == 1:
        (reader,), name = readers, readers[0].output[0]
        if reader.op_type == "QuantizeLinear" and moves:
            moves[-1].output[0] = reader.output[0]
            reader.input[0], reader.output[0] = moves[0].input[0], f"{INPUT_NAME}/quantized"
            moves[0].input[0] = reader.output[0]
            graph.node.remove(reader)
            graph.node.insert(list(graph.node).index(moves[0]), reader)
        if reader.op_type not in MOVES[:2]:
            return
        moves.append(reader)
