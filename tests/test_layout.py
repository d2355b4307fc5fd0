"""Files that take float32 (N, C, H, W)."""

import json
from pathlib import Path

import cv2
import jsonschema
import numpy as np
import onnx
import pytest
import tiny_models
from onnx.reference import ReferenceEvaluator

from tfproj import Predictor
from tfproj.errors import InputError
from tfproj.export.job import Options, check_others
from tfproj.export.layout import channels_first
from tfproj.export.onnx_file import export_onnx
from tfproj.export.web import write_page

TASKS = ("classify", "segment")
SCHEMA = Path(__file__).parent.parent / "docs" / "metadata.schema.json"


def tiny(task, turned=True, **change):
    """A file without training: the bytes, with a record of schema 4."""
    proto = tiny_models.proto(task)
    if turned:
        channels_first(proto.graph)
    record = {**tiny_models.SPECS[task].to_dict(), "schema": 4, "multi_label": False}
    record |= {"layout": "NCHW", **change}
    return tiny_models.with_metadata(proto.SerializeToString(), record)


def channels_of(pixels):
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32)


@pytest.mark.parametrize(("task", "opset"), [("classify", 17), ("segment", 18)])
def test_a_run_becomes_a_file_of_channels_first(toy_models, request, tmp_path, task, opset):
    run = request.getfixturevalue({"classify": "toy_classifier", "segment": "toy_segmenter"}[task])
    path = tmp_path / "model.onnx"
    free = task == "segment"
    export_onnx(run, path, Options(layout="NCHW", opset=opset, half=free, dynamic_size=free))
    predictor, usual = Predictor(path), Predictor(toy_models[task])
    assert predictor.selftest().max_difference < 1e-4
    jsonschema.validate(predictor.metadata, json.loads(SCHEMA.read_text()))
    model, pixels = onnx.load(path), tiny_models.pixels(0, usual.spec, 3)
    dims = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert dims == predictor.metadata["input"]["shape"] == ["N", *dims[1:]]
    assert [output.name for output in model.graph.output][:2] == ["probabilities", "scores"]
    assert not free or "Transpose" not in {node.op_type for node in model.graph.node}
    found = predictor.run(pixels)
    for ours, theirs in zip(found, usual.run(pixels), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=0.05 if free else 1e-6)
    by_reference = ReferenceEvaluator(model).run(None, {"image": channels_of(pixels)})[0]
    by_opencv = cv2.dnn.readNetFromONNX(str(path)) if not free else None
    if by_opencv is not None:
        by_opencv.setInput(cv2.dnn.blobFromImages(list(pixels)))
        np.testing.assert_allclose(by_opencv.forward("probabilities"), found[1], atol=1e-4)
    expected = np.moveaxis(found[1], -1, 1) if free else found[1]
    np.testing.assert_allclose(by_reference, expected, atol=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_the_predictor_turns_pixels_and_masks(task):
    usual = Predictor(tiny_models.with_metadata(
        tiny_models.proto(task).SerializeToString(), tiny_models.SPECS[task].to_dict()
    ))  # fmt: skip
    pixels = tiny_models.pixels(1, usual.spec, 5)
    for ours, theirs in zip(Predictor(tiny(task)).run(pixels), usual.run(pixels), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_graph_and_record_must_agree(task):
    with pytest.raises(InputError, match="input does not fit"):
        Predictor(tiny(task, turned=False))
    with pytest.raises(InputError, match="input does not fit"):
        Predictor(tiny(task, layout="NHWC"))


@pytest.mark.parametrize("layout", ["NWHC", 1, None])
def test_an_unknown_layout_is_refused(layout):
    with pytest.raises(InputError, match="layout"):
        Predictor(tiny("classify", layout=layout))


def test_what_takes_uint8_is_refused(tmp_path):
    for flag in ("web", "triton"):
        with pytest.raises(InputError, match=f"--{flag} takes uint8 NHWC"):
            check_others(Options(layout="NCHW", **{flag: str(tmp_path / "x")}), "name")
    (tmp_path / "a.onnx").write_bytes(tiny("classify"))
    with pytest.raises(InputError, match="this file is NCHW"):
        write_page(tmp_path / "a.onnx", tmp_path / "page", False)


@pytest.mark.parametrize("classes", [1, 3])
def test_factors_of_each_channel_are_turned(classes):
    """A scaling by three factors, then a dense layer that reads (N, H, W, C) flat."""
    from onnx import TensorProto, helper, numpy_helper

    factors = np.arange(1, classes + 1, dtype=np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "factors"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "flat"], ["probabilities"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 2, 3, classes])
    answer = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 6 * classes])
    weights = [numpy_helper.from_array(factors, "factors"),
               numpy_helper.from_array(np.array([0, -1]), "flat")]  # fmt: skip
    graph = helper.make_graph(nodes, "g", [image], [answer], weights)
    channels_first(graph)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    pixels = np.arange(12 * classes, dtype=np.uint8).reshape(2, 2, 3, classes)
    (found,) = ReferenceEvaluator(model).run(None, {"image": channels_of(pixels)})
    np.testing.assert_array_equal(found, (pixels * factors).reshape(2, -1))
