"""A segmenter for photographs: a pretrained encoder, and a UNet's decoder on its features."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfproj.core.spec import ModelSpec
from tfproj.models.blocks import conv, conv_relu, scores, strip_pooling, upsample
from tfproj.models.encoders import encode, freeze


def encoder_unet(
    spec: ModelSpec,
    encoder: str = "lite0",
    widths: Sequence[int] = (48, 64, 96),
    batch_norm: bool = False,
    dropout: float = 0.0,
    frozen: int = 0,
    frozen_norms: bool = False,
    **options,
) -> keras.Model:
    """From the encoder's last stride back to 2, and from there to every pixel.

    At each stride the encoder's features are added through a 1x1 convolution; strip pooling shows
    every place its row and column at all but the finest.

    Args:
        spec: input (RGB, sides multiples of the last stride) and classes.
        encoder: see :func:`tfproj.models.encoders.encode`.
        widths: filters of the decoder at strides 2, 4, 8, ...; the encoder ends one stride further.
        batch_norm: after each convolution; folds away on export.
        dropout: share of the channels of the encoder's last features silenced in training.
        frozen, frozen_norms: what stays as it is, see :func:`tfproj.models.encoders.freeze`.
        options: of the encoder.

    Returns:
        uint8 images (B, H, W, 3) -> scores float32 (B, H, W, classes): log probabilities.
    """
    last = 2 ** (len(widths) + 1)
    inputs, features = encode(spec, encoder, last, batch_norm=batch_norm, **options)
    x = features[last]
    if dropout:
        x = keras.layers.SpatialDropout2D(dropout, name="dropout")(x)
    for level in range(len(widths), 0, -1):
        name, filters = f"dec{level}", widths[level - 1]
        skip = conv(filters, f"{name}_skip", size=1)(features[2**level])
        x = upsample(filters, f"{name}_up")(x)
        x = keras.layers.Add(name=f"{name}_add")([x, skip])
        if level > 1:
            x = strip_pooling(x, f"{name}_strip", batch_norm=batch_norm)
        x = conv_relu(x, filters, f"{name}_conv1", batch_norm)
        x = conv_relu(x, filters, f"{name}_conv2", batch_norm)
    x = upsample(len(spec.classes), "dec0_up")(x)
    # In float32: bfloat16 knows log probabilities to three digits only.
    x = keras.layers.Activation("log_softmax", dtype="float32", name="scores_log_softmax")(x)
    model = keras.Model(inputs, scores(x), name="encoder_unet")
    freeze(model, features, frozen, frozen_norms)
    return model
