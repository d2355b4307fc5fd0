"""What follows a training, with an encoder: narrow, of drawn weights, as real as any other."""

from collections import Counter

import numpy as np
import onnx
import pytest
from conftest import draw
from onnx.helper import get_node_attr_value
from PIL import Image

from tfproj import Predictor, backend

backend.setup()

import keras  # noqa: E402

from tfproj.cli.main import main  # noqa: E402
from tfproj.core.spec import ModelSpec  # noqa: E402
from tfproj.experiment.initial_weights import Source, find_source  # noqa: E402
from tfproj.export.convert import free_size, simple_graph  # noqa: E402
from tfproj.export.job import Options  # noqa: E402
from tfproj.export.onnx_file import export_onnx  # noqa: E402
from tfproj.export.quantizer import Quantizer  # noqa: E402
from tfproj.models.checkpoint import load_model  # noqa: E402
from tfproj.models.folding import fold_norms, unfold_norms  # noqa: E402
from tfproj.models.onnx_weights import read_weights  # noqa: E402
from tfproj.models.registry import build_model  # noqa: E402
from tfproj.models.summary import format_summary, summarize  # noqa: E402
from tfproj.training.transfer import initialise  # noqa: E402

# Up to stride 8: both kernel sizes, both strides, an addition.
OPTIONS = {"width": 0.25, "batch_norm": True, "widths": [8, 8], "frozen": 4, "frozen_norms": True}
SPEC = ModelSpec("segment", "encoder_unet", ("a", "b", "c"), (), 32, 48, 3)


def images(count=4, size=(32, 48)):
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)


def shaken(model, pixels):
    """A model with statistics of these images, and no weight that is still of the beginning."""
    rng = np.random.default_rng(0)
    for weight in model.trainable_weights:
        weight.assign(weight + rng.normal(0, 0.1, weight.shape))
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    frozen = [norm for norm in norms if not norm.trainable]
    for norm in norms:
        norm.trainable, norm.momentum = True, 0.0
    model(pixels, training=True)
    for norm in frozen:
        norm.trainable = False
    return model


@pytest.fixture(scope="module")
def network():
    return shaken(build_model(SPEC, OPTIONS), images())


@pytest.fixture(scope="module")
def graph(network):
    proto, _ = simple_graph(network, SPEC, OPTIONS, 18)
    proto.ir_version = 8
    return proto


def answers(proto, pixels):
    from tfproj.inference import session

    opened = session.open_session(proto.SerializeToString(), "graph", 1, [session.CPU])
    return opened.run(["scores", "probabilities"], {"image": pixels})


def close(found, expected):
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4 * scale)


def test_folded_and_unfolded_it_is_the_same_function(network):
    expected = np.asarray(network(images(), training=False))
    folded = fold_norms(network, SPEC, OPTIONS)
    assert not [x.name for x in folded.layers if x.name.endswith("_bn")]
    close(np.asarray(folded(images(), training=False)), expected)
    again = build_model(SPEC, OPTIONS)
    unfold_norms(folded, again, images())
    close(np.asarray(again(images(), training=False)), expected)
    assert {x.trainable for x in again.layers if x.name.startswith("encoder_block3")} == {False}


def test_nodes_are_called_after_layers_and_relu6_is_a_clip(network, graph):
    nodes = {node.name: node for node in graph.graph.node}
    plain = fold_norms(network, SPEC, OPTIONS)
    assert {x.name for x in plain.layers if x.weights} <= nodes.keys()
    for name, group in (("encoder_block3_depthwise", 48), ("encoder_block4_depthwise", 48)):
        assert nodes[name].op_type == "Conv"
        assert get_node_attr_value(nodes[name], "group") == group
    assert nodes["encoder_block4_depthwise_relu/Clip"].op_type == "Clip"
    kinds = Counter(node.op_type for node in graph.graph.node)
    assert kinds["Clip"] == 10 and "BatchNormalization" not in kinds
    assert {"encoder_stem_relu/Clip/min", "encoder_stem_relu/Clip/max"} < {
        i.name for i in graph.graph.initializer
    }
    close(answers(graph, images())[0], np.asarray(network(images(), training=False)))


def test_the_oldest_opset(network):
    proto, _ = simple_graph(network, SPEC, OPTIONS, 15)
    proto.ir_version = 8
    close(answers(proto, images())[0], np.asarray(network(images(), training=False)))


