"""Depthwise convolution with a fast training step on CPUs."""

from __future__ import annotations

import os

import keras
import tensorflow as tf

FAST_COLUMNS = 3  # the widest kernel whose gradient is fast in oneDNN (TensorFlow 2.21)


@keras.saving.register_keras_serializable("tfproj")
class DepthwiseConv(keras.layers.DepthwiseConv2D):
    """Keras' layer with "same" padding, whose gradients take faster operators where there are any.

    Weights, outputs and gradients are those of Keras' layer, but for rounding. Two gradients are
    slow in oneDNN: to the input of a strided layer in bfloat16, which is computed in float32, and
    to a kernel of more than three columns, which is computed in parts of three columns. On GPUs,
    without oneDNN and outside training the layer is Keras' own. There is no second derivative.
    """

    def __init__(self, kernel_size, strides=(1, 1), padding="same", **kwargs):
        super().__init__(kernel_size, strides, padding, **kwargs)

    def call(self, inputs, training=None):
        if not (training and self._has_faster_gradient(inputs)):
            return super().call(inputs)
        outputs = _convolve(inputs, tf.convert_to_tensor(self.kernel), self.strides[0])
        if self.use_bias:
            outputs = keras.ops.add(outputs, self.bias)
        return outputs if self.activation is None else self.activation(outputs)

    def _has_faster_gradient(self, inputs) -> bool:
        slow = self.kernel_size[1] > FAST_COLUMNS or (
            self.strides[0] > 1 and inputs.dtype == tf.bfloat16
        )
        usual = (
            self.padding == "same"
            and self.data_format == "channels_last"
            and self.depth_multiplier == 1
            and self.dilation_rate == (1, 1)
            and None not in inputs.shape[1:]
        )
        return slow and usual and _on_onednn()


def _on_onednn() -> bool:
    """Whether the operators are oneDNN's; ``backend.setup`` sets the variable."""
    chosen = os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "1"
    return chosen and not tf.config.get_visible_devices("GPU")


def _convolve(x, kernel, stride: int):
    """(B, H, W, C) and (rows, columns, C, 1) -> (B, ceil(H / stride), ceil(W / stride), C)."""

    @tf.custom_gradient
    def convolve(x, kernel):
        def gradients(upstream):
            values = x, kernel, upstream, stride
            return _input_gradient(*values), _kernel_gradient(*values)

        return tf.nn.depthwise_conv2d(x, kernel, (1, stride, stride, 1), "SAME"), gradients

    return convolve(x, kernel)


def _input_gradient(x, kernel, upstream, stride: int):
    if stride > 1:
        kernel, upstream = tf.cast(kernel, tf.float32), tf.cast(upstream, tf.float32)
    gradient = tf.nn.depthwise_conv2d_backprop_input(
        tf.shape(x), kernel, upstream, (1, stride, stride, 1), "SAME"
    )
    return tf.cast(gradient, x.dtype)


def _kernel_gradient(x, kernel, upstream, stride: int):
    """In parts: a kernel's columns are independent, and some of them see a part of the input."""
    rows, columns, channels, _ = kernel.shape
    strides = (1, stride, stride, 1)
    if columns <= FAST_COLUMNS:
        shape = kernel.shape
        return tf.nn.depthwise_conv2d_backprop_filter(x, shape, upstream, strides, "SAME")
    around = [_same_padding(x.shape[1], rows, stride), _same_padding(x.shape[2], columns, stride)]
    padded = tf.pad(x, [(0, 0), *around, (0, 0)])
    parts = []
    for first in range(0, columns, FAST_COLUMNS):
        count = min(FAST_COLUMNS, columns - first)
        seen = padded[:, :, first : padded.shape[2] - (columns - first - count)]
        shape = rows, count, channels, 1
        part = tf.nn.depthwise_conv2d_backprop_filter(seen, shape, upstream, strides, "VALID")
        parts.append(part)
    return tf.concat(parts, axis=1)


def _same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and behind, as TensorFlow's "SAME" has them."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2
