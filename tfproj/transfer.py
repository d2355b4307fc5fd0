"""Start a training from the weights of a run or of an exported model (``--init``).

The source is brought to plain convolutions first, as export does; where it was trained with batch
norm, the new model gets norms that leave its function as it is. So it computes what the source does
until its first step; classes that differ get a new last layer.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.errors import InputError, missing_extra
from tfproj.pretrained import is_pretrained, pretrained_file
from tfproj.runs import find_run
from tfproj.spec import ModelSpec


@dataclass(frozen=True)
class Source:
    """Where weights come from.

    Attributes:
        name: of the pretrained model, or the path of the run or file.
        spec: of its model; ``options``: of the builder, for the model that is to be trained: with
            batch norm where the source was trained with it, kernels plain.
        file: an ONNX file, or the run's ``best.keras``.
    """

    name: str
    spec: ModelSpec
    options: dict[str, Any]
    file: Path


def find_source(name: str, task: str) -> Source:
    """The pretrained model, ONNX file or run that ``--init`` means. No TensorFlow here.

    Raises:
        InputError: there is none, it is for another task, or its weights are in 8 bits.
    """
    if name.endswith(".onnx"):
        source = _exported(name, Path(name))
    elif is_pretrained(name) and not (Path(name) / "config.json").is_file():
        source = _exported(name, pretrained_file(name))
    else:
        run = find_run(name)
        run.require(run.best_weights, run.spec_file)
        source = Source(str(run.path), run.spec(), run.config().model_options, run.best_weights)
    if source.spec.task != task:
        raise InputError(f"--init {name}: a model for {source.spec.task}, not {task}")
    # A kernel that was standardised can be trained on as it is, but not be found again.
    options = {k: v for k, v in source.options.items() if k != "weight_standardization"}
    return Source(source.name, source.spec, options, source.file)


def _exported(name: str, path: Path) -> Source:
    from tfproj.modelfile import read_model

    file = read_model(path, str(path))
    if "quantization" in file.record:
        raise InputError(f"--init {name}: int8 weights can't be trained; take the float32 file")
    training = file.record.get("training")
    if not isinstance(training, dict) or not isinstance(training.get("model_options"), dict):
        raise InputError(f"--init {name}: the file does not say what its network is made of")
    return Source(name, file.spec, training["model_options"], path)


def initialise(
    model, spec: ModelSpec, options: Mapping[str, Any], name: str, images: np.ndarray
) -> list[str]:
    """Give a new model the weights of a source, layer by layer.

    Args:
        model: what ``build_model(spec, options)`` gives, weights drawn. A first convolution for
            another number of channels is adapted: grey takes the sum over the colours, colours
            share the grey kernel.
        name: see :func:`find_source`.
        images: uint8 (N, H, W, C) to train with, from which batch norm gets its statistics.

    Returns:
        Names of the layers that keep their drawn weights: the last one where classes differ.

    Raises:
        InputError: the models differ in more than channels and classes.
    """
    from tfproj.models.fold import unfold_norms

    source = find_source(name, spec.task)
    weights = _onnx_weights(source) if source.file.suffix == ".onnx" else _run_weights(source)
    plain = _without_norms(model, spec, options)
    fresh = _load(plain, spec, source, weights)
    if plain is not model:
        unfold_norms(plain, model, images)
    _say(source, spec, fresh)
    return fresh


def _without_norms(model, spec: ModelSpec, options: Mapping[str, Any]):
    """The model itself where it has no batch norm, else a float32 one without."""
    import keras

    from tfproj.models import build_model

    if not options.get("batch_norm"):
        return model
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        return build_model(spec, {k: v for k, v in options.items() if k != "batch_norm"})
    finally:
        keras.config.set_dtype_policy(policy)


def _load(
    model, spec: ModelSpec, source: Source, weights: dict[str, list[np.ndarray]]
) -> list[str]:
    """Fill a model without norms; names of the layers that keep their drawn weights."""
    layers = [layer for layer in model.layers if layer.weights]
    fresh = []
    for layer in layers:
        shapes = [tuple(w.shape) for w in layer.weights]
        given = weights.get(layer.name)
        if given is not None and layer is layers[0]:
            given = [_fit_channels(given[0], spec.channels), *given[1:]]
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


def _say(source: Source, spec: ModelSpec, fresh: list[str]) -> None:
    new = f"new last layer for {len(spec.classes)} classes" if fresh else "same classes"
    print(f"starting from {source.name} ({source.spec.data}); {new}", file=sys.stderr)


def _fit_channels(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Kernel (h, w, in, out) of a first convolution for another number of image channels."""
    if kernel.ndim != 4 or kernel.shape[2] == channels:
        return kernel
    grey = kernel.sum(axis=2, keepdims=True)
    return np.repeat(grey, channels, axis=2) / channels


def _run_weights(source: Source) -> dict[str, list[np.ndarray]]:
    from tfproj.evaluate import load_model
    from tfproj.models.fold import fold_norms
    from tfproj.runs import Run

    run = Run(source.file.parent)
    plain = fold_norms(load_model(run), source.spec, run.config().model_options)
    return {layer.name: layer.get_weights() for layer in plain.layers if layer.weights}


def _onnx_weights(source: Source) -> dict[str, list[np.ndarray]]:
    """Keras' arrays by layer name, of a graph whose nodes are called after Keras' layers."""
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise missing_extra("onnx", "train") from None
    from tfproj.export.graph import shapes

    model = onnx.load(source.file)
    graph, known = model.graph, shapes(model)
    # The export flattens (channels, height, width), Keras (height, width, channels).
    flattened = {n.output[0]: known.get(n.input[0]) for n in graph.node if n.op_type == "Reshape"}
    arrays = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    for node in graph.node:  # weights that the file keeps in 16 bits
        if node.op_type == "Cast" and node.input[0] in arrays:
            arrays[node.output[0]] = arrays[node.input[0]].astype(np.float32)
    kinds = ("Conv", "ConvTranspose", "Gemm")
    return {
        node.name: [
            _keras_kernel(arrays[node.input[1]], flattened.get(node.input[0])),
            *(arrays[name] for name in node.input[2:]),
        ]
        for node in graph.node
        if node.op_type in kinds
    }


def _keras_kernel(kernel: np.ndarray, flattened: list[int | None] | None) -> np.ndarray:
    """(out, in, h, w) -> (h, w, in, out), and the like for transposed; matrices as they are.

    Args:
        kernel: of a graph's node.
        flattened: shape (N, C, H, W) of what a matrix' rows were flattened from, if it was.
    """
    if kernel.ndim == 4:
        return kernel.transpose(2, 3, 1, 0)
    if flattened is None or len(flattened) != 4:
        return kernel
    rows = kernel.reshape(*flattened[1:], -1)
    return rows.transpose(1, 2, 0, 3).reshape(kernel.shape)


def describe(name: str, task: str) -> dict[str, Any]:
    """What a run's ``environment.json`` says of its source: name and SHA-256 of the file."""
    import hashlib

    source = find_source(name, task)
    digest = hashlib.sha256(source.file.read_bytes()).hexdigest()
    return {"name": source.name, "file": source.file.name, "sha256": digest}
