"""Keras on JAX, which makes ``model.onnx`` of ``model.keras`` in a folder.

Run by :mod:`tfproj.export.with_jax2onnx`: python -m tfproj.export.jax_process FOLDER LAST
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np
import onnx
from flax import nnx
from jax2onnx import to_onnx

from tfproj.core.spec import INPUT_NAME, PROBABILITIES_NAME, SCORES_NAME
from tfproj.models import depthwise, layers  # noqa: F401 (Keras finds them by their names)

OPSET = 18  # jax2onnx 0.17 writes no valid ReduceMean below


def main() -> None:
    folder, last = Path(sys.argv[1]), sys.argv[2]
    _take_known_operators()
    model = keras.models.load_model(folder / "model.keras", compile=False)
    names = list(model.output) if isinstance(model.output, dict) else [SCORES_NAME]

    def graph(image):
        found = model(image, training=False)
        found = found if isinstance(found, dict) else {SCORES_NAME: found}
        return [*(found[name] for name in names), getattr(jax.nn, last)(found[SCORES_NAME])]

    images = jax.ShapeDtypeStruct(("N", *model.input_shape[1:]), np.uint8)
    outputs = [*names, PROBABILITIES_NAME]
    proto = to_onnx(graph, [images], opset=OPSET, input_names=[INPUT_NAME], output_names=outputs)
    onnx.save(proto, folder / "model.onnx")


def _take_known_operators() -> None:
    """Let Keras' layers call what jax2onnx has one operator for.

    Of Keras' pooling it makes one over four axes, which onnxruntime does not run, or a
    convolution; of ReLU6 two operators, which no quantiser folds.
    """
    keras.layers.MaxPooling2D.call = _pooling("max_pool")
    keras.layers.AveragePooling2D.call = _pooling("avg_pool", count_include_pad=False)
    usual = keras.layers.ReLU.call

    def relu(layer, x):
        if layer.max_value is None or layer.negative_slope or layer.threshold:
            return usual(layer, x)
        return keras.ops.clip(x, 0, layer.max_value)

    keras.layers.ReLU.call = relu


def _pooling(name: str, **options: Any) -> Callable:
    def call(layer, x):
        window = {"window_shape": layer.pool_size, "strides": layer.strides}
        # Looked up now: while it converts, jax2onnx has its own in their place.
        return getattr(nnx, name)(x, **window, padding=layer.padding.upper(), **options)

    return call


if __name__ == "__main__":
    main()
