"""Layers that every model shares: the input, a convolution block, the scores."""

from __future__ import annotations

import keras

from tfproj.core.spec import INPUT_NAME, SCORES_NAME, ModelSpec
from tfproj.models.depthwise import DepthwiseConv
from tfproj.models.layers import BatchNorm, LineMean


def image_input(spec: ModelSpec):
    """(input tensor uint8 (B, H, W, C) with 0..255, the same as float32 with 0..1)."""
    inputs = keras.Input((*spec.size, spec.channels), dtype="uint8", name=INPUT_NAME)
    # float32 also under a mixed policy: bfloat16 has too few digits for 1/255 steps.
    scaled = keras.layers.Rescaling(1 / 255, dtype="float32", name="rescale")(inputs)
    return inputs, scaled


def conv_relu(
    x,
    filters: int,
    name: str,
    batch_norm: bool = False,
    initializer: str = "keras",
    size: int | tuple[int, int] = 3,
    strides: int = 1,
):
    """Convolution -> (batch norm) -> ReLU; see :func:`conv`.

    With batch norm the convolution has no bias of its own: the norm's shift takes its place, and
    export folds both into a convolution with bias.
    """
    x = conv(filters, name, not batch_norm, initializer, size, strides)(x)
    if batch_norm:
        x = BatchNorm(name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def conv(
    filters: int,
    name: str,
    use_bias: bool = True,
    initializer: str = "keras",
    size: int | tuple[int, int] = 3,
    strides: int = 1,
):
    """A convolution, kernels square or (height, width); output sides are the input's / strides."""
    return keras.layers.Conv2D(
        filters,
        size,
        strides,
        padding="same",
        use_bias=use_bias,
        kernel_initializer=kernel_initializer(initializer),
        name=name,
    )


def depthwise(size: int, name: str, use_bias: bool = True, strides: int = 1):
    """A convolution of every channel by itself, with square kernels."""
    return DepthwiseConv(size, strides, use_bias=use_bias, name=name)


def strip_pooling(x, name: str, batch_norm: bool = False, initializer: str = "keras"):
    """Tell every place what its whole row and its whole column hold on average.

    As in Hou et al., "Strip Pooling: Rethinking Spatial Pooling for Scene Parsing" (2020), but
    added to what is there, and with convolutions along the lines of half the channels.
    """
    filters, block = x.shape[-1], {"batch_norm": batch_norm, "initializer": initializer}
    rows = LineMean(axis=2, name=f"{name}_rows")(x)
    columns = LineMean(axis=1, name=f"{name}_columns")(x)
    rows = conv_relu(rows, filters // 2, f"{name}_rows_conv", **block, size=(3, 1))
    columns = conv_relu(columns, filters // 2, f"{name}_columns_conv", **block, size=(1, 3))
    lines = keras.layers.Add(name=f"{name}_lines")([rows, columns])  # (B, H, W, filters // 2)
    lines = conv(filters, f"{name}_conv", initializer=initializer, size=1)(lines)
    return keras.layers.Add(name=f"{name}_add")([x, lines])


def upsample(filters: int, name: str, initializer: str = "keras", times: int = 2):
    """A transposed convolution that multiplies the sides; its patches do not overlap."""
    kernel = kernel_initializer(initializer)
    return keras.layers.Conv2DTranspose(
        filters, times, strides=times, kernel_initializer=kernel, name=name
    )


def kernel_initializer(name: str):
    """``keras``: Glorot uniform. ``torch``: what PyTorch's layers draw, U(-b, b), b^2 = 1/fan_in.

    (PyTorch documents it as Kaiming uniform with a = sqrt(5), which is the same.)
    """
    if name == "torch":
        return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")
    return keras.initializers.GlorotUniform()


def scores(x):
    """Name the class scores, in float32 whatever the policy."""
    return keras.layers.Activation("linear", dtype="float32", name=SCORES_NAME)(x)
