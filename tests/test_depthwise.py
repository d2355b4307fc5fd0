import numpy as np
import pytest

from tfproj import backend

backend.setup()

import keras  # noqa: E402
import onnxruntime  # noqa: E402
import tensorflow as tf  # noqa: E402

from tfproj.core.spec import ModelSpec  # noqa: E402
from tfproj.export.convert import free_size  # noqa: E402
from tfproj.export.simplify import tidy  # noqa: E402
from tfproj.export.with_tf2onnx import convert  # noqa: E402
from tfproj.models import depthwise  # noqa: E402
from tfproj.models.depthwise import DepthwiseConv  # noqa: E402

SIZE = (12, 16)
SIZES = ((8, 12), (9, 7), (6, 11), (2, 3))
CASES = [
    (3, 1, (9, 12)),
    (7, 1, (6, 11)),
    (7, 2, (9, 10)),
    *((3, 2, size) for size in SIZES),
    *((5, stride, size) for stride in (1, 2) for size in SIZES),
]


def array(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def results(kind, x, upstream, kernel, stride, policy, **options):
    """float32 (outputs, gradient to the input, of the kernel, of the bias) in training."""
    layer = kind(kernel, stride, padding="same", dtype=policy, **options)
    layer.build(x.shape)
    layer.set_weights([array(i, *w.shape) for i, w in enumerate(layer.weights)])
    image = tf.Variable(x)

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            outputs = tf.cast(layer(image, training=True), tf.float32)
            loss = tf.reduce_sum(outputs * upstream)
        return outputs, *tape.gradient(loss, [image, *(w.value for w in layer.weights)])

    return [np.asarray(value) for value in run()]


def compare(kernel, stride, size, policy="float32", **options):
    """Results of Keras' layer and of ours."""
    x = array(8, 3, *size, 6)
    upstream = array(9, 3, *(-(-side // stride) for side in size), 6)
    return [
        results(kind, x, upstream, kernel, stride, policy, **options)
        for kind in (keras.layers.DepthwiseConv2D, DepthwiseConv)
    ]


def distance(value, truth):
    return np.abs(value - truth).max() / np.abs(truth).max()


@pytest.mark.parametrize(("kernel", "stride", "size"), CASES)
def test_outputs_and_gradients_are_those_of_keras(kernel, stride, size):
    for theirs, ours in zip(*compare(kernel, stride, size), strict=True):
        assert distance(ours, theirs) < 1e-5
    without = compare(kernel, stride, size, use_bias=False, activation="relu6")
    for theirs, ours in zip(*without, strict=True):
        assert distance(ours, theirs) < 1e-5


@pytest.mark.parametrize(("kernel", "stride", "size"), CASES)
def test_in_bfloat16_at_least_as_exact_as_keras(kernel, stride, size):
    truth = compare(kernel, stride, size)[0]
    theirs, ours = compare(kernel, stride, size, "mixed_bfloat16")
    np.testing.assert_array_equal(ours[0], theirs[0])
    for name, exact, their, our in zip(("x", "kernel", "bias"), truth[1:], theirs[1:], ours[1:],
                                       strict=True):  # fmt: skip
        assert distance(our, exact) <= max(1.05 * distance(their, exact), 2**-8), name


def network(conv=DepthwiseConv, size=SIZE):
    """uint8 image -> scores, with each kind of layer."""
    image = keras.Input((*size, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(image)
    x = conv(5, padding="same", name="wide")(x)
    x = conv(3, 2, padding="same", use_bias=False, activation="relu6", name="strided")(x)
    x = conv(5, 2, padding="same", name="both")(x)
    x = keras.layers.Conv2DTranspose(2, 4, 4, name="up")(x)
    return keras.Model(image, keras.layers.Activation("linear", dtype="float32")(x))


@pytest.fixture(params=["float32", "mixed_bfloat16"])
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


IMAGES = np.random.default_rng(1).integers(0, 256, (8, 12, 20, 3)).astype(np.uint8)
ANSWERS = (IMAGES[..., 0] > 128).astype(np.int64)


def fit(model):
    """Weights and losses after two epochs."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss)
    history = model.fit(IMAGES, ANSWERS, batch_size=4, epochs=2, shuffle=False, verbose=0)
    return model.get_weights(), history.history["loss"]


def test_fit_as_with_keras_layer(policy):
    theirs, ours = (
        network(kind, (12, 20)) for kind in (keras.layers.DepthwiseConv2D, DepthwiseConv)
    )
    ours.set_weights(theirs.get_weights())
    (weights, losses), (expected, expected_losses) = fit(ours), fit(theirs)
    tolerance = 1e-5 if policy == "float32" else 2e-2
    np.testing.assert_allclose(losses, expected_losses, rtol=tolerance)
    for ours, theirs in zip(weights, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=tolerance)


def test_what_is_frozen_has_no_backward_pass(monkeypatch):
    """The gradients that run: the graph drops those that nobody asks for."""
    calls = []

    def spied(name, function):
        def spy(x, kernel, upstream, stride):
            def count(value):
                calls.append((name, kernel.shape[0], stride))
                return value

            value = function(x, kernel, upstream, stride)
            counted = tf.numpy_function(count, [value], value.dtype, stateful=False)
            counted.set_shape(value.shape)
            return counted

        monkeypatch.setattr(depthwise, f"_{name}_gradient", spy)

    spied("input", depthwise._input_gradient)
    spied("kernel", depthwise._kernel_gradient)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = network(size=(12, 20))
    finally:
        keras.config.set_dtype_policy("float32")
    everything = {
        (kind, *case) for kind in ("input", "kernel") for case in ((5, 1), (3, 2), (5, 2))
    }
    everything.remove(("input", 5, 1))  # pixels have no gradient
    for frozen, expected in (
        ((), everything),
        (("strided",), everything - {("kernel", 3, 2)}),
        (("wide", "strided"), {("kernel", 5, 2)}),
        (("wide", "strided", "both"), set()),
    ):  # fmt: skip
        for layer in model.layers:
            layer.trainable = layer.name not in frozen
        calls.clear()
        fit(model)
        assert set(calls) == expected


def test_only_what_is_slow_takes_another_way(monkeypatch):
    taken = []
    convolve = depthwise._convolve
    monkeypatch.setattr(depthwise, "_convolve", lambda *a: taken.append(a) or convolve(*a))

    def ways(kernel, stride, policy, training=True, **options):
        taken.clear()
        layer = DepthwiseConv(kernel, stride, dtype=policy, **options)
        layer(array(0, 2, 8, 8, 3), training=training)
        return len(taken)

    assert ways(5, 1, "float32") == ways(3, 2, "mixed_bfloat16") == ways((3, 5), 1, "float32") == 1
    assert ways(3, 1, "mixed_bfloat16") == ways(3, 2, "float32") == ways((5, 3), 1, "float32") == 0
    assert ways(5, 1, "float32", training=False) == 0
    assert ways(5, 1, "float32", padding="valid") == 0
    assert ways(5, 1, "float32", depth_multiplier=2) == 0
    assert ways(5, 1, "float32", dilation_rate=2) == 0
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert ways(5, 1, "float32") == 0


def test_saved_loaded_and_cloned(tmp_path):
    model = network()
    model.save(tmp_path / "model.keras")
    images = IMAGES[:, :, :16]
    for copy in (
        keras.models.load_model(tmp_path / "model.keras"),
        keras.models.clone_model(model),
    ):
        assert isinstance(copy.get_layer("both"), DepthwiseConv)
        assert copy.get_layer("both").get_config() == model.get_layer("both").get_config()
        copy.set_weights(model.get_weights())
        np.testing.assert_array_equal(
            copy.predict(images, verbose=0), model.predict(images, verbose=0)
        )


def test_exported_as_plain_depthwise_convolutions():
    model = network()
    model.set_weights([array(i, *w.shape) for i, w in enumerate(model.weights)])
    spec = ModelSpec("segment", "unet", ("a", "b"), (), *SIZE, 3, dynamic_size=True)
    proto = tidy(convert(model, 17), [layer.name for layer in model.layers], free_size=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    groups = [
        next(a.i for a in node.attribute if a.name == "group")
        for node in proto.graph.node
        if node.op_type == "Conv"
    ]
    kinds = {node.op_type for node in proto.graph.node}
    assert groups == [3, 3, 3]
    assert kinds == {"Cast", "Mul", "Conv", "Clip", "ConvTranspose", "Softmax", "Transpose"}
    for images in IMAGES[:, :, :16], IMAGES[:, :8], IMAGES[:1]:
        scores, _ = session.run(None, {"image": images})
        expected = free_size(model, spec).predict(images, verbose=0)
        assert distance(scores, expected) < 1e-5
