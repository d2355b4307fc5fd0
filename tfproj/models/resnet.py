"""A small residual network for small images: most of the work at low resolution, so it is fast."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfproj.core.spec import ModelSpec
from tfproj.models.blocks import conv, conv_relu, image_input, scores
from tfproj.models.layers import BatchNorm


def resnet(
    spec: ModelSpec,
    widths: Sequence[int] = (32, 64, 128),
    blocks: int = 1,
    stem_blocks: int = 0,
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> keras.Model:
    """A stem at full size, then stages of pooling, a convolution and residual blocks.

    Residual blocks as in He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition"
    (2016): two 3x3 convolutions whose result is added to their input.

    Args:
        spec: input and classes.
        widths: filters of the stem and of each stage; every stage halves the resolution.
        blocks: residual blocks in a stage.
        stem_blocks: residual blocks after the stem, at full size, where each is as much work as one
            of a stage but has a quarter or a sixteenth of its parameters.
        batch_norm: after each convolution; folds away on export.
        dropout: share of the pooled features silenced in training.

    Returns:
        uint8 images (B, H, W, C) -> scores float32 (B, classes), before softmax.
    """
    inputs, x = image_input(spec)
    x = conv_relu(x, widths[0], "stem", batch_norm)
    for block in range(1, stem_blocks + 1):
        x = _residual(x, widths[0], f"stem_block{block}", batch_norm)
    for stage, width in enumerate(widths[1:], 1):
        x = keras.layers.MaxPooling2D(padding="same", name=f"stage{stage}_pool")(x)
        x = conv_relu(x, width, f"stage{stage}_conv", batch_norm)
        for block in range(1, blocks + 1):
            x = _residual(x, width, f"stage{stage}_block{block}", batch_norm)
    x = keras.layers.GlobalAveragePooling2D(name="average")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="dropout")(x)
    x = keras.layers.Dense(len(spec.classes), name="dense")(x)
    return keras.Model(inputs, scores(x), name="resnet")


def _residual(x, width: int, name: str, batch_norm: bool):
    y = conv_relu(x, width, f"{name}_conv1", batch_norm)
    y = conv(width, f"{name}_conv2", use_bias=not batch_norm)(y)
    if batch_norm:
        y = BatchNorm(name=f"{name}_conv2_bn")(y)
    x = keras.layers.Add(name=f"{name}_add")([x, y])
    return keras.layers.ReLU(name=f"{name}_relu")(x)
