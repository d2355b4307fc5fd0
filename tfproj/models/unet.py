"""The segmenter of the original work: a UNet with additive skips and 465,857 parameters."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from tfproj.core.spec import ModelSpec
from tfproj.models import blocks
from tfproj.models.blocks import conv, conv_relu, image_input, scores, upsample

# Filters of the two convolutions of each level, as in the report's table.
ENCODER = ((16, 24), (36, 52), (72, 96))
BOTTLENECK = (96, 96)
DECODER = ((72, 52), (36, 24), (16, None))  # None: the classes


def unet(
    spec: ModelSpec,
    batch_norm: bool = False,
    final_relu: bool = False,
    initializer: str = "keras",
    widths: Sequence[int] | None = None,
    stem_stride: int = 1,
    dropout: float = 0.0,
    strip_pooling: bool = False,
) -> keras.Model:
    """Three levels down, a bottleneck, three levels up; skips are added, not concatenated.

    A log-softmax ends it: scores that are log probabilities rank the pixels of all images alike,
    where the scores of a pixel could otherwise all be high or all low and mean the same.

    Args:
        spec: input (sides multiples of 8) and classes.
        batch_norm: after each convolution but the last; folds away on export.
        final_relu: a ReLU on the scores in its place, as in the original; it can silence a class
            for good.
        initializer: ``keras`` or ``torch``, see ``blocks.kernel_initializer``.
        widths: filters of each level, from the full size to the bottleneck, in the place of the
            original's; every level halves the resolution.
        stem_stride: the first convolution's; above 1 all levels work at a fraction of the
            resolution, and a transposed convolution gives the scores of every pixel. Most of a
            UNet's time is spent at full size.
        dropout: share of the bottleneck's channels silenced in training.
        strip_pooling: in the decoder every place learns the means of its row and its column.

    Returns:
        uint8 images (B, H, W, C) -> scores float32 (B, H, W, classes): log probabilities, or
        anything at least 0 with ``final_relu``.
    """
    inputs, x = image_input(spec)
    encoder, bottleneck, decoder = _table(widths)
    block = {"batch_norm": batch_norm, "initializer": initializer}
    x, skips = _encoder(x, encoder, stem_stride, block)
    for number, filters in enumerate(bottleneck, 1):
        x = conv_relu(x, filters, f"mid_conv{number}", **block)
    if dropout:
        x = keras.layers.SpatialDropout2D(dropout, name="dropout")(x)
    x = _decoder(x, decoder, skips, strip_pooling, block)
    if stem_stride > 1:
        x = upsample(len(spec.classes), "dec0_up", initializer, stem_stride)(x)
    else:
        x = conv(len(spec.classes), "dec1_conv2", initializer=initializer)(x)
    if final_relu:
        x = keras.layers.ReLU(name="scores_relu")(x)
    else:
        # In float32: bfloat16 knows log probabilities to three digits only.
        x = keras.layers.Activation("log_softmax", dtype="float32", name="scores_log_softmax")(x)
    return keras.Model(inputs, scores(x), name="unet")


def _encoder(x, table, stem_stride: int, block: dict):
    """(what the bottleneck takes, the skips): two convolutions and a pooling on every level."""
    skips = []
    for level, (first, second) in enumerate(table, 1):
        stem = {"size": 2 * stem_stride, "strides": stem_stride} if level == 1 < stem_stride else {}
        x = conv_relu(x, first, f"enc{level}_conv1", **block, **stem)
        x = conv_relu(x, second, f"enc{level}_conv2", **block)
        skips.append(x)
        x = keras.layers.MaxPooling2D(name=f"enc{level}_pool")(x)
    return x, skips


def _decoder(x, table, skips: list, strip_pooling: bool, block: dict):
    """Up again, level by level; the skip of each is added before its convolutions."""
    levels = range(len(table), 0, -1)
    for level, skip, (first, second) in zip(levels, skips[::-1], table, strict=True):
        x = upsample(skip.shape[-1], f"dec{level}_up", block["initializer"])(x)
        x = keras.layers.Add(name=f"dec{level}_add")([x, skip])
        if strip_pooling and level > 1:
            x = blocks.strip_pooling(x, f"dec{level}_strip", **block)
        x = conv_relu(x, first, f"dec{level}_conv1", **block)
        if second is not None:
            x = conv_relu(x, second, f"dec{level}_conv2", **block)
    return x


def _table(widths: Sequence[int] | None):
    """(encoder, bottleneck, decoder): filters of the two convolutions of every level."""
    if widths is None:
        return ENCODER, BOTTLENECK, DECODER
    pairs = [(width, width) for width in widths]
    return pairs[:-1], pairs[-1], [*pairs[-2:0:-1], (widths[0], None)]
