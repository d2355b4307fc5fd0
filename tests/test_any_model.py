"""Keras models that someone else trained: what is understood, what is refused and where."""

import json
import zipfile
from pathlib import Path

import jsonschema
import numpy as np
import onnxruntime
import pytest
from PIL import Image

from tfproj import Predictor, backend, export_model
from tfproj.cli.main import main
from tfproj.core import image
from tfproj.core.spec import ModelSpec
from tfproj.errors import InputError, TfprojError
from tfproj.experiment.initial_weights import find_source
from tfproj.export import any_model, given, quantize, simplify

backend.setup()

import keras  # noqa: E402
from keras import layers  # noqa: E402

from tfproj.export import keras_model  # noqa: E402
from tfproj.export.with_tf2onnx import convert  # noqa: E402

SCHEMA = Path(__file__).parent.parent / "docs" / "metadata.schema.json"
CLASSES = ("a", "b", "c")
SIZE = (20, 24)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of 60 noisy pictures, 20 in the folder of each class, brighter by class."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(60):
        noise = np.random.default_rng(number).integers(0, 90, (*SIZE, 3)) + 80 * (number % 3)
        place = folder / CLASSES[number % 3]
        place.mkdir(exist_ok=True)
        Image.fromarray(noise.astype(np.uint8)).save(place / f"{number:02}.png")
    return folder


def pixels(channels=3):
    return np.random.default_rng(0).integers(0, 256, (4, *SIZE, channels)).astype(np.uint8)


