"""TensorFlow Lite files."""

import json
from pathlib import Path

import cv2
import jsonschema
import keras
import numpy as np
import pytest

from tfproj import Predictor
from tfproj.cli.main import main
from tfproj.core import image
from tfproj.core.spec import ModelSpec
from tfproj.errors import InputError, TfprojError
from tfproj.export.any_model import export_model
from tfproj.export.isolated import Pass, predict_isolated
from tfproj.export.job import Options, Rejected, prepare
from tfproj.export.onnx_file import export_onnx
from tfproj.inference.selftest import replay

SCHEMA = Path(__file__).parent.parent / "docs" / "metadata.schema.json"
interpreter = pytest.importorskip("ai_edge_litert.interpreter")


def first_output(file):
    """Image bytes -> what a client without names takes for the answer, beside the record."""
    record = json.loads(file.with_name(f"{file.name}.json").read_text())
    jsonschema.validate(record, json.loads(SCHEMA.read_text()))
    spec, lite = ModelSpec.from_dict(record), interpreter.Interpreter(str(file))
    lite.allocate_tensors()
    (source,), target = lite.get_input_details(), lite.get_output_details()[0]
    assert source["dtype"] == np.uint8 and source["shape"].tolist() == record["input"]["shape"]

    def answer(data):
        pixels = image.load(data, spec.size, spec.channels, resize=spec.resize)
        lite.set_tensor(source["index"], pixels[None])
        lite.invoke()
        return lite.get_tensor(target["index"])[0]

    return record, answer


def test_a_classifier_answers_as_the_onnx_file(toy_classifier, toy_models, tmp_path, capsys):
    path = tmp_path / "model.tflite"
    call = ["export", str(toy_classifier.path), "--format", "tflite", "--output", str(path)]
    assert main(call) == 0
    said = capsys.readouterr().out
    assert "verified against Keras" in said and "tflite 0." in said
    record, answer = first_output(path)
    assert replay(record, answer).max_difference < 1e-4
    assert (tmp_path / "model.labels.txt").read_text().split() == list("0123456789")
    assert record["verification"]["batch_sizes"] == [1]
    assert replay(Predictor(toy_models["classify"]).metadata, answer).max_difference < 1e-4


def test_a_segmenter_in_integers(toy_segmenter, tmp_path):
    result = export_onnx(
        toy_segmenter, tmp_path / "a.int8.tflite", Options(format="tflite", int8=True)
    )
    record, answer = first_output(tmp_path / "a.int8.tflite")
    assert replay(record, answer).max_difference < 0.05
    facts = record["quantization"]
    assert facts == result["quantization"]
    before, after = facts["metrics"]["mean_average_precision_softmax"].values()
    assert before - after <= 0.005
    tensors = interpreter.Interpreter(str(tmp_path / "a.int8.tflite")).get_tensor_details()
    floats = [t for t in tensors if t["dtype"] == np.float32 and t["name"]]
    assert len(floats) <= 4  # the two answers, before and after they are made float


@pytest.mark.clients
def test_a_keras_model_of_somebody_for_frigate(tmp_path):
    """Its steps, as in frigate/data_processing/real_time/custom_classification.py."""
    inputs = keras.Input((224, 224, 3))
    values = keras.layers.Conv2D(4, 5, 5, activation="relu", bias_initializer="normal")(inputs)
    values = keras.layers.Dense(3, "softmax")(keras.layers.GlobalAveragePooling2D()(values))
    model, classes = keras.Model(inputs, values), ["red car", "blue car", "none"]
    path = tmp_path / "model.tflite"
    export_model(model, path, format="tflite", classes=classes, preprocessing="signed")
    labels = path.with_suffix(".labels.txt").read_text().splitlines()
    assert labels == classes
    lite = interpreter.Interpreter(model_path=str(path), num_threads=2)
    lite.allocate_tensors()
    frame = np.random.default_rng(0).integers(0, 256, (97, 61, 3), np.uint8)
    small = cv2.resize(frame, (224, 224))
    lite.set_tensor(lite.get_input_details()[0]["index"], np.expand_dims(small, axis=0))
    lite.invoke()
    found = lite.get_tensor(lite.get_output_details()[0]["index"])[0]
    expected = model.predict_on_batch(small[None] / np.float32(127.5) - 1)[0]
    np.testing.assert_allclose(found / found.sum(axis=0), expected, atol=1e-5)


def test_a_file_that_answers_differently_is_not_written(toy_classifier, tmp_path, monkeypatch):
    from tfproj.export import tflite

    def shifted(model, spec, images=None):
        return original(scaled(model), spec, images)

    def scaled(model):
        model.set_weights([w * 1.01 for w in model.get_weights()])
        return model

    def broken(model, spec, images=None):
        return original(model, spec, images)[:400]

    original = tflite.convert
    for wrong, words in ((shifted, "differs from Keras"), (broken, "LiteRT cannot use the file")):
        monkeypatch.setattr(tflite, "convert", wrong)
        with pytest.raises(Rejected, match=words):
            export_onnx(toy_classifier, tmp_path / "a.tflite", Options(format="tflite", keep=True))
        assert [p.name for p in tmp_path.iterdir()] == ["a.tflite.rejected"]
        (tmp_path / "a.tflite.rejected").unlink()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"half": True}, "--half is for --format onnx"),
        ({"opset": 17}, "--opset is for"),
        ({"layout": "NCHW"}, "--layout is for"),
        ({"web": "page"}, "--web is for"),
        ({"format": "caffe"}, "format 'caffe'"),
    ],
)
def test_what_only_onnx_has_is_refused(options, words):
    with pytest.raises(InputError, match=words):
        prepare(None, None, Options(**{"format": "tflite", **options}))


def test_damaged_bytes_are_one_line(tmp_path):
    spec = ModelSpec("classify", "cnn", ("a", "b"), (), 8, 8, 1)
    with pytest.raises(TfprojError, match="LiteRT cannot use the file"):
        predict_isolated(b"\x1c\0\0\0TFL3" + bytes(40), [], [Pass(1)], tmp_path, spec)
