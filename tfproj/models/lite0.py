"""EfficientNet-Lite0, an encoder for photographs.

EfficientNet-B0 (Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural
Networks", 2019) as its authors cut it down for phones: no squeeze-and-excitation, ReLU6 in the
place of swish, a fixed stem and head. So an exported file holds convolutions, Clip and Add only.
"""

from __future__ import annotations

import keras

from tfproj.models.blocks import conv, depthwise
from tfproj.models.layers import BatchNorm

# (repeats, kernel, stride, expansion, filters) of each stage of inverted residual blocks.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
BLOCKS = sum(repeats for repeats, *_ in STAGES)
STEM = 32
EPSILON = 1e-3
STRIDES = (2, 4, 8, 16, 32)


def lite0(x, last: int = 32, width: float = 1.0, batch_norm: bool = True, drop_path: float = 0.0):
    """Features of images at every stride.

    Args:
        x: images (B, H, W, 3), already scaled: (pixel - 127) / 128.
        last: the stride to stop at, one of ``STRIDES``.
        width: factor of all filters; ImageNet's weights are of 1.
        batch_norm: after each convolution; folds away on export.
        drop_path: share of the last block's images that skip it in training; of earlier ones
            fewer, down to none ("stochastic depth", Huang et al., 2016).

    Returns:
        Stride -> features (B, H / stride, W / stride, filters).
    """
    x = _conv(x, _scaled(STEM, width), "encoder_stem", batch_norm, size=3, strides=2)
    stride, block, features = 2, 0, {}
    for repeats, size, strides, expansion, filters in STAGES:
        stride *= strides
        if stride > last:
            break
        for step in (strides, *[1] * (repeats - 1)):
            block += 1
            options = {"batch_norm": batch_norm, "drop_path": drop_path * block / BLOCKS}
            name = f"encoder_block{block}"
            x = _block(x, _scaled(filters, width), size, step, expansion, name, **options)
        features[stride] = x
    return features


def _block(
    x, filters: int, size: int, strides: int, expansion: int, name: str,
    batch_norm: bool, drop_path: float,
):  # fmt: skip
    """Inverted residual (Sandler et al., "MobileNetV2", 2018): widen, depthwise, narrow, add."""
    inputs = x
    if expansion > 1:
        x = _conv(x, expansion * x.shape[-1], f"{name}_expand", batch_norm)
    x = depthwise(size, f"{name}_depthwise", not batch_norm, strides)(x)
    x = _norm_relu6(x, f"{name}_depthwise", batch_norm)
    x = conv(filters, f"{name}_project", not batch_norm, size=1)(x)
    if batch_norm:
        x = BatchNorm(epsilon=EPSILON, name=f"{name}_project_bn")(x)
    if strides == 1 and inputs.shape[-1] == filters:
        if drop_path:
            each = (None, 1, 1, 1)  # one draw an image
            x = keras.layers.Dropout(drop_path, noise_shape=each, name=f"{name}_drop")(x)
        x = keras.layers.Add(name=f"{name}_add")([inputs, x])
    return x


def _conv(x, filters: int, name: str, batch_norm: bool, size: int = 1, strides: int = 1):
    x = conv(filters, name, not batch_norm, size=size, strides=strides)(x)
    return _norm_relu6(x, name, batch_norm)


def _norm_relu6(x, name: str, batch_norm: bool):
    if batch_norm:
        x = BatchNorm(epsilon=EPSILON, name=f"{name}_bn")(x)
    return keras.layers.ReLU(max_value=6.0, name=f"{name}_relu")(x)


def _scaled(filters: int, width: float) -> int:
    """Filters times ``width``, in eights."""
    return filters if width == 1 else max(8, int(filters * width / 8 + 0.5) * 8)
