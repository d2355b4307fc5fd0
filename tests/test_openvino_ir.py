"""Files of OpenVINO's own format."""

import json
import os
import subprocess
from pathlib import Path

import jsonschema
import keras
import numpy as np
import pytest
from keras import layers
from tiny_models import png

from tfproj import Predictor
from tfproj.cli.main import main
from tfproj.core import image
from tfproj.core.spec import ModelSpec
from tfproj.errors import InputError, TfprojError
from tfproj.export import openvino_ir
from tfproj.export.any_model import export_model
from tfproj.export.isolated import Pass, predict_isolated
from tfproj.export.job import Options, Rejected, prepare
from tfproj.export.onnx_file import export_onnx
from tfproj.export.runtimes import parts
from tfproj.inference.selftest import replay

SCHEMA = Path(__file__).parent.parent / "docs" / "metadata.schema.json"
openvino = pytest.importorskip("openvino", reason="the package openvino is not installed")
pytestmark = pytest.mark.openvino
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}


def opened(file):
    """(record, image bytes -> the first output, masks with channels last)."""
    model = openvino.Core().read_model(file)
    record = json.loads(model.get_rt_info(["tfproj"]).astype(str))
    jsonschema.validate(record, json.loads(SCHEMA.read_text()))
    spec, compiled = ModelSpec.from_dict(record), openvino.compile_model(model, "CPU", EXACT)

    def answer(data):
        pixels = image.load(data, spec.size, spec.channels, resize=spec.resize)
        images = pixels.transpose(2, 0, 1)[None].astype(np.float32)
        return np.moveaxis(compiled(images)[0][0], 0, -1)

    return record, answer


@pytest.fixture(scope="module")
def masks_file(toy_segmenter, tmp_path_factory):
    """The graph of the toy segmenter."""
    path = tmp_path_factory.mktemp("graph") / "model.xml"
    call = ["export", str(toy_segmenter.path), "--format", "openvino", "--output", str(path)]
    assert main(call) == 0
    return path


def test_a_segmenter_answers_as_the_onnx_file(masks_file, toy_models):
    path = masks_file
    assert {file.name for file in path.parent.iterdir()} == {"model.xml", "model.bin"}
    record, answer = opened(path)
    assert record["schema"] == 4 and record["graph"]["inference_precision"] == "f32"
    assert record["verification"]["batch_sizes"] == [1, 7]
    assert replay(record, answer).max_difference < 1e-4
    assert replay(Predictor(toy_models["segment"]).metadata, answer).max_difference < 1e-4
    constants = (op for op in openvino.Core().read_model(path).get_ops() if hasattr(op, "data"))
    kinds = {op.data.dtype for op in constants if op.data.size > 500}
    assert kinds == {np.dtype(np.float32)}  # OpenVINO halves them by default


def test_a_classifier_in_integers(toy_classifier, tmp_path):
    path = tmp_path / "a.xml"
    result = export_onnx(toy_classifier, path, Options(format="openvino", int8=True))
    record, answer = opened(path)
    assert replay(record, answer).max_difference < 1e-6
    facts = record["quantization"]
    assert facts == result["quantization"] and "speed_ratio" not in facts
    assert "FakeQuantize" in path.read_text()
    assert set(record["outputs"]) == {"scores", "probabilities"}
    assert "unknown_score_threshold" not in record["calibration"]


def test_a_file_that_answers_differently_is_not_written(toy_classifier, tmp_path, monkeypatch):
    original = openvino_ir.convert

    def shifted(data, spec):
        graph, end, weights = original(data, spec).partition(b"\0")
        return graph + end + (np.frombuffer(weights, "<f4") * np.float32(1.01)).tobytes()

    monkeypatch.setattr(openvino_ir, "convert", shifted)
    with pytest.raises(Rejected, match="differs from Keras"):
        export_onnx(toy_classifier, tmp_path / "a.xml", Options(format="openvino", keep=True))
    assert {p.name for p in tmp_path.iterdir()} == {"a.xml.rejected", "a.bin.rejected"}


def test_graph_and_weights_are_written_together_or_not_at_all(toy_classifier, tmp_path):
    (tmp_path / "a.bin").mkdir()
    (tmp_path / "a.xml").write_text("old")
    with pytest.raises((InputError, TfprojError), match="a.bin"):
        export_onnx(toy_classifier, tmp_path / "a.xml", Options(format="openvino"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.bin", "a.xml"]
    assert (tmp_path / "a.xml").read_text() == "old"


def test_names_of_the_two_files(tmp_path):
    """OpenVINO looks for the weights by the graph's name, its ending alone replaced."""
    assert [path.name for path in parts(Path("a.xml.xml"), b"<?xml\0w")] == [
        "a.xml.xml",
        "a.xml.bin",
    ]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"half": True}, "--half is for --format onnx"),
        ({"layout": "NHWC"}, "--layout is for --format onnx"),
        ({"dynamic_size": True}, "--dynamic-size is for"),
    ],
)
def test_what_only_onnx_has_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        prepare(None, None, Options(format="openvino", **options))


