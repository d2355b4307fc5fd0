"""Somebody's Keras model as one of ours: from uint8 images to scores before softmax."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from tfproj.core.probabilities import probabilities_of
from tfproj.core.spec import INPUT_NAME
from tfproj.errors import InputError, TfprojError, first_line
from tfproj.export.convert import layers_of
from tfproj.inference.model_file import MAX_MODEL_BYTES

_MEAN, _DEVIATION = (np.float32(v) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
# (factor, addend) of the pixels; "caffe" turns the channels round before.
SCALES: dict[str, tuple[Any, Any]] = {
    "none": (1, 0),
    "rescale": (1 / 255, 0),
    "signed": (1 / 127.5, -1),
    "imagenet": (1 / (255 * _DEVIATION), -_MEAN / _DEVIATION),
    "caffe": (1, -np.float32((103.939, 116.779, 123.68))),
}
SCALING = ("Rescaling", "Normalization", "TrueDivide", "Divide", "Multiply", "Subtract", "Add")
PASSING = ("Resizing", "CenterCrop", "ZeroPadding2D", "Identity", "Cast", "GaussianNoise")
TINY = 1e-30  # the least probability that a logarithm is taken of
SAME = 1e-5  # a probability may change so much when the end of a model is rewritten


@dataclass(frozen=True)
class Ending:
    """How a model ends.

    Attributes:
        layer: the last one's name; ``kind``: "softmax", "sigmoid" or "linear".
        units: values that it gives for an image, or a pixel.
    """

    layer: str
    kind: str
    units: int


def load(path: Path) -> keras.Model:
    """The model of a file that was vetted, not compiled; InputError where Keras can't."""
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many kinds
        raise InputError(f"{path}: cannot be loaded ({first_line(error)})") from None


def functional(model: Any) -> keras.Model:
    """The same model in float32, once it is seen to take one image and give one answer.

    Raises:
        InputError: it has no graph of layers, or not those ends.
    """
    if not isinstance(model, keras.Model):
        raise InputError(f"a {type(model).__name__}, not a Keras model")
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise InputError(
            f"model {model.name!r} has no graph of layers (a subclass of keras.Model, or not "
            "built); build it from keras.Input with layers"
        )
    for what, tensors in (("inputs", model.inputs), ("outputs", model.outputs)):
        if len(tensors) != 1:
            names = ", ".join(t.name for t in tensors)
            raise InputError(f"model {model.name!r} has {len(tensors)} {what} ({names}); one works")
    shape = model.inputs[0].shape
    if len(shape) != 4 or shape[0] is not None or shape[-1] not in (1, 3):
        raise InputError(
            f"model {model.name!r} takes {shape}; expected images (None, height, width, 1 or 3)"
        )
    if 4 * model.count_params() > MAX_MODEL_BYTES:
        raise InputError(
            f"model {model.name!r} has {model.count_params():,} parameters: a file of more than "
            f"{MAX_MODEL_BYTES >> 20} MB, which Predictor does not take"
        )
    return _in_float32(model)


def _in_float32(model: keras.Model) -> keras.Model:
    if all(layer.compute_dtype in ("float32", None) for layer in layers_of(model) if layer.weights):
        return model

    def renewed(layer):
        return type(layer).from_config({**layer.get_config(), "dtype": "float32"})

    copy = keras.models.clone_model(model, clone_function=renewed, recursive=True)
    copy.set_weights(model.get_weights())
    return copy


def own_scaling(model: keras.Model) -> str | None:
    """What a model scales its pixels by first, the name of a layer; None: by nothing."""
    tensor = model.inputs[0]
    if "int" in tensor.dtype:
        return tensor.name
    # A sequential model does not list its operations.
    for layer in keras.Model(model.inputs, model.outputs).operations:
        nodes = [n for n in layer._inbound_nodes if any(t is tensor for t in n.input_tensors)]
        if not nodes:
            continue
        kind = type(layer).__name__
        if isinstance(layer, keras.Model):
            return own_scaling(layer)
        if kind in SCALING:
            return layer.name
        if kind not in PASSING and not kind.startswith("Random"):
            return None
        tensor = nodes[0].output_tensors[0]
    return None


def scaled(pixels: Any, preprocessing: str, dtype: str = "float32") -> Any:
    """Pixels 0..255 (B, H, W, C) of any kind of tensor as a model wants them; see ``SCALES``."""
    factor, addend = SCALES[preprocessing]
    values = ops.cast(pixels, dtype)
    if preprocessing == "caffe":
        values = values[..., ::-1]
    if np.any(factor != 1):
        values = values * factor
    return values + addend if np.any(addend) else values


def on_images(model: keras.Model, size: tuple[int, int], preprocessing: str) -> keras.Model:
    """The model for uint8 (B, *size, C), scaled in the graph; InputError for a size it can't."""
    taken = model.inputs[0]
    image = keras.Input((*size, taken.shape[-1]), dtype="uint8", name=INPUT_NAME)
    try:
        return keras.Model(image, model(scaled(image, preprocessing, taken.dtype)))
    except ValueError as error:
        height, width = size
        raise InputError(
            f"model {model.name!r} does not take {height} x {width} px ({first_line(error)})"
        ) from None