def test_weights_come_back_from_the_graph(network, graph, tmp_path):
    onnx.save(graph, tmp_path / "a.onnx")
    found = read_weights(tmp_path / "a.onnx")
    plain = fold_norms(network, SPEC, OPTIONS)
    for layer in (layer for layer in plain.layers if layer.weights):
        for one, other in zip(found[layer.name], layer.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)


def test_a_bias_of_zeros_that_a_graph_leaves_out_comes_back(tmp_path):
    """As of drawn weights: their norms' statistics and shifts are those of the beginning."""
    model, target = build_model(SPEC, OPTIONS), build_model(SPEC, OPTIONS)
    proto, _ = simple_graph(model, SPEC, OPTIONS, 18)
    onnx.save(proto, tmp_path / "a.onnx")
    assert len(read_weights(tmp_path / "a.onnx")["encoder_stem"]) == 1
    source = Source("a", SPEC, OPTIONS, tmp_path / "a.onnx")
    initialise(target, SPEC, OPTIONS, source, images())
    close(np.asarray(target(images(), training=False)), np.asarray(model(images(), training=False)))


def test_a_free_size_pads_as_keras_does(network):
    """Where stride 2 meets "same" padding, the pads depend on whether a side is even."""
    spec = ModelSpec(**{**vars(SPEC), "dynamic_size": True})
    proto, _ = simple_graph(network, spec, OPTIONS, 18)
    proto.ir_version = 8
    free = free_size(network, spec)
    for size in (32, 48), (40, 64), (72, 8):
        pixels = images(2, size)
        close(answers(proto, pixels)[0], np.asarray(free(pixels, training=False)))


@pytest.mark.parametrize("method", Quantizer.METHODS)
def test_in_8_bits(graph, method, tmp_path):
    quantizer = Quantizer(graph, images(8), tmp_path)
    model = quantizer.build(method, [])
    kinds = [node.op_type for node in model.graph.node if node.op_type != "DequantizeLinear"]
    # (pixel - 127) / 128 gives the image's own bytes again, and a ReLU6 is saturation.
    assert kinds[:5] == ["Cast", "Mul", "Add", "QuantizeLinear", "Transpose"]
    assert "Clip" not in kinds and "Relu" not in kinds
    values = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    first = next(n for n in model.graph.node if n.op_type == "QuantizeLinear")
    assert (values[first.input[1]], values[first.input[2]]) == (1 / 128, 127)
    for block in (1, 2, 3, 4, 5):
        kernel = values[f"encoder_block{block}_depthwise/weight_quantized"]
        assert kernel.dtype == np.int8
        assert values[f"encoder_block{block}_depthwise/weight_scale"].shape == kernel.shape[:1]
    difference = np.abs(answers(model, images())[1] - answers(graph, images())[1])
    assert difference.mean() < 0.02


def test_other_readers_give_the_same_answers(graph, tmp_path):
    import cv2

    onnx.save(graph, tmp_path / "a.onnx")
    pixels = images(1)
    expected = answers(graph, pixels)[1]
    net = cv2.dnn.readNetFromONNX(str(tmp_path / "a.onnx"))
    net.setInput(pixels, "image")
    np.testing.assert_allclose(net.forward("probabilities"), expected, atol=1e-4)
    openvino = pytest.importorskip("openvino", reason="the package openvino is not installed")
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(str(tmp_path / "a.onnx"), "CPU", exact)
    np.testing.assert_allclose(compiled({"image": pixels})["probabilities"], expected, atol=1e-4)


def test_rows_of_the_table_add_up_and_names_fit(network):
    summary = summarize(network)
    assert summary.parameters == sum(row.parameters for row in summary.rows)
    assert [r.kind for r in summary.rows if r.layer == "encoder_block1_depthwise"] == [
        "DepthwiseConv2d-3"
    ]
    lines = format_summary(summary).splitlines()[: len(summary.rows) + 1]
    assert len({len(line) for line in lines}) == 1 and all("  " in line for line in lines)


