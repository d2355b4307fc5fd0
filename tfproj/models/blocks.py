"""Layers that every model shares: the input, a convolution block, the scores."""

from __future__ import annotations

import math

import keras

from tfproj.core.spec import INPUT_NAME, SCORES_NAME, ModelSpec


def image_input(spec: ModelSpec):
    """(input tensor uint8 (B, H, W, C) with 0..255, the same as float32 with 0..1)."""
    inputs = keras.Input((*spec.size, spec.channels), dtype="uint8", name=INPUT_NAME)
    # float32 also under a mixed policy: bfloat16 has too few digits for 1/255 steps.
    scaled = keras.layers.Rescaling(1 / 255, dtype="float32", name="rescale")(inputs)
    return inputs, scaled


@keras.saving.register_keras_serializable("tfproj")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch norm whose training step is one fused operator where that is the faster way.

    TensorFlow's operator normalises with the same statistics as Keras' layer, which spends ten
    operators on it. On CPUs it is fast where the channels fill whole vector registers, and slower
    than Keras' way elsewhere (``benchmarks/batch_norm.py``).
    """

    FUSED_MULTIPLE = 16  # channels

    def __init__(self, momentum=0.9, **kwargs):
        super().__init__(momentum=momentum, **kwargs)

    def call(self, inputs, training=None, mask=None):
        if not (training and self.trainable) or inputs.shape[-1] % self.FUSED_MULTIPLE:
            return super().call(inputs, training=training, mask=mask)
        import tensorflow as tf

        gamma, beta = (tf.cast(v, tf.float32) for v in (self.gamma, self.beta))
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, gamma, beta, epsilon=self.epsilon, is_training=True
        )
        for moving, batch in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + batch * (1 - self.momentum))
        return outputs


@keras.saving.register_keras_serializable("tfproj")
class StandardizedConv2D(keras.layers.Conv2D):
    """A convolution whose kernel is brought to mean 0 and a fixed variance per output channel.

    It does for the training what batch norm does, at the cost of the kernel and not of the
    image (Qiao et al., "Weight Standardization", 2019; with the scale for ReLU and the gain per
    channel of Brock et al., "Characterizing signal propagation ...", 2021). Export replaces it
    by a plain convolution with :meth:`standardized`'s kernel.
    """

    RELU_SCALE = math.sqrt(2 / (1 - 1 / math.pi))  # keeps the variance through a ReLU
    EPSILON = 1e-4

    def build(self, input_shape):
        super().build(input_shape)
        self.gain = self.add_weight(name="gain", shape=(self.filters,), initializer="ones")

    # Keras' convolutions store what they know of, kernel and bias, and nothing that is added.
    def save_own_variables(self, store):
        super().save_own_variables(store)
        store["gain"] = self.gain

    def load_own_variables(self, store):
        super().load_own_variables(store)
        self.gain.assign(store["gain"])

    def standardized(self, kernel):
        """Kernel (h, w, in, out) -> the one that is used, float32."""
        kernel = keras.ops.cast(kernel, "float32")
        mean = keras.ops.mean(kernel, axis=(0, 1, 2), keepdims=True)
        variance = keras.ops.var(kernel, axis=(0, 1, 2), keepdims=True)
        fan_in = math.prod(kernel.shape[:3])
        scale = self.RELU_SCALE * keras.ops.rsqrt(variance * fan_in + self.EPSILON)
        return (kernel - mean) * scale * keras.ops.cast(self.gain, "float32")

    def convolution_op(self, inputs, kernel):
        kernel = keras.ops.cast(self.standardized(kernel), inputs.dtype)
        return super().convolution_op(inputs, kernel)


@keras.saving.register_keras_serializable("tfproj")
class LineMean(keras.layers.Layer):
    """Mean over the height (axis 1) or the width (axis 2) of (B, H, W, C), which becomes 1.

    Not Keras' average pooling, whose window would tie an exported file to one size.
    """

    def __init__(self, axis: int, **kwargs):
        super().__init__(**kwargs)
        self.axis = axis

    def call(self, inputs):
        # In float32: a sum of 128 terms is beyond the 8 bits of bfloat16.
        mean = keras.ops.mean(keras.ops.cast(inputs, "float32"), axis=self.axis, keepdims=True)
        return keras.ops.cast(mean, inputs.dtype)

    def get_config(self):
        return {**super().get_config(), "axis": self.axis}


def conv_relu(
    x,
    filters: int,
    name: str,
    batch_norm: bool = False,
    initializer: str = "keras",
    standardized: bool = False,
    size: int | tuple[int, int] = 3,
    strides: int = 1,
):
    """Convolution -> (batch norm) -> ReLU; see :func:`conv`.

    With batch norm the convolution has no bias of its own: the norm's shift takes its place, and
    export folds both into a convolution with bias.
    """
    x = conv(filters, name, not batch_norm, initializer, standardized, size, strides)(x)
    if batch_norm:
        x = BatchNorm(name=f"{name}_bn")(x)
    return keras.layers.ReLU(name=f"{name}_relu")(x)


def conv(
    filters: int,
    name: str,
    use_bias: bool = True,
    initializer: str = "keras",
    standardized: bool = False,
    size: int | tuple[int, int] = 3,
    strides: int = 1,
):
    """A convolution, kernels square or (height, width); output sides are the input's / strides."""
    kind = StandardizedConv2D if standardized else keras.layers.Conv2D
    return kind(
        filters,
        size,
        strides,
        padding="same",
        use_bias=use_bias,
        kernel_initializer=kernel_initializer(initializer),
        name=name,
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