def network(ending, size=SIZE, channels=3, before=()):
    """Convolutions, an average, and what ``ending`` makes of it; weights drawn from a seed."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((*size, channels), name="picture")
    values = inputs
    for layer in (*before, layers.Conv2D(8, 3, strides=2, bias_initializer="normal")):
        values = layer(values)
    values = layers.BatchNormalization(gamma_initializer="uniform", name="norm")(values)
    values = layers.GlobalAveragePooling2D()(layers.ReLU()(values))
    return keras.Model(inputs, ending(values), name="theirs")


def dense(units=3, activation=None, **options):
    return layers.Dense(units, activation, bias_initializer="normal", name="last", **options)


def averaged(values):
    return layers.Average()([dense(activation="softmax")(values), layers.Softmax()(values[:, :3])])


def nested(values):
    inside = keras.Sequential([keras.Input((8,)), dense(activation="softmax")], name="head")
    return inside(values)


ENDINGS = {
    "dense": (dense(activation="softmax"), "softmax"),
    "activation": (lambda v: layers.Activation("softmax")(dense()(v)), "softmax"),
    "layer": (lambda v: layers.Softmax()(dense()(v)), "softmax"),
    "operation": (lambda v: keras.ops.softmax(dense()(v)), "softmax"),
    "nested": (nested, "softmax"),
    "linear": (dense(), "linear"),
    "log": (lambda v: keras.ops.log_softmax(dense()(v)), "log_softmax"),
    "averaged": (averaged, "probabilities"),
    "labels": (dense(activation="sigmoid"), "sigmoid"),
    "sigmoid": (dense(1, "sigmoid"), "sigmoid"),
    "one value": (lambda v: layers.Activation("sigmoid")(dense(1)(v)), "sigmoid"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_endings_become_scores_of_the_same_probabilities(name):
    ending, kind = ENDINGS[name]
    model = network(ending)
    classes = 2 if kind == "sigmoid" and name != "labels" else 3
    scores, found = keras_model.with_scores(model, classes)
    whole, scores = (keras_model.on_images(m, SIZE, "signed") for m in (model, scores))
    scores, told = keras_model.finished(whole, scores, found, pixels())
    assert told == kind
    expected = model.predict_on_batch(pixels() / np.float32(127.5) - 1)
    if classes == 2:
        expected = np.hstack([1 - expected, expected])
    answers = scores.predict_on_batch(pixels())
    if name == "labels":
        answers = keras.ops.sigmoid(answers).numpy()
        assert np.abs(answers - expected).max() < 1e-6
        return
    if kind not in ("linear", "log_softmax"):
        answers = keras.ops.softmax(answers).numpy()
        assert np.abs(answers.sum(-1) - 1).max() < 1e-6
    assert np.abs(answers - expected).max() < 1e-6


@pytest.mark.parametrize(
    "name, mode", [("signed", "tf"), ("imagenet", "torch"), ("caffe", "caffe")]
)
def test_scaling_is_that_of_keras(name, mode):
    expected = keras.applications.imagenet_utils.preprocess_input(
        pixels().astype(np.float32), data_format="channels_last", mode=mode
    )
    found = np.asarray(keras_model.scaled(pixels(), name))
    assert np.abs(found - expected).max() <= 2e-6 * np.abs(expected).max()
    assert set(keras_model.SCALES) == set(any_model.PREPROCESSING)


@pytest.mark.parametrize(
    "first, name",
    [
        ([layers.RandomFlip(), layers.Rescaling(1 / 255, name="to1")], "to1"),
        ([keras.Sequential([layers.Normalization(mean=3, variance=2, name="norm3")])], "norm3"),
        ([keras.applications.mobilenet_v2.preprocess_input], "true_divide"),
        ([layers.ZeroPadding2D()], None),
    ],
)
def test_scaling_inside_a_model_is_seen(first, name):
    found = keras_model.own_scaling(network(dense(), before=first))
    assert found is None if name is None else found.startswith(name)


def test_mixed_precision_is_computed_in_float32():
    policy = "mixed_bfloat16"
    model = network(lambda v: dense(dtype="float32")(layers.Dense(8, dtype=policy)(v)))
    plain = keras_model.functional(model)
    assert plain.predict_on_batch(pixels() / 255.0).dtype == np.float32
    assert {layer.compute_dtype for layer in plain.layers} == {"float32"}
    np.testing.assert_array_equal(plain.get_weights()[0], model.get_weights()[0])


@pytest.mark.parametrize(
    "layer",
    [
        layers.Conv2D(16, 7, groups=4, padding="same"),
        layers.Conv2D(16, 7, groups=16, padding="same"),
        layers.Conv2D(16, 3, activation="gelu", padding="same"),
        layers.Normalization(mean=[*range(16)], variance=[2.0] * 16),
    ],
)
def test_layers_of_convnext_have_operators_that_tf2onnx_knows(layer):
    """Keras hides convolutions in groups in a function on a CPU, GELU is an erfc, a given mean is
    captured."""
    inputs = keras.Input((*SIZE, 16), dtype="uint8", name="image")
    values = layer(layers.Rescaling(1 / 16)(inputs))
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(values))
    session = onnxruntime.InferenceSession(convert(model, 17).SerializeToString())
    (scores,) = session.run(["scores"], {"image": pixels(16)})
    np.testing.assert_allclose(scores, model.predict_on_batch(pixels(16)), atol=1e-5)


def test_upsampling_by_repetition_and_layers_that_are_called_as_outputs():
    inputs = keras.Input((*SIZE, 3), dtype="uint8", name="image")
    values = layers.Conv2D(4, 3, padding="same", name="scores")(layers.Rescaling(1 / 255)(inputs))
    values = layers.UpSampling2D(2)(layers.MaxPooling2D()(values))
    require_same(keras.Model(inputs, layers.Conv2D(2, 1, name="probabilities")(values)))


def test_what_is_flattened_may_be_read_twice():
    """A dense layer after a flattening takes the pixels in another order, where it is alone."""
    options = {"bias_initializer": "normal"}
    inputs = keras.Input((*SIZE, 3), dtype="uint8", name="image")
    values = layers.Conv2D(4, 3, strides=8)(layers.Rescaling(1 / 255)(inputs))
    flat = layers.Flatten()(values)
    gate = layers.Dense(flat.shape[-1], "sigmoid", **options)(flat)
    require_same(keras.Model(inputs, layers.Dense(3, **options)(flat * gate)))


def require_same(model):
    """The tidied graph gives Keras' scores."""
    graph = simplify.tidy(convert(model, 17), [layer.name for layer in model.layers])
    simplify.check(graph, tidied=False)
    session = onnxruntime.InferenceSession(graph.SerializeToString())
    (scores,) = session.run(["scores"], {"image": pixels()})
    np.testing.assert_allclose(scores, model.predict_on_batch(pixels()), atol=1e-5)


def two_inputs():
    inputs = [keras.Input((8, 8, 3), name=name) for name in ("left", "right")]
    return keras.Model(inputs, layers.Flatten()(layers.Add()(inputs)), name="pair")


def log_over_rows():
    inputs = keras.Input((8, 8, 3))
    values = keras.ops.log_softmax(layers.Conv2D(3, 1)(inputs), axis=1)
    return keras.Model(inputs, values)


