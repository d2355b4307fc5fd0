"""The classifier of the original work: two convolutions, two dense layers."""

from __future__ import annotations

import keras

from tfproj.core.spec import ModelSpec
from tfproj.models.blocks import conv_relu, image_input, scores


def cnn(
    spec: ModelSpec,
    filters: int = 32,
    dense: int = 128,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> keras.Model:
    """Two times (3x3 convolution, ReLU, 2x2 max pooling), then two dense layers.

    Args:
        spec: input and classes.
        filters: of each convolution.
        dense: units of the hidden dense layer.
        batch_norm: after each convolution; folds away on export.
        dropout: share of the hidden units silenced in training.

    Returns:
        uint8 images (B, H, W, C) -> scores float32 (B, classes), before softmax.
    """
    inputs, x = image_input(spec)
    x = conv_relu(x, filters, "conv1", batch_norm)
    x = keras.layers.MaxPooling2D(name="pool1")(x)
    x = conv_relu(x, filters, "conv2", batch_norm)
    x = keras.layers.MaxPooling2D(name="pool2")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(dense, activation="relu", name="dense1")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    x = keras.layers.Dense(len(spec.classes), name="dense2")(x)
    return keras.Model(inputs, scores(x), name="cnn")
