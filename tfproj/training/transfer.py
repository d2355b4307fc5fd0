"""Give a new model the weights of another (``--init``), layer by layer.

The source is brought to plain convolutions first, as export does; where it was trained with batch
norm, the new model gets norms that leave its function as it is. So it computes what the source does
until its first step; classes that differ get a new last layer.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfproj.core.spec import ModelSpec
from tfproj.errors import InputError
from tfproj.experiment.initial_weights import Source
from tfproj.models.checkpoint import load_model
from tfproj.models.folding import fold_norms, unfold_norms, without_norms
from tfproj.models.onnx_weights import read_weights
from tfproj.models.registry import build_model
from tfproj.runs.run import Run

Weights = Mapping[str, list[np.ndarray]]


def initialise(
    model, spec: ModelSpec, options: Mapping[str, Any], source: Source, images: np.ndarray
) -> list[str]:
    """Give a new model the weights of a source, layer by layer.

    Args:
        model: what ``build_model(spec, options)`` gives, randomly initialised. A first convolution
            for another number of channels is adapted: grey takes the sum over the colours, colours
            share the grey kernel.
        source: see :func:`tfproj.experiment.initial_weights.find_source`.
        images: uint8 (N, H, W, C) to train with, from which batch norm gets its statistics.

    Returns:
        Names of the layers that keep their random weights: the last one where classes differ.

    Raises:
        InputError: the models differ in more than channels and classes.
    """
    exported = source.file.suffix == ".onnx"
    weights = read_weights(source.file) if exported else _run_weights(source)
    plain = _without_norms(model, spec, options)
    fresh = _load(plain, spec, source, weights)
    if plain is not model:
        unfold_norms(plain, model, images)
    new = f"new last layer for {len(spec.classes)} classes" if fresh else "same classes"
    print(f"starting from {source.name} ({source.spec.data}); {new}", file=sys.stderr)
    return fresh


def _run_weights(source: Source) -> Weights:
    run = Run(source.file.parent)
    plain = fold_norms(load_model(run), source.spec, run.config().model_options)
    return {layer.name: layer.get_weights() for layer in plain.layers if layer.weights}


def _without_norms(model, spec: ModelSpec, options: Mapping[str, Any]):
    """The model itself where it has no batch norm, else a float32 one without."""
    if not options.get("batch_norm"):
        return model
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        return build_model(spec, without_norms(options))
    finally:
        keras.config.set_dtype_policy(policy)


def _load(model, spec: ModelSpec, source: Source, weights: Weights) -> list[str]:
    """Fill a model without norms; names of the layers that keep their random weights."""
    layers = [layer for layer in model.layers if layer.weights]
    fresh = []
    for layer in layers:
        shapes = [tuple(w.shape) for w in layer.weights]
        given = weights.get(layer.name)
        if given is not None and layer is layers[0]:
            given = [_fit_channels(given[0], spec.channels), *given[1:]]
        if given is not None and len(given) < len(shapes):  # an exported file has no bias of zeros
            given = [*given, np.zeros(shapes[-1], np.float32)]
        if layer is layers[-1] and spec.classes != source.spec.classes:
            fresh.append(layer.name)
        elif given is None or [w.shape for w in given] != shapes:
            raise InputError(
                f"--init {source.name}: layer {layer.name!r} of model {spec.model!r} does not fit; "
                "leave out --model, and use the image size of the source where the model needs it"
            )
        else:
            layer.set_weights(given)
    return fresh


def _fit_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Kernel (h, w, in, out) of a first convolution for another number of image channels."""
    if kernel.ndim != 4 or kernel.shape[2] == channels:
        return kernel
    grey = kernel.sum(axis=2, keepdims=True)
    return np.repeat(grey, channels, axis=2) / channels
