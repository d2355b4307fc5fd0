import numpy as np
import pytest

from tfproj import backend

backend.setup()

from tfproj.core.spec import ModelSpec  # noqa: E402
from tfproj.errors import InputError  # noqa: E402
from tfproj.experiment.presets import PRESETS  # noqa: E402
from tfproj.models.registry import MODELS, build_model  # noqa: E402
from tfproj.models.summary import summarize  # noqa: E402

# The layer table of the original report: kind, output (channels, height, width), parameters.
REPORT = """
Conv2d-1 16 256 256 448
Conv2d-2 24 256 256 3480
MaxPool2d-3 24 128 128 0
Conv2d-4 36 128 128 7812
Conv2d-5 52 128 128 16900
MaxPool2d-6 52 64 64 0
Conv2d-7 72 64 64 33768
Conv2d-8 96 64 64 62304
MaxPool2d-9 96 32 32 0
Conv2d-10 96 32 32 83040
Conv2d-11 96 32 32 83040
ConvTranspose2d-12 96 64 64 36960
Conv2d-13 72 64 64 62280
Conv2d-14 52 64 64 33748
ConvTranspose2d-15 52 128 128 10868
Conv2d-16 36 128 128 16884
Conv2d-17 24 128 128 7800
ConvTranspose2d-18 24 256 256 2328
Conv2d-19 16 256 256 3472
Conv2d-20 5 256 256 725
ReLU-21 5 256 256 0
"""


def spec(model, size=(32, 32), channels=3, classes=5):
    task = MODELS[model].task
    return ModelSpec(task, model, [f"c{i}" for i in range(classes)], (), *size, channels)


@pytest.fixture(scope="module")
def original_unet():
    return build_model(spec("unet", (256, 256)), PRESETS["segment"]["original"]["model_options"])


def test_unet_is_the_table_of_the_report(original_unet):
    rows = [line.split() for line in REPORT.split("\n") if line]
    expected = [(kind, tuple(map(int, shape)), int(count)) for kind, *shape, count in rows]
    summary = summarize(original_unet)
    assert [(row.kind, row.shape, row.parameters) for row in summary.rows] == expected


def test_unet_statistics_are_those_of_the_report(original_unet):
    summary = summarize(original_unet)
    assert summary.parameters == summary.trainable == 465_857
    sizes = (
        summary.input_mb,
        summary.activations_mb,
        summary.parameters_mb,
        summary.total_mb,
    )
    assert [round(size, 2) for size in sizes] == [0.75, 89.00, 1.78, 91.53]


def test_rows_of_the_table_add_up():
    model = build_model(spec("unet"), {"batch_norm": True, "dropout": 0.2})
    summary = summarize(model)
    assert summary.parameters == model.count_params() == sum(r.parameters for r in summary.rows)
    kinds = [row.kind.split("-")[0] for row in summary.rows]
    assert kinds.count("Conv2d") == 14
    assert kinds.count("BatchNorm2d") == 13


def test_skips_are_added(original_unet):
    adds = [layer for layer in original_unet.layers if type(layer).__name__ == "Add"]
    assert [layer.output.shape[-1] for layer in adds] == [96, 52, 24]


def test_only_the_original_has_a_relu_on_the_scores():
    for name, preset in PRESETS["segment"].items():
        toy = spec(preset.get("model", "unet"), (32, 32))
        layers = [layer.name for layer in build_model(toy, preset.get("model_options")).layers]
        assert ("scores_relu" in layers) == (name == "original")


@pytest.mark.parametrize("options", [{}, {"stem_stride": 2}])
def test_scores_of_a_unet_are_log_probabilities(options):
    model = build_model(spec("unet", (32, 32)), options)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    total = np.exp(model.predict_on_batch(images)).sum(axis=-1)
    np.testing.assert_allclose(total, 1, atol=1e-5)
    assert summarize(model).rows[-1].kind.startswith("LogSoftmax")


