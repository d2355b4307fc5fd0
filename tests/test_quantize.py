import itertools
import json

import numpy as np
import onnx
import onnxruntime
import pytest

from tfproj import Predictor
from tfproj.cli.main import main
from tfproj.errors import TfprojError
from tfproj.export import quantize, samples
from tfproj.export.job import Options
from tfproj.export.onnx_file import export_onnx
from tfproj.export.quantizer import CODINGS, MOVES, Quantizer
from tfproj.export.samples import balanced_labels, balanced_shares
from tfproj.export.simplify import constants, set_constant
from tfproj.export.upsampling import ending, upsample_by_convolution
from tfproj.inference import session
from tfproj.pretrained import pretrained_file

INT8 = Options(int8=True)


def run_graph(model, pixels):
    opened = session.open_session(model.SerializeToString(), "graph", 1, [session.CPU])
    return opened.run(["scores", "probabilities"], {"image": pixels})


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (4, 32, 48, 3), np.uint8)


@pytest.fixture(scope="module")
def quantizer(toy_models, tmp_path_factory):
    pixels = np.random.default_rng(1).integers(0, 256, (6, 32, 48, 3), np.uint8)
    return Quantizer(onnx.load(toy_models["segment"]), pixels, tmp_path_factory.mktemp("ranges"))


@pytest.fixture
def fast(monkeypatch):
    """Toy models are too small for int8 to pay, and a test must not depend on the machine."""
    monkeypatch.setattr(quantize, "speed_ratio", lambda *args: 2.5)


def test_upsampling_by_convolution_is_exact(toy_models, pixels):
    model = onnx.load(toy_models["segment"])
    rewritten = upsample_by_convolution(model)
    assert "ConvTranspose" not in {node.op_type for node in rewritten.graph.node}
    for expected, actual in zip(
        run_graph(model, pixels), run_graph(rewritten, pixels), strict=True
    ):
        np.testing.assert_allclose(actual, expected, atol=1e-5)


@pytest.mark.parametrize("method", Quantizer.METHODS)
def test_quantised_graph(quantizer, toy_models, pixels, method):
    model = quantizer.build(method, [])
    kinds = {node.op_type for node in model.graph.node}
    assert {node.domain for node in model.graph.node} == {""}
    assert {o.domain for o in model.opset_import} == {""}
    # The image is quantised as it comes, and nothing but the last convolution is in float32.
    assert [n.op_type for n in model.graph.node if n.op_type not in CODINGS[1:]][:3] == [
        "Cast", "Mul", "QuantizeLinear",
    ]  # fmt: skip
    (cast,) = (n for n in model.graph.node if "image" in n.input)
    assert "ConvTranspose" not in kinds and cast.op_type == "Cast"
    types = {i.name: i.data_type for i in model.graph.initializer}
    assert types["dec1_conv2/weight"] == onnx.TensorProto.FLOAT
    weights = [n for n in types if n.endswith("weight_quantized")]
    assert len(weights) == 19  # of 17 layers, three in two parts, without the last
    assert {types[n] for n in weights} == {onnx.TensorProto.INT8}
    # What is only moved is moved in 8 bits.
    made_by = {output: node.op_type for node in model.graph.node for output in node.output}
    sources = {
        made_by.get(name)
        for node in model.graph.node
        if node.op_type in MOVES and node.name not in ending(model.graph)
        for name in (node.input if node.op_type == "Concat" else node.input[:1])
    }  # fmt: skip
    assert sources == {"QuantizeLinear", *MOVES}
    found = run_graph(model, pixels)[1]
    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    rounded = onnxruntime.InferenceSession(model.SerializeToString(), plain)  # float arithmetic
    expected = rounded.run(["probabilities"], {"image": pixels})[0]
    assert np.abs(found - expected).mean() < 0.005
    # How much the rounding itself costs depends on how the toy was trained.
    assert np.abs(found - run_graph(onnx.load(toy_models["segment"]), pixels)[1]).mean() < 0.05


def test_scales_are_per_channel(quantizer):
    model = quantizer.build("MinMax", [])
    scales = {i.name: list(i.dims) for i in model.graph.initializer}
    assert scales["enc1_conv2/weight_scale"] == [24]


def test_excluded_layers_stay_in_float32(quantizer):
    assert {"enc1_conv1", "dec1_up"} < set(quantizer.layers)
    model = quantizer.build("MinMax", ["enc1_conv1", "dec1_up"])
    types = {i.name: i.data_type for i in model.graph.initializer}
    for kept in ("enc1_conv1", "dec1_up/row0", "dec1_up/row1"):
        assert types[f"{kept}/weight"] == onnx.TensorProto.FLOAT
    assert "enc1_conv2/weight" not in types