class Own(keras.Model):
    pass


REFUSED = {
    "two inputs": (two_inputs, "'pair' has 2 inputs (left, right)"),
    "no graph": (lambda: Own(name="own"), "'own' has no graph of layers"),
    "not Keras": (lambda: 5, "a int, not a Keras model"),
    "channels": (lambda: network(dense(), channels=4), "takes (None, 20, 24, 4); expected images"),
    "count": (lambda: network(dense(4)), "layer 'last' gives 4 values; 3 classes, not 4"),
    "one of three": (lambda: network(dense(1, "sigmoid")), "'last' gives 1 values; 3 classes"),
    "relu": (lambda: network(dense(3, "relu")), "'last' ends in relu: neither scores nor"),
    "tanh": (lambda: network(dense(3, "tanh")), "'last' ends in tanh"),
    "rows": (log_over_rows, "has its softmax over axis 1"),
    "boxes": (lambda: network(layers.Reshape((4, 2))), "gives (None, 4, 2); expected (None, cl"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line_that_says_where(name, tmp_path):
    make, words = REFUSED[name]
    with pytest.raises(InputError) as caught:
        names = ["a", "b"] if name == "boxes" else CLASSES
        export_model(make(), tmp_path / "x.onnx", classes=names, preprocessing="rescale")
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_preprocessing_of_colours_is_refused_for_grey(tmp_path):
    grey, options = network(dense(), channels=1), {"classes": CLASSES, "preprocessing": "caffe"}
    with pytest.raises(InputError, match=r"grey images; --preprocessing none\|rescale\|signed$"):
        export_model(grey, tmp_path / "x.onnx", **options)


def memory(values):
    return dense()(layers.GRU(4, name="memory")(layers.Reshape((4, 2))(values)))


def test_what_does_not_convert_is_refused_with_the_layer(tmp_path):
    with pytest.raises(TfprojError, match="^memory/.* needs the operator .*: no file may hold it"):
        export_model(network(memory), tmp_path / "x.onnx", classes=CLASSES, preprocessing="rescale")
    assert not list(tmp_path.iterdir())


# Files


def doctored(path, entry):
    """A ``.keras`` file in which ``entry`` stands in the place of the last layer."""
    network(dense()).save(path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    config["config"]["layers"][-1] |= entry
    parts["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    return path


def entry(kind, module, **config):
    return {"class_name": kind, "module": module, "config": {"name": "bad", **config}}


GET_FILE = {"class_name": "function", "module": "keras.utils", "config": "get_file"}
UNTRUSTED = {
    "lambda": (entry("Lambda", "keras.layers"), "layer 'bad' is a Lambda: code in the file"),
    "saved model": (entry("TFSMLayer", "keras.layers"), "layer 'bad' is a TFSMLayer"),
    "vocabulary": (
        entry("StringLookup", "keras.layers", vocabulary="/etc/passwd"),
        "layer 'bad' is a StringLookup, which may read other files",
    ),
    "own class": (entry("Mine", "theirs"), "layer 'bad' needs 'Mine' of 'theirs', which is not"),
    "system": (entry("system", "os"), "needs 'system' of 'os'"),
    "keras.utils": (entry("Dense", "keras.utils", units=3), "needs 'Dense' of 'keras.utils'"),
    "function": (entry("Dense", "keras.layers", activation=GET_FILE), "'get_file' of 'keras.ut"),
    "deeper": (
        entry("Dense", "keras.layers", x=[{"y": entry("__lambda__", "builtins", name="deep")}]),
        "layer 'deep' is a __lambda__",
    ),
}


@pytest.mark.parametrize("name", UNTRUSTED)
def test_files_that_would_run_code_are_refused_before_keras_sees_them(name, tmp_path, monkeypatch):
    added, words = UNTRUSTED[name]
    path = doctored(tmp_path / "m.keras", added)
    monkeypatch.setattr(keras.saving, "load_model", None)
    with pytest.raises(InputError) as caught:
        export_model(path, classes=CLASSES)
    assert words in str(caught.value) and str(caught.value).startswith(f"{path}: layer ")
    assert "\n" not in str(caught.value)


def test_files_that_are_none_of_keras(tmp_path):
    for name, data, words in (
        ("a.keras", b"PK\3\4 nothing", "not a model that Keras saved"),
        ("a.h5", b"", "not a .keras file"),
        ("absent.keras", None, "no such file"),
    ):
        if data is not None:
            (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=f"{name}: {words}"):
            export_model(tmp_path / name, classes=CLASSES)
    path = doctored(tmp_path / "b.keras", {"class_name": "Conv3D"})
    with pytest.raises(InputError, match="b.keras: cannot be loaded"):
        export_model(path, classes=CLASSES)


# Whole exports


def test_a_file_becomes_one_of_ours(tmp_path, pictures, capsys):
    """ImageNet's old scaling, softmax in a model inside, class folders: by the command."""
    model = network(nested)
    model.save(tmp_path / "theirs.keras")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    command = ["export", str(tmp_path / "theirs.keras"), "--images", str(pictures)]
    command += ["--classes", str(tmp_path / "classes.txt")]
    assert main(command) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "--preprocessing none|rescale|signed|imagenet|caffe; accuracy on 30 of the im" in said
    assert main([*command, "--preprocessing", "caffe", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["verification"]["max_difference"] < 1e-5
    predictor = Predictor(tmp_path / "theirs.onnx")
    assert predictor.selftest().max_difference < 1e-5
    files = sorted(pictures.rglob("*.png"))[::7]
    found = np.stack([r.probabilities for r in predictor.predict(files)])
    exact = np.stack([image.load(file, SIZE, 3) for file in files]).astype(np.float32)
    expected = model.predict_on_batch(keras.applications.vgg16.preprocess_input(exact))
    assert np.abs(found - expected).max() < 1e-5
    metadata = predictor.metadata
    assert metadata["model"] == "keras:theirs" and metadata["verification"]["split"] == "given"
    assert metadata["preprocessing"]["in_graph"][0].startswith("blue, green, red")
    assert metadata["training"]["ending"] == "softmax"
    jsonschema.validate(metadata, json.loads(SCHEMA.read_text()))
    assert "is not known" in metadata["training"]["images"] and metadata["calibration"]
    with pytest.raises(InputError, match="does not say what its network is made of"):
        find_source(str(tmp_path / "theirs.onnx"), "classify")
    # What is there already is replaced only where it is ours.
    (tmp_path / "theirs.onnx").write_bytes(b"another's")
    assert main([*command, "--preprocessing", "caffe"]) == 2
    assert (tmp_path / "theirs.onnx").read_bytes() == b"another's"


def test_a_segmenter_of_any_size_with_one_value_a_pixel_in_int8(tmp_path, pictures, monkeypatch):
    """Without labels, what decides over int8 is how often it agrees with float32."""
    monkeypatch.setattr(quantize, "speed_ratio", lambda *_: 2.0)
    inputs = keras.Input((None, None, 3))
    values = layers.Conv2D(8, 3, 2, "same", activation="relu")(layers.Rescaling(1 / 255)(inputs))
    values = layers.Conv2DTranspose(8, 2, strides=2)(values)
    model = keras.Model(inputs, layers.Conv2D(1, 1, activation="sigmoid", name="last")(values))
    model.layers[-1].bias.assign([-0.3])
    given = {"classes": ["ground", "road"], "images": str(pictures)}
    with pytest.raises(InputError, match="leaves the size of images open; give --image-size"):
        export_model(model, tmp_path / "x.onnx", **given)
    result = export_model(model, tmp_path / "x.onnx", image_size=(16, 24), int8=True, **given)
    assert list(result["quantization"]["metrics"]) == ["agreement"]
    assert result["quantization"]["metrics"]["agreement"]["int8"] >= 0.99
    (answer,) = Predictor(tmp_path / "x.onnx").predict(np.zeros((16, 24, 3), np.uint8))
    expected = model.predict_on_batch(np.zeros((1, 16, 24, 3)))[0, ..., 0]
    assert np.abs(answer.probabilities[..., 1] - expected).max() < 0.05


def test_what_a_run_and_a_giant_are_told(tmp_path, monkeypatch):
    path = doctored(tmp_path / "best.keras", entry("BatchNorm", "tfproj.models.layers"))
    with pytest.raises(InputError, match="name the run that it is of: tfproj export RUN"):
        export_model(path, classes=CLASSES)
    monkeypatch.setattr(keras_model, "MAX_MODEL_BYTES", 1 << 10)
    with pytest.raises(InputError, match="'theirs' has \\d+ parameters: a file of more than"):
        keras_model.functional(network(dense()))


def test_several_sigmoids_are_several_labels_in_int8(tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(quantize, "speed_ratio", lambda *_: 2.0)
    model, path = network(dense(activation="sigmoid")), tmp_path / "x.onnx"
    options = {"images": pictures, "preprocessing": "rescale", "int8": True}
    result = export_model(model, path, classes=CLASSES, **options)
    assert result["quantization"]["metrics"]["agreement"]["int8"] >= 0.99
    assert result["thresholds"] == [0.5, 0.5, 0.5] and result["calibration"] is None
    (answer,) = Predictor(path).predict(pixels()[0])
    expected = model.predict_on_batch(pixels()[:1] / np.float32(255))[0]
    assert np.abs(answer.probabilities - expected).max() < 0.05
    sure = {c: p > 0.5 for c, p in zip(CLASSES, expected, strict=True) if abs(p - 0.5) > 0.05}
    assert {c: c in answer.labels for c in sure} == sure


def test_a_grey_model_without_images_whose_masks_are_too_small(tmp_path):
    inputs = keras.Input((16, 16, 1), dtype="uint8")
    values = layers.Lambda(lambda v: keras.ops.cast(v, "float32"))(inputs)  # in Python it may be
    values = layers.Conv2D(3, 3, 2, "same", name="last")(values)
    with pytest.raises(InputError, match=r"masks of \[8, 8\] px for images of \[16, 16\]: end"):
        export_model(keras.Model(inputs, values), tmp_path / "x.onnx", classes=CLASSES)
    with pytest.raises(InputError, match="takes whole numbers, and scales them"):
        export_model(
            keras.Model(inputs, values),
            tmp_path / "x.onnx",
            classes=CLASSES,
            preprocessing="signed",
        )
    larger = layers.UpSampling2D(interpolation="bilinear")(values)
    result = export_model(keras.Model(inputs, larger), tmp_path / "x.onnx", classes=CLASSES)
    assert result["verification"]["split"] == "generated"
    assert Predictor(tmp_path / "x.onnx").spec.channels == 1


# What is given beside it


def test_names_of_classes(tmp_path):
    (tmp_path / "c.txt").write_text("\ufeffcat\n dog \n", encoding="utf-8")
    (tmp_path / "c.json").write_text('["cat", "dog"]')
    for source in (tmp_path / "c.txt", str(tmp_path / "c.json"), ["cat", "dog"]):
        assert given.read_classes(source) == ("cat", "dog")
    for text, words in (("cat\ncat", "'cat' is empty"), ("cat", "too few"), ('["a"', "cannot be"),
                        ('[["n01", "cat"], ["n02", "dog"]]', "'' is empty")):  # fmt: skip
        (tmp_path / "bad").write_text(text)
        with pytest.raises(InputError, match=words):
            given.read_classes(tmp_path / "bad")


def test_wrong_requests_before_tensorflow(tmp_path, pictures, capsys):
    network(dense()).save(tmp_path / "m.keras")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    (tmp_path / "odd").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "odd" / "1.png")
    model, classes = str(tmp_path / "m.keras"), ["--classes", str(tmp_path / "classes.txt")]
    for arguments, words in (
        ([model], "names no classes: --classes FILE"),
        ([model, *classes], "give --images DIR"),
        ([model, *classes, "--no-data", "--half"], "--half is for runs, not for a Keras model"),
        ([model, *classes, "--no-data", "--dynamic-size"], "--dynamic-size is for runs"),
        ([model, *classes, "--no-data", "--int8"], "--int8 needs 50 images"),
        ([model, *classes, "--images", str(tmp_path / "odd")], "one image; give at least two"),
        (["some/run", *classes], "--classes is for a Keras model"),
    ):
        assert main(["export", *arguments]) == 2
        assert words in capsys.readouterr().err.splitlines()[-1]


def test_an_image_in_a_folder_that_is_no_class(pictures):
    spec = ModelSpec("classify", "keras:x", ("a", "b", "z"), (), *SIZE, 3)
    files = given.find(str(pictures))
    with pytest.raises(InputError, match="its folder is no class, though others are"):
        given.dataset(str(pictures), files, spec)
    none = ModelSpec("classify", "keras:x", ("x", "y", "z"), (), *SIZE, 3)
    assert given.dataset(str(pictures), files, none).splits["val"].labels is None
