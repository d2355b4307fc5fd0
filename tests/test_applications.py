import functools
import http.server
import math
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
import pytest

from tfproj import backend

backend.setup()

import keras  # noqa: E402

from tfproj import Predictor  # noqa: E402
from tfproj.core.spec import ModelSpec  # noqa: E402
from tfproj.errors import InputError  # noqa: E402
from tfproj.experiment.presets import make_config  # noqa: E402
from tfproj.export.job import Options  # noqa: E402
from tfproj.export.onnx_file import export_onnx  # noqa: E402
from tfproj.models import applications  # noqa: E402
from tfproj.models.encoder_names import application  # noqa: E402
from tfproj.models.encoders import is_encoder, load_imagenet  # noqa: E402
from tfproj.models.registry import build_model, check_model  # noqa: E402
from tfproj.training.train import train  # noqa: E402

# Trained, exported and asked, each for its task. Others:
# TFPROJ_ENCODERS="mobilenet_v2 ResNet50" pytest tests/test_applications.py -k works
NAMES = os.environ.get("TFPROJ_ENCODERS", "mobilenet_v3_small").split()


@functools.cache
def network(name, side=64):
    """(a classifier on the encoder, the features of every stride)."""
    spec = ModelSpec("classify", "encoder", ("a", "b"), (), side, side, 3)
    model = build_model(spec, {"encoder": name})
    inputs = keras.Input((side, side, 3), dtype="uint8")
    return model, applications.features(inputs, name, 32)


@pytest.fixture(autouse=True, scope="module")
def _let_go():
    """Other tests need the memory."""
    yield
    network.cache_clear()
    keras.backend.clear_session()


def images(side=64):
    return np.random.default_rng(0).integers(0, 256, (2, side, side, 3)).astype(np.uint8)


# Names


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "MobileNetV3Small", "mobilenet-v3-SMALL"])
def test_names_are_matched_without_case_and_dashes(name):
    assert application(name) == "MobileNetV3Small"


def test_every_application_of_keras_is_known_and_nothing_else():
    found = {n for n in vars(keras.applications) if n[0].isupper()}
    assert {application(name) for name in found} == found