def test_scores_of_a_transposed_convolution_stay_in_float32(tmp_path):
    """As where the stem halves the image; 256 levels would tie in a ranking."""
    images = np.random.default_rng(0).integers(0, 256, (2, 256, 256, 3), np.uint8)
    model = onnx.load(pretrained_file("facades-best"))
    halves = constants(model.graph)
    for cast in [n for n in model.graph.node if n.op_type == "Cast" and n.input[0] in halves]:
        set_constant(model.graph, cast.output[0], halves[cast.input[0]].astype(np.float32))
        model.graph.node.remove(cast)
    quantizer = Quantizer(model, images, tmp_path)
    assert quantizer.float_layers == ["dec0_up"] and "dec0_up" not in quantizer.layers
    for method in ("MinMax", "Percentile"):
        scores = run_graph(quantizer.build(method, ["dec1_up"]), images)[0]
        assert len(np.unique(scores)) > 10_000


def test_int8_file(toy_segmenter, tmp_path, fast):
    path = tmp_path / "small.onnx"
    result = export_onnx(toy_segmenter, path, INT8)
    facts = result["quantization"]
    assert facts["method"] in Quantizer.METHODS
    assert facts["excluded"][0] == "dec1_conv2"
    assert facts["speed_ratio"] == 2.5
    metric = facts["metrics"]["mean_average_precision_softmax"]
    assert metric["float32"] - metric["int8"] <= 0.005
    assert path.stat().st_size < 0.4 * 4 * result["parameters"]
    predictor = Predictor(path)
    assert predictor.selftest().tolerance == quantize.TOLERANCE
    record = json.loads({p.key: p.value for p in onnx.load(path).metadata_props}["tfproj"])
    assert record["quantization"] == json.loads(json.dumps(facts))
    assert record["verification"]["max_difference"] <= 1e-4


def test_int8_classifier_by_command(toy_classifier, fast, capsys, tmp_path):
    command = ["export", str(toy_classifier.path), "--int8", "--triton", str(tmp_path)]
    assert main(command) == 0
    assert (toy_classifier.path / "model.int8.onnx").is_file()
    assert "int8: 2.50 times as fast as float32" in capsys.readouterr().out
    assert [p.name for p in tmp_path.iterdir()] == [f"{toy_classifier.name}-int8"]


def test_slower_is_no_file(toy_classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(quantize, "speed_ratio", lambda *args: 0.8)
    with pytest.raises(TfprojError, match="not faster .* 0.80 times"):
        export_onnx(toy_classifier, tmp_path / "small.onnx", INT8)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(TfprojError):
        export_onnx(toy_classifier, tmp_path / "small.onnx", Options(int8=True, keep=True))
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx.rejected"]


def test_inaccurate_is_no_file_and_the_worst_layers_were_tried(
    toy_classifier, tmp_path, monkeypatch, fast
):
    monkeypatch.setitem(samples.DECIDING, "classify", ("accuracy", -2.0))
    monkeypatch.setattr(quantize, "EXCLUDE_STEPS", (1, 2))
    with pytest.raises(TfprojError, match="int8 loses .*, allowed -2") as caught:
        export_onnx(toy_classifier, tmp_path / "small.onnx", INT8)
    assert ", " in str(caught.value).split("with ")[1]  # two layers by name
    assert list(tmp_path.iterdir()) == []


def test_excluding_the_worst_layers_can_save_the_file(toy_classifier, tmp_path, monkeypatch, fast):
    """The first try is far off, as if one layer could not be quantised."""
    build = Quantizer.build

    def damaged(self, method, excluded):
        model = build(self, method, excluded)
        for initializer in model.graph.initializer:
            if initializer.name == "conv2/weight_scale":
                scales = onnx.numpy_helper.to_array(initializer) * np.float32(9)
                initializer.CopyFrom(onnx.numpy_helper.from_array(scales, initializer.name))
        return model

    monkeypatch.setattr(Quantizer, "build", damaged)
    facts = export_onnx(toy_classifier, tmp_path / "small.onnx", INT8)["quantization"]
    assert facts["excluded"] == ["dense2", "conv2"]


def test_calibration_images_hold_each_class_equally():
    labels = np.repeat([0, 1, 2], [90, 30, 5])
    chosen = balanced_labels(labels, 15, np.random.default_rng(0))
    assert np.bincount(labels[chosen]).tolist() == [5, 5, 5]
    assert len(set(chosen.tolist())) == 15
    chosen = balanced_labels(labels, 25, np.random.default_rng(0))
    assert np.bincount(labels[chosen]).tolist() == [10, 10, 5]


def test_calibration_images_hold_rare_classes():
    shares = np.array([[1, 0, 0]] * 8 + [[0.9, 0.1, 0]] * 2)
    chosen = balanced_shares(shares, 4)
    assert {8, 9} & set(chosen.tolist())
    assert len(set(chosen.tolist())) == 4
    assert len(balanced_shares(shares, 40)) == 10


def test_speed_ratio_is_above_one_where_the_second_file_is_faster(toy_models, monkeypatch):
    data = toy_models["classify"].read_bytes()
    pixels = np.zeros((4, 8, 8, 1), np.uint8)
    assert quantize.speed_ratio(data, data, pixels) > 0
    times = itertools.cycle([3.0, 1.0])  # of the first file, of the second
    monkeypatch.setattr(quantize, "_seconds", lambda predictor, images: next(times))
    assert quantize.speed_ratio(data, data, pixels) == 3