def with_scores(model: keras.Model, classes: int) -> tuple[keras.Model, Ending]:
    """A model that gives scores before softmax, one a class, and how the given one ends.

    A softmax or sigmoid at the end is left out. One value z, the score of the second of two
    classes, becomes (0, z): softmax(0, z) = (1 - sigmoid(z), sigmoid(z)).

    Raises:
        InputError: its values are neither scores nor probabilities of so many classes.
    """
    ending = _ending(model)
    where = f"the last layer {ending.layer!r}"
    if ending.kind not in ("softmax", "log_softmax", "sigmoid", "linear"):
        raise InputError(f"{where} ends in {ending.kind}: neither scores nor probabilities")
    single = ending.units == 1 and ending.kind != "softmax"
    if classes != (2 if single else ending.units):
        wanted = "two, the second is that of large values" if single else str(ending.units)
        raise InputError(f"{where} gives {ending.units} values; {classes} classes, not {wanted}")
    if ending.kind in ("softmax", "sigmoid"):
        model = _changed_end(model, _without_activation)
    return (_changed_end(model, _for_two) if single else model), ending


def _end(model: keras.Model) -> tuple[Any, list]:
    """(the last layer, the tensors that it is given)."""
    layer, node, _ = model.outputs[0]._keras_history
    return layer, layer._inbound_nodes[node].input_tensors


def _ending(model: keras.Model) -> Ending:
    layer, _ = _end(model)
    if isinstance(layer, keras.Model):
        return _ending(layer)
    name, shape = type(layer).__name__, model.outputs[0].shape
    activation = getattr(layer, "activation", None)
    kind = {"Softmax": "softmax", "Sigmoid": "sigmoid", "LogSoftmax": "log_softmax"}.get(name)
    kind = kind or getattr(activation, "__name__", "relu" if "ReLU" in name.upper() else "linear")
    if getattr(layer, "axis", -1) not in (-1, len(shape) - 1) and "softmax" in kind:
        raise InputError(f"the last layer {layer.name!r} has its softmax over axis {layer.axis}")
    return Ending(layer.name, kind, shape[-1])


def _changed_end(model: keras.Model, change: Callable[[Any, Any], Any]) -> keras.Model:
    """The model with ``change(last layer, what it is given)`` in the last layer's place."""
    layer, (given, *_) = _end(model)
    inside = isinstance(layer, keras.Model)
    output = _changed_end(layer, change)(given) if inside else change(layer, given)
    return keras.Model(model.inputs, output, name=model.name)


def _without_activation(layer: Any, given: Any) -> Any:
    if not getattr(layer, "weights", None):  # nothing but the activation
        return given
    copy = type(layer).from_config({**layer.get_config(), "activation": "linear"})
    values = copy(given)
    copy.set_weights(layer.get_weights())
    return values


def _for_two(layer: Any, given: Any) -> Any:
    if not isinstance(layer, (keras.layers.Dense, keras.layers.Conv2D)):
        raise InputError(f"one value comes from layer {layer.name!r}; expected Dense or Conv2D")
    count = "units" if isinstance(layer, keras.layers.Dense) else "filters"
    copy = type(layer).from_config({**layer.get_config(), count: 2})
    values = copy(given)
    # Of the first class, whose score is 0.
    copy.set_weights([np.concatenate([w * 0, w], axis=-1) for w in layer.get_weights()])
    return values


def finished(
    whole: keras.Model, scores: keras.Model, ending: Ending, pixels: np.ndarray
) -> tuple[keras.Model, str]:
    """``scores`` and its kind of ending, once its probabilities are seen to be those of ``whole``.

    Values that sum to one without a softmax at the end, as those of several models averaged, are
    probabilities: their logarithms are taken as scores.

    Args:
        whole, scores: from uint8 images, the model as it was given and with a changed end.
        ending: of the model as it was given.
        pixels: uint8 (B, H, W, C), a few images.

    Raises:
        InputError: masks of another size than the images'.
        TfprojError: they are not.
    """
    (_, *sides, _), size = scores.outputs[0].shape, pixels.shape[1:3]
    if sides and tuple(sides) != size:
        raise InputError(
            f"masks of {sides} px for images of {list(size)}: end the model with keras.layers."
            "UpSampling2D(interpolation='bilinear'), or with Flatten"
        )
    kind = ending.kind
    expected, values = whole.predict_on_batch(pixels), scores.predict_on_batch(pixels)
    if kind == "linear" and _are_probabilities(expected):
        logs = ops.log(ops.maximum(scores.outputs[0], TINY))
        scores, kind = keras.Model(scores.inputs[0], logs), "probabilities"
        values = scores.predict_on_batch(pixels)
    several = kind == "sigmoid" and expected.shape[-1] > 1
    if kind == "sigmoid" and not several:
        expected = np.concatenate([1 - expected, expected], axis=-1)
    elif kind == "linear":
        print(f"note: no softmax after {ending.layer!r}: its values are scores", file=sys.stderr)
    proved = kind in ("linear", "log_softmax")  # nothing was changed, but one value made two
    found = probabilities_of(values, "multi_label" if several else "classify")
    if not proved and not np.abs(found - expected).max() <= SAME:
        raise TfprojError("the end of the model can't be rewritten as scores")
    return scores, kind


def _are_probabilities(values: np.ndarray) -> bool:
    """Also False for one value an image."""
    sums = values.sum(axis=-1)
    return values.shape[-1] > 1 and values.min() >= 0 and np.abs(sums - 1).max() < 1e-3
