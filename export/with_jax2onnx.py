"""A Keras model as an ONNX graph, by jax2onnx: nothing of it comes from tf2onnx.

Keras has one backend a process, so JAX gets one of its own, :mod:`tfproj.export.jax_process`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper, version_converter

from tfproj.core.leftovers import scratch
from tfproj.errors import TfprojError, first_line
from tfproj.export.convert import layers_of
from tfproj.export.simplify import refill
from tfproj.inference.session import CPU

TIMEOUT = 600  # seconds; the largest network of a preset takes 30
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def convert(model, opset: int, multi_label: bool = False):
    """A Keras model from images to scores, or to outputs by name, as an ``onnx.ModelProto``.

    Height and width are static, the batch is free.

    Raises:
        TfprojError: jax2onnx, or Keras on JAX, can't take the model.
    """
    with scratch() as folder:
        model.save(folder / "model.keras")
        _convert(folder, "sigmoid" if multi_label else "softmax")
        try:
            proto = _optimized(folder)
            if opset != proto.opset_import[0].version:
                proto = version_converter.convert_version(proto, opset)
        except RuntimeError as error:  # onnxruntime's errors are of this kind, too
            raise TfprojError(f"jax2onnx: not a usable graph: {first_line(error)}") from error
    _name_after_layers(proto.graph, layers_of(model))
    return proto


def _convert(folder: Path, last: str) -> None:
    """Let the other process make ``model.onnx`` of ``model.keras``."""
    try:
        subprocess.run(
            [sys.executable, "-I", "-m", "tfproj.export.jax_process", folder, last],
            env={**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise TfprojError(f"jax2onnx did not finish within {TIMEOUT} seconds") from None
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines() or [f"exit code {error.returncode}"]
        raise TfprojError(
            f"jax2onnx cannot take this model: {lines[-1][:200]}; leave --converter out"
        ) from None


def _optimized(folder: Path) -> onnx.ModelProto:
    """The graph as onnxruntime simplifies it, in standard operators.

    jax2onnx puts a transpose before and after each convolution, and computes constants.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(folder / "model.onnx", options, providers=[CPU])
    proto = onnx.load(folder / "optimized.onnx")
    refill(proto.opset_import, [o for o in proto.opset_import if not o.domain])
    for node in list(proto.graph.node):
        # Older operator sets don't know this attribute.
        refill(node.attribute, [a for a in node.attribute if a.name != "noop_with_empty_axes"])
        if node.op_type == "ReduceSumSquare":  # no reader of our files has to know it
            node.op_type, source, square = "ReduceSum", node.input[0], f"{node.name}/square"
            node.input[0] = square
            squared = helper.make_node("Mul", [source, source], [square], name=square)
            proto.graph.node.insert(list(proto.graph.node).index(node), squared)
    return proto


def _name_after_layers(graph: onnx.GraphProto, layers: list) -> None:
    """Nodes with weights, whose names jax2onnx does not keep, after the layers with the same."""
    kernels = {_print(layer.kernel): layer.name for layer in layers if hasattr(layer, "kernel")}
    values = {i.name: i for i in graph.initializer}
    for node in graph.node:
        if node.op_type in WEIGHTED and node.input[1] in values:
            kernel = _print(numpy_helper.to_array(values[node.input[1]]))
            node.name = kernels.get(kernel, node.name)


def _print(kernel) -> bytes:
    """The same for the same numbers, whatever their layout."""
    return np.sort(np.asarray(kernel, np.float32), axis=None).tobytes()