def test_cnn_has_two_convolutions_of_32_filters_and_two_dense_layers():
    rows = summarize(build_model(spec("cnn", (28, 28), 1, 10))).rows
    assert [row.kind.split("-")[0] for row in rows] == [
        "Conv2d", "MaxPool2d", "Conv2d", "MaxPool2d", "Linear", "Linear",
    ]  # fmt: skip
    assert [row.shape[0] for row in rows if row.kind.startswith("Conv")] == [32, 32]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("channels", [1, 3])
def test_uint8_images_in_float32_scores_out(name, channels):
    import keras

    keras.utils.set_random_seed(0)
    model = build_model(spec(name, (32, 64), channels))
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 64, channels), np.uint8)
    scores = model.predict_on_batch(images)
    assert scores.dtype == np.float32
    assert scores.shape == ((3, 5) if MODELS[name].task == "classify" else (3, 32, 64, 5))
    assert np.isfinite(scores).all()
    assert np.ptp(scores) > 0


def test_an_initial_weight_of_torch_lies_within_its_bound():
    model = build_model(spec("unet"), {"initializer": "torch"})
    kernel = np.asarray(model.get_layer("enc2_conv1").kernel)
    bound = 1 / np.sqrt(3 * 3 * 24)
    assert bound * 0.95 < np.abs(kernel).max() <= bound


@pytest.mark.parametrize("channels", [8, 16])
def test_the_fused_norm_is_keras_norm(channels):
    import keras

    from tfproj.models.layers import BatchNorm

    x = np.random.default_rng(0).normal(2, 3, (64, 7, 7, channels)).astype(np.float32)
    ours, theirs = BatchNorm(), keras.layers.BatchNormalization(momentum=0.9)
    answers = [np.asarray(layer(x, training=True)) for layer in (ours, theirs)]
    np.testing.assert_allclose(*answers, atol=1e-4)
    # The operator estimates the variance without bias: N / (N - 1) with N values per channel.
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    after = [np.asarray(layer(x, training=False)) for layer in (ours, theirs)]
    np.testing.assert_allclose(*after, rtol=1e-3, atol=1e-4)


def test_widths_make_a_unet_of_as_many_levels():
    options = {"widths": [8, 16, 24, 32, 40], "batch_norm": True}
    model = build_model(spec("unet", (32, 48)), options)
    assert model.get_layer("mid_conv2").output.shape == (None, 2, 3, 40)
    assert model.output.shape == (None, 32, 48, 5)
    with pytest.raises(InputError, match="multiples of 16"):
        build_model(spec("unet", (24, 32)), options)


def test_norms_fold_into_the_table_of_the_report():
    import keras

    from tfproj.models.folding import fold_norms

    keras.utils.set_random_seed(0)
    options = {"batch_norm": True}
    trained = build_model(spec("unet", (32, 32)), options)
    rng = np.random.default_rng(0)
    trained.set_weights([w + rng.uniform(0, 0.1, w.shape) for w in trained.get_weights()])
    folded = fold_norms(trained, spec("unet", (32, 32)), options)
    assert trained.count_params() > folded.count_params() == 465_857
    images = rng.integers(0, 256, (2, 32, 32, 3), np.uint8)
    expected, actual = (m.predict_on_batch(images) for m in (trained, folded))
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    assert fold_norms(folded, spec("unet", (32, 32)), {}) is folded


def test_a_unet_with_a_stride_gives_scores_at_full_size():
    from tfproj.models.folding import fold_norms

    options = {"widths": [16, 32, 48], "stem_stride": 2, "dropout": 0.2, "batch_norm": True}
    trained = build_model(spec("unet", (32, 48)), options)
    assert trained.get_layer("enc1_conv2").output.shape[1:] == (16, 24, 16)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)
    scores = trained.predict_on_batch(images)
    assert scores.shape == (2, 32, 48, 5)
    folded = fold_norms(trained, spec("unet", (32, 48)), options)
    np.testing.assert_allclose(folded.predict_on_batch(images), scores, atol=1e-4)
    with pytest.raises(InputError, match="multiples of 8"):
        build_model(spec("unet", (36, 48)), options)


