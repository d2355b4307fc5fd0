"""The segmenter of the original work: a UNet with additive skips and 465,857 parameters."""

from __future__ import annotations

import keras

from tfproj.models.blocks import conv, conv_relu, image_input, kernel_initializer, scores
from tfproj.spec import ModelSpec

# Filters of the two convolutions of each level, as in the report's table.
ENCODER = ((16, 24), (36, 52), (72, 96))
BOTTLENECK = (96, 96)
DECODER = ((72, 52), (36, 24), (16, None))  # None: the classes


def unet(
    spec: ModelSpec,
    batch_norm: bool = False,
    final_relu: bool = False,
    initializer: str = "keras",
) -> keras.Model:
    """Three levels down, a bottleneck, three levels up; skips are added, not concatenated.

    Args:
        spec: input (sides multiples of 8) and classes.
        batch_norm: after each convolution but the last; folds away on export.
        final_relu: a ReLU on the scores, as in the original; it can silence a class for good.
        initializer: ``keras`` or ``torch``, see ``blocks.kernel_initializer``.

    Returns:
        uint8 images (B, H, W, C) -> scores float32 (B, H, W, classes), before softmax.
    """
    inputs, x = image_input(spec)
    skips = []
    for level, (first, second) in enumerate(ENCODER, 1):
        x = conv_relu(x, first, f"enc{level}_conv1", batch_norm, initializer)
        x = conv_relu(x, second, f"enc{level}_conv2", batch_norm, initializer)
        skips.append(x)
        x = keras.layers.MaxPooling2D(name=f"enc{level}_pool")(x)

    x = conv_relu(x, BOTTLENECK[0], "mid_conv1", batch_norm, initializer)
    x = conv_relu(x, BOTTLENECK[1], "mid_conv2", batch_norm, initializer)

    for level, (first, second) in zip((3, 2, 1), DECODER, strict=True):
        skip = skips.pop()
        x = keras.layers.Conv2DTranspose(
            skip.shape[-1],
            2,
            strides=2,
            kernel_initializer=kernel_initializer(initializer),
            name=f"dec{level}_up",
        )(x)
        x = keras.layers.Add(name=f"dec{level}_add")([x, skip])
        x = conv_relu(x, first, f"dec{level}_conv1", batch_norm, initializer)
        if second is not None:
            x = conv_relu(x, second, f"dec{level}_conv2", batch_norm, initializer)

    x = conv(len(spec.classes), "dec1_conv2", initializer=initializer)(x)
    if final_relu:
        x = keras.layers.ReLU(name="scores_relu")(x)
    return keras.Model(inputs, scores(x), name="unet")