@pytest.mark.parametrize(
    "options, words",
    [
        ({"encoder": "mobilnet_v3_smal"}, "did you mean 'mobilenetv3small'?"),
        ({"encoder": "lite1"}, "did you mean 'lite0'?"),
        ({"encoder": "vgg16", "drop_path": 0.1}, "drop_path is an option of the encoder 'lite0'"),
    ],
)
def test_wrong_encoders_are_refused_before_keras_is_loaded(options, words):
    with pytest.raises(InputError, match=re.escape(words)):
        check_model("encoder", "classify", options)
    code = (
        "import sys; from tfproj.models.registry import check_model\n"
        f"try: check_model('encoder', 'classify', {options!r})\n"
        "except ValueError: sys.exit('keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# Features


@pytest.mark.parametrize(
    "name, filters",
    [
        ("mobilenet_v3_small", {2: 16, 4: 72, 8: 96, 16: 288, 32: 576}),
        ("mobilenet_v2", {2: 96, 4: 144, 8: 192, 16: 576, 32: 1280}),
    ],
)
@pytest.mark.parametrize("side", [32])
def test_features_are_the_last_of_their_stride(name, filters, side):
    """At 32 pixels an average over the image is as large as features of stride 32."""
    found = network(name, side)[1]
    assert {stride: f.shape[-1] for stride, f in found.items()} == filters
    assert all(f.shape[1:3] == (side // stride,) * 2 for stride, f in found.items())


def test_layers_are_called_the_same_in_every_model():
    spec = ModelSpec("classify", "encoder", ("a", "b"), (), 64, 64, 3)
    first, again = (
        network("mobilenet_v3_small")[0],
        build_model(spec, {"encoder": "MobileNetV3Small"}),
    )
    names = [layer.name for layer in first.layers if is_encoder(layer)]
    assert names == [layer.name for layer in again.layers if is_encoder(layer)]
    assert len(names) > 100 and "encoder_conv_bn" in names
    assert all(v.path.startswith("encoder_") for v in first.variables if "dense" not in v.path)


@pytest.mark.parametrize(
    "name, words",
    [
        ("xception", "encoder 'xception' has no features at stride 4, only at 8, 16;"),
        ("InceptionV3", "encoder 'InceptionV3' cannot be built for images of 64 x 64 ("),
    ],
)
def test_networks_that_do_not_fit_are_refused_in_one_line(name, words):
    spec = ModelSpec("segment", "encoder_unet", ("a", "b"), ("#000000", "#ffffff"), 64, 64, 3)
    with pytest.raises(InputError, match=re.escape(words)):
        build_model(spec, {"encoder": name})


def test_pixels_are_scaled_in_float32_under_a_mixed_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        spec = ModelSpec("classify", "encoder", ("a", "b"), (), 32, 32, 3)
        model = build_model(spec, {"encoder": "mobilenet_v3_small"})
    finally:
        keras.config.set_dtype_policy("float32")
    kinds = {layer.name: layer.compute_dtype for layer in model.layers}
    assert kinds["encoder_preprocess1"] == kinds["encoder_rescaling1"] == "float32"
    assert kinds["encoder_conv"] == kinds["encoder_conv_bn"] == "bfloat16"


# Weights


@pytest.fixture(scope="module")
def original():
    """Keras' network with drawn weights, that of each layer another."""
    keras.utils.set_random_seed(1)
    return keras.applications.MobileNetV2(
        input_shape=(64, 64, 3), include_top=False, weights=None, pooling="avg"
    )


@pytest.mark.parametrize("ending", ["weights.h5", "h5", "keras"])
def test_weights_of_a_file(original, tmp_path, ending):
    file, (model, _) = tmp_path / f"w.{ending}", network("mobilenet_v2")
    original.save_weights(file) if ending == "weights.h5" else original.save(file)
    load_imagenet(model, "mobilenet_v2", str(file))
    pixels = images()
    scaled = keras.applications.mobilenet_v2.preprocess_input(pixels.astype(np.float32))
    ours = keras.Model(model.input, model.get_layer("average").output)(pixels)
    assert np.allclose(ours, original(scaled), atol=1e-6)


def test_a_network_that_has_a_layer_more_with_weights_of_imagenet(tmp_path):
    """EfficientNet: Keras scales once more by the deviation, but only with ImageNet's weights."""
    theirs = keras.applications.EfficientNetB0(
        input_shape=(32, 32, 3), include_top=False, weights=None
    )
    stem = theirs.get_layer("stem_conv_pad")
    kernel = theirs.get_layer("stem_conv")
    theirs.save_weights(tmp_path / "b0.weights.h5")
    model, _ = network("efficientnetb0", 32)
    load_imagenet(model, "efficientnetb0", str(tmp_path / "b0.weights.h5"))
    ours = keras.Model(model.input, model.get_layer("encoder_stem_conv").output)(images(32))
    deviations = np.array([0.229, 0.224, 0.225])
    scaled = (images(32) / 255 / np.sqrt(deviations)).astype(np.float32)
    assert np.allclose(ours, kernel(stem(scaled)), atol=1e-5)


def test_wrong_files_are_named(original, tmp_path):
    file, (model, _) = tmp_path / "w.weights.h5", network("mobilenet_v3_small")
    before = model.get_weights()
    with pytest.raises(InputError, match="w.weights.h5: no such file"):
        load_imagenet(model, "mobilenet_v3_small", str(file))
    original.save_weights(file)
    for content in (file.read_bytes(), file.read_bytes()[:5000], b"nothing"):
        file.write_bytes(content)
        with pytest.raises(InputError) as caught:
            load_imagenet(model, "mobilenet_v3_small", str(file))
        assert str(file) in str(caught.value) and "\n" not in str(caught.value)
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """Function that leads all downloads to a port of this machine; nothing is in the cache."""

    def lead(port):
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setattr(urllib.request, "_opener", None)  # knows the proxy of before

    return lead


@pytest.mark.parametrize("silent", [False, True])
def test_no_download_is_one_line_within_ten_seconds(offline, monkeypatch, capsys, silent):
    _, origin = applications._network("mobilenet_v3_small", keras.Input((32, 32, 3)))
    if silent:
        monkeypatch.setattr(applications, "SECONDS", applications.SECONDS / 5)
    with socket.create_server(("127.0.0.1", 0)) as server:
        offline(server.getsockname()[1])
        if not silent:
            server.close()
        start = time.monotonic()
        with pytest.raises(InputError) as caught:
            applications._downloaded(origin)
    assert time.monotonic() - start < 10
    text = str(caught.value)
    assert "_no_top_v2.h5: cannot be downloaded" in text and "\n" not in text
    assert "--encoder-weights FILE" in text and "--encoder lite0" in text
    assert socket.getdefaulttimeout() is None and capsys.readouterr().out == ""


def test_what_was_downloaded_is_not_downloaded_again(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "w.h5").write_bytes(b"weights")
    serve = functools.partial(http.server.SimpleHTTPRequestHandler, directory=tmp_path / "served")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/w.h5"
        origin = {"fname": "w.h5", "origin": url, "cache_subdir": "models"}
        file = applications._downloaded(origin)
        server.shutdown()
    assert file.read_bytes() == b"weights"
    assert applications._downloaded(origin) == file
    assert capsys.readouterr().out == ""


# From training to prediction


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("task", ["classify", "segment"])
def test_an_application_works_from_training_to_prediction(name, task, tmp_path, class_folder):
    model = {"classify": "encoder", "segment": "encoder_unet"}[task]
    data = class_folder(size=(64, 64)) if task == "classify" else "synthetic_facades"
    size = {"limit": 8, "image_size": (64, 64), "batch_size": 4, "epochs": 1, "augment": "none"}
    options = {"encoder": name, "batch_norm": True}
    config = make_config(
        task, data=str(data), model=model, model_options=options, encoder_weights="drawn", **size
    )
    run = train(config, tmp_path)
    result = export_onnx(run, tmp_path / "x.onnx", Options())
    assert result["verification"]["max_difference"] < 1e-4
    _, probabilities = Predictor(tmp_path / "x.onnx").run(images())
    assert math.isclose(probabilities[0].sum(), probabilities[0].size / probabilities.shape[-1],
                        rel_tol=1e-3)  # fmt: skip