def test_a_missing_package_names_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'tfproj\[openvino-ir\]'"):
        prepare(None, None, Options(format="openvino"))


def test_damaged_bytes_are_one_line(tmp_path):
    spec = ModelSpec("classify", "cnn", ("a", "b"), (), 8, 8, 1)
    with pytest.raises(TfprojError, match="OpenVINO cannot use the file"):
        predict_isolated(b"<?xml\0" + bytes(40), [], [Pass(1)], tmp_path, spec)


def test_a_keras_model_of_somebody(tmp_path):
    inputs = keras.Input((12, 16, 3))
    values = layers.Conv2D(8, 3, 2, activation="relu", bias_initializer="normal")(inputs)
    values = layers.GlobalAveragePooling2D()(values)
    model = keras.Model(inputs, layers.Dense(3, "softmax")(values))
    given = {"classes": ["a", "b", "c"], "preprocessing": "signed", "format": "openvino"}
    result = export_model(model, tmp_path / "theirs.xml", **given)
    assert result["verification"]["max_difference"] < 1e-4
    record, answer = opened(tmp_path / "theirs.xml")
    assert record["verification"]["split"] == "generated"
    assert replay(record, answer).max_difference < 1e-4


MODEL_API = """
import sys
import cv2, numpy as np
from model_api.adapters import OpenvinoAdapter, create_core
from model_api.models import Model
path, picture, target = sys.argv[1:]
pixels = cv2.imread(picture)
usual = Model.create_model(path)(pixels)
exact = {"INFERENCE_PRECISION_HINT": "f32"}
adapter = OpenvinoAdapter(create_core(), path, device="CPU", plugin_config=exact)
model = Model.create_model(adapter, configuration={"output_raw_scores": True})
found = model(pixels)
if hasattr(found, "top_labels"):
    (label,) = usual.top_labels
    np.savez(target, label=label.name, answer=found.raw_scores)
else:
    names = sorted({outline.label for outline in model.get_contours(found)})
    np.savez(target, mask=usual.resultImage, answer=found.soft_prediction, names=names)
"""


@pytest.fixture(scope="module")
def model_api():
    """Function of a file and a picture: what OpenVINO's Model API finds by itself."""
    python = os.environ.get("TFPROJ_ANNOTATORS", "")
    probe = [python, "-c", "import model_api, onnx"]
    if not python or subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("openvino-model-api is not installed for the Python in $TFPROJ_ANNOTATORS")

    def find(path, picture):
        target = picture.with_suffix(".npz")
        command = [python, "-c", MODEL_API, path, picture, target]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return np.load(target)

    return find


@pytest.mark.clients
def test_model_api_opens_a_classifier(model_api, kept_proportions, tmp_path):
    """Pictures of the model's size: it resizes others without the filter that they would need."""
    ours = Predictor(kept_proportions.onnx_file)
    picture = tmp_path / "a.png"
    picture.write_bytes(png(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)))
    export_onnx(kept_proportions, tmp_path / "a.xml", Options(format="openvino"))
    expected = ours.predict_one(picture)
    for file in (tmp_path / "a.xml", kept_proportions.onnx_file):
        found = model_api(file, picture)
        np.testing.assert_allclose(found["answer"], expected.probabilities, atol=1e-5)
        assert found["label"] == expected.label


@pytest.mark.clients
def test_model_api_opens_a_segmenter(model_api, masks_file, toy_models, tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(png(np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)))
    found = model_api(masks_file, picture)
    expected = Predictor(toy_models["segment"]).predict_one(picture)
    np.testing.assert_allclose(found["answer"], expected.probabilities, atol=1e-4)
    drawn = {expected.classes[i] for i in np.unique(expected.mask) if i}
    assert set(found["names"].tolist()) == drawn != set()
    assert (found["mask"] == expected.mask).mean() > 0.95  # it computes in bfloat16, if it can


def test_model_info_is_left_out_where_it_would_mislead():
    from tfproj.export.metadata import model_info

    def info(task="classify", channels=3, **options):
        return model_info(ModelSpec(task, "cnn", ("a b", "c"), (), 8, 8, channels, **options))

    assert info()["labels"] == "a_b c"
    assert info(resize="letterbox")["resize_type"] == "fit_to_window_letterbox"
    assert info(channels=1) == info(multi_label=True) == {}
    assert info("segment")["labels"] == "c" and info("segment", resize="letterbox") == {}
    assert info("segment", resize="tiles") == {}