def test_the_table_by_command(capsys):
    assert main(["models", "encoder_unet", "--image-size", "64"]) == 0
    said = capsys.readouterr()
    assert "encoder_block11_project_bn" in said.out and "(photo)" in said.err
    assert main(["models"]) == 0
    assert "\nencoder_unet  segment" in capsys.readouterr().out


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A classifier that knows dark from light by features that it was not trained for."""
    from tfproj.experiment.presets import make_config
    from tfproj.training.train import train

    folder = tmp_path_factory.mktemp("encoder")
    for seed in range(40):
        place = folder / "data" / ("train" if seed < 24 else "val") / ("dark", "light")[seed % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(seed, (64, 64), 3 * (seed % 2))).save(place / f"{seed}.png")
    options = {"encoder": "lite0", "width": 0.25, "batch_norm": True}
    options |= {"frozen": 4, "frozen_norms": True}
    config = make_config(
        "classify", "photo", data=str(folder / "data"), image_size=(64, 64), batch_size=8,
        epochs=1, probe=True, encoder_weights="drawn", model_options=options,
    )  # fmt: skip
    made = train(config, folder / "runs", "toy")
    pixels = np.stack([draw(seed, (64, 64), 3 * (seed % 2)) for seed in range(8)])
    model = shaken(load_model(made), pixels)
    before = keras.Model(model.input, model.get_layer("dense").input)
    dark, light = np.asarray(before(pixels)).reshape(4, 2, -1).mean(axis=0)
    slope = 4 * (light - dark) / ((light - dark) ** 2).sum()
    middle = slope @ (light + dark) / 2
    model.get_layer("dense").set_weights([np.stack([0 * slope, slope], 1), np.array([0, -middle])])
    model.save(made.best_weights)
    return made


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "a.onnx"
    export_onnx(run, path)
    return path


def test_a_verified_file_says_what_its_graph_does(run, exported):
    predictor = Predictor(exported)
    assert predictor.selftest().max_difference <= 1e-4
    assert predictor.metadata["verification"]["max_difference"] <= 1e-4
    scaling, softmax = predictor.metadata["preprocessing"]["in_graph"]
    assert (scaling, softmax) == ("(pixel - 127) / 128", "softmax over classes")
    graph = onnx.load(exported).graph
    values = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    assert values["rescale/Mul/factor"] == 1 / 128 and values["rescale/addend"] == -127 / 128
    pixels = images(3, (64, 64))
    expected = np.asarray(load_model(run)(pixels, training=False))
    assert np.ptp(expected) > 0
    close(predictor.run(pixels)[0], expected)


@pytest.mark.parametrize("options", [Options(half=True), Options(int8=True)])
def test_a_smaller_file_is_nearly_as_good(run, exported, options, tmp_path, monkeypatch):
    # A toy is too small for int8 to pay, and a test must not depend on the machine.
    monkeypatch.setattr("tfproj.export.quantize.speed_ratio", lambda *args: 2.5)
    export_onnx(run, tmp_path / "small.onnx", options)
    small = Predictor(tmp_path / "small.onnx")
    pixels = np.stack([draw(seed, (64, 64), 3 * (seed % 2)) for seed in range(40, 48)])
    assert small.selftest().vectors > 0
    difference = np.abs(small.run(pixels)[1] - Predictor(exported).run(pixels)[1]).mean()
    # Sixteen blocks of random kernels add up what each rounds; trained ones do less.
    assert 0 < difference < 0.15


@pytest.mark.parametrize("from_file", [False, True])
def test_a_training_starts_from_the_run_and_from_its_file(run, exported, from_file):
    source = find_source(str(exported if from_file else run.path), "classify")
    assert source.options == run.config().model_options  # frozen, and with norms
    model = build_model(source.spec, source.options)
    pixels = images(8, (64, 64))
    assert initialise(model, source.spec, source.options, source, pixels) == []
    expected = np.asarray(load_model(run)(pixels, training=False))
    close(np.asarray(model(pixels, training=False)), expected)


def test_the_report_shows_the_stem(run):
    from tfproj.evaluation.evaluate import evaluate

    evaluate(run, ["val"])
    with np.load(run.report_data / "filters.npz") as arrays:
        assert arrays["kernel1"].shape == (3, 3, 3, 8)
        assert arrays["maps1"].shape == (8, 32, 32)
    assert main(["report", str(run.path)]) == 0
    page = next(run.path.glob("*.html")).read_text()
    assert "encoder_block16_depthwise" in page and "DepthwiseConv2d" in page