def test_strip_pooling_lets_a_place_see_its_whole_row_and_column():
    from tfproj.models.folding import fold_norms

    images = np.zeros((2, 96, 128, 3), np.uint8)
    images[1, 8:12, 8:12] = 255
    reached = []
    for chosen in (False, True):
        options = {"widths": [16, 16, 16], "strip_pooling": chosen, "batch_norm": True}
        model = build_model(spec("unet", (96, 128)), options)
        scores = model.predict_on_batch(images)
        reached.append(np.abs(scores[1] - scores[0]).max(axis=-1) > 1e-6)
        folded = fold_norms(model, spec("unet", (96, 128)), options)
        assert not [x.name for x in folded.layers if x.name.endswith("_bn")]
        np.testing.assert_allclose(folded.predict_on_batch(images), scores, atol=1e-4)
    without, along = reached
    assert not without[10, 64:].any() and not without[64:, 10].any()
    assert along[8:12, 120:].any() and along[88:, 8:12].any()
    assert not along[64:, 64:].any()  # neither the row nor the column of what was lit


def test_every_convolution_of_the_resnet_has_a_norm_of_its_own():
    folded, trained = (
        build_model(spec("resnet", (28, 28), 1, 10), {"batch_norm": norm}) for norm in (False, True)
    )
    convolutions = [
        [layer.name for layer in model.layers if type(layer).__name__ == "Conv2D"]
        for model in (folded, trained)
    ]
    assert convolutions[0] == convolutions[1]
    norms = [layer.name for layer in trained.layers if layer.name.endswith("_bn")]
    assert norms == [f"{name}_bn" for name in convolutions[1]]
    assert trained.count_params() - folded.count_params() == 3 * sum(
        layer.filters for layer in folded.layers if type(layer).__name__ == "Conv2D"
    )


def test_the_best_classifier_keeps_within_half_a_million_parameters():
    from tfproj.models.folding import fold_norms

    options = PRESETS["classify"]["best"]["model_options"]
    trained = build_model(spec("resnet", (28, 28), 1, 10), options)
    assert trained.get_layer("stem_block3_conv2").output.shape[1:3] == (28, 28)
    folded = fold_norms(trained, spec("resnet", (28, 28), 1, 10), options)
    assert folded.count_params() == 478_874


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"model": "unett"}, {}, "did you mean 'unet'"),
        ({"model": "cnn"}, {}, "is for classify, not segment"),
        ({"height": 30}, {}, "multiples of 8"),
        ({"task": "classify", "model": "cnn", "height": 3}, {}, "at least 4; 3 x"),
        ({}, {"batchnorm": True}, "did you mean 'batch_norm'"),
        ({}, {"batch_norm": "no"}, "batch_norm of model 'unet' is 'no'; it must be true or false"),
        ({}, {"widths": 5}, "two or more whole numbers"),
        ({}, {"widths": [16, 0]}, "two or more whole numbers"),
        ({}, {"stem_stride": 0}, "at least 1"),
        ({}, {"dropout": 2}, r"in \[0, 1\)"),
        ({}, {"initializer": "tprch"}, "keras or torch"),
    ],
)
def test_what_can_not_be_built(change, options, message):
    import dataclasses

    with pytest.raises(InputError, match=message):
        build_model(dataclasses.replace(spec("unet"), **change), options)


def test_registry_names_the_options_that_builders_take():
    import inspect

    from tfproj.models import cnn, encoder, encoder_unet, lite0, resnet, unet

    builders = {"cnn": cnn.cnn, "resnet": resnet.resnet, "unet": unet.unet}
    builders |= {"encoder": encoder.encoder, "encoder_unet": encoder_unet.encoder_unet}
    assert builders.keys() == MODELS.keys()
    for name, builder in builders.items():
        taken = set(inspect.signature(builder).parameters) - {"spec"}
        if "options" in taken:  # the encoder's
            taken |= set(inspect.signature(lite0.lite0).parameters) - {"x", "last"}
        assert taken - {"options"} == set(MODELS[name].options)
