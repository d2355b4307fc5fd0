import ast
import json
import logging
import shutil
import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnx.helper import get_node_attr_value
from PIL import Image

from tfproj import Predictor
from tfproj.cli.main import main
from tfproj.core.probabilities import softmax
from tfproj.core.spec import ModelSpec
from tfproj.errors import InputError, TfprojError
from tfproj.experiment.plan import plan_evaluation
from tfproj.export import build, convert, golden, job, metadata, samples
from tfproj.export.job import Options, Rejected
from tfproj.export.onnx_file import export_onnx
from tfproj.export.opset import choose_opset
from tfproj.export.runtimes import FORMATS
from tfproj.export.simplify import UNWANTED, nodes_beside_scores
from tfproj.export.simplify import _free_size as free_size
from tfproj.export.temperature import (
    measure_temperature,
    negative_log_likelihood,
    unknown_threshold,
)
from tfproj.models.checkpoint import load_model
from tfproj.runs.run import Run

TASKS = ("classify", "segment")


def properties(path):
    return {p.key: p.value for p in onnx.load(path).metadata_props}


def metadata_of(path):
    return json.loads(properties(path)["tfproj"])


@pytest.fixture
def runs(toy_classifier, toy_segmenter):
    return {"classify": toy_classifier, "segment": toy_segmenter}


# The graph


def test_graph_of_the_classifier(toy_models):
    graph = onnx.load(toy_models["classify"]).graph
    beside = set(nodes_beside_scores(graph)) - {"probabilities"}
    assert {"AveragePool", "Concat", "Gemm"} <= {n.op_type for n in graph.node if n.name in beside}
    assert [node.op_type for node in graph.node if node.name not in beside] == [
        "Cast", "Mul", "Reshape", "Conv", "Relu", "MaxPool", "Conv", "Relu", "MaxPool", "Reshape",
        "Gemm", "Relu", "Gemm", "Softmax",
    ]  # fmt: skip
    names = {node.name for node in graph.node}
    assert {"conv1", "pool1", "dense1", "dense2", "probabilities"} <= names
    assert {"conv1/weight", "conv1/bias", "dense2/bias"} <= {i.name for i in graph.initializer}


def test_graph_of_the_segmenter(toy_models):
    nodes = onnx.load(toy_models["segment"]).graph.node
    kinds = Counter(node.op_type for node in nodes)
    assert kinds == {
        "Conv": 14, "Relu": 13, "MaxPool": 3, "ConvTranspose": 3, "Add": 3, "Transpose": 2,
        "Cast": 1, "Mul": 1, "LogSoftmax": 1, "Softmax": 1,
    }  # fmt: skip
    assert [node.op_type for node in nodes[-3:]] == ["Transpose", "LogSoftmax", "Softmax"]
    assert all(get_node_attr_value(node, "axis") == -1 for node in nodes[-2:])  # contiguous


@pytest.mark.parametrize("task", TASKS)
def test_nothing_useless_and_only_standard_operators(toy_models, task):
    model = onnx.load(toy_models[task])
    assert not {node.op_type for node in model.graph.node} & set(UNWANTED)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    assert model.ir_version == 8
    assert not model.functions
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)


@pytest.mark.parametrize(("task", "answer"), [("classify", [10]), ("segment", [32, 48, 5])])
def test_batch_is_free_and_size_is_fixed(toy_models, task, answer):
    graph = onnx.load(toy_models[task]).graph
    dims = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.input, *graph.output)
    }
    size = {"classify": [8, 8, 1], "segment": [32, 48, 3]}[task]
    assert dims == {
        "image": ["N", *size], "scores": ["N", *answer], "probabilities": ["N", *answer],
        **({"unknown_score": ["N"]} if task == "classify" else {}),
    }  # fmt: skip


def test_folding_batch_norm_changes_nothing(toy_segmenter):
    planned = plan_evaluation(toy_segmenter)
    trained = load_model(toy_segmenter)
    folded = convert.fold_norms(trained, planned.spec, planned.config.model_options)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)
    expected, actual = (build.answers_of(m)(pixels)["scores"] for m in (trained, folded))
    assert len(folded.layers) < len(trained.layers)
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_half_keeps_the_weights_in_16_bits(toy_segmenter, toy_models, tmp_path, capsys):
    output = tmp_path / "half.onnx"
    assert main(["export", str(toy_segmenter.path), "--half", "--output", str(output)]) == 0
    whole, half = onnx.load(toy_models["segment"]), onnx.load(output)
    kinds = {i.data_type for i in half.graph.initializer if len(i.dims) > 1}
    assert kinds == {onnx.TensorProto.FLOAT16}
    sizes = [sum(len(i.raw_data) for i in m.graph.initializer) for m in (whole, half)]
    assert sizes[1] < 0.55 * sizes[0]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)
    answers = [Predictor(path).run(pixels)[1] for path in (toy_models["segment"], output)]
    assert answers[0].dtype == answers[1].dtype == np.float32
    difference = np.abs(answers[0] - answers[1]).max()
    assert 0 < difference < 0.02
    # What rounding costs is measured against the trained weights.
    facts = metadata_of(output)["half"]
    assert difference / 4 < facts["max_difference"] < 0.02
    assert facts["agreement"] > 0.99
    assert set(facts["metrics"]["mean_average_precision_softmax"]) == {"float32", "half"}
    assert f"by at most {facts['max_difference']:.1e}" in capsys.readouterr().out


def test_half_that_costs_too_much_is_no_file(toy_classifier, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(samples.DECIDING, "classify", ("accuracy", -0.01))
    output = tmp_path / "half.onnx"
    assert main(["export", str(toy_classifier.path), "--half", "--output", str(output)]) == 1
    assert "weights of 16 bits cost" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("value", "flags", "words"),
    [(np.nan, [], "holds weights that are not numbers"), (1e5, ["--half"], "leave out --half")],
)
def test_weights_beyond_what_a_file_can_hold(toy_classifier, tmp_path, value, flags, words, capsys):
    run = Run(tmp_path / "run")
    shutil.copytree(toy_classifier.path, run.path)
    model = load_model(run)
    weights = model.get_weights()
    weights[-2][0, 0] = value
    model.set_weights(weights)
    model.save(run.best_weights)
    output = tmp_path / "model.onnx"
    assert main(["export", str(run.path), "--output", str(output), *flags]) == 1
    error = capsys.readouterr().err
    assert words in error and "unexpected" not in error and "Warning" not in error
    assert not output.exists()


def test_half_and_int8_exclude_each_other(toy_segmenter, capsys):
    assert main(["export", str(toy_segmenter.path), "--half", "--int8"]) == 2
    assert "exclude each other" in capsys.readouterr().err


# The record


@pytest.mark.parametrize("task", TASKS)
def test_record_says_all(toy_models, runs, task):
    record = metadata_of(toy_models[task])
    spec = runs[task].spec()
    assert record["schema"] == 1
    assert (record["task"], tuple(record["classes"])) == (task, spec.classes)
    assert record["input"]["shape"] == ["N", *spec.size, spec.channels]
    assert record["input"]["multiple"] == {"classify": 1, "segment": 8}[task]
    assert record["preprocessing"]["resize"]["antialias"] is True
    assert record["training"]["license"]
    assert record["versions"].keys() >= {"tfproj", "keras", "tensorflow", "onnx"}
    check = record["verification"]
    assert check["max_difference"] <= check["tolerance"] == 1e-4
    assert check["agreement"] == 1
    assert check["batch_sizes"] == [1, 7]
    for values in check["metrics"].values():
        assert values["onnx"] == pytest.approx(values["keras"], abs=1e-4)


@pytest.mark.parametrize("task", TASKS)
def test_readers_of_ultralytics_understand_the_file(toy_models, runs, task):
    found = properties(toy_models[task])
    spec = runs[task].spec()
    assert found["task"] == task
    for parse in (json.loads, ast.literal_eval):  # any language, and what Ultralytics does
        assert {int(k): v for k, v in parse(found["names"]).items()} == dict(
            enumerate(spec.classes)
        )
        assert parse(found["imgsz"]) == list(spec.size)
        assert parse(found["stride"]) == {"classify": 1, "segment": 8}[task]
    assert (int(found["batch"]), int(found["channels"])) == (1, spec.channels)


@pytest.mark.parametrize("task", TASKS)
def test_golden_vectors_are_reproduced(toy_models, task):
    result = Predictor(toy_models[task]).selftest()
    assert result.vectors == 5
    assert result.max_difference <= result.tolerance == golden.GOLDEN_TOLERANCE


def test_golden_vectors_cover_every_step_and_stay_small(toy_segmenter):
    spec = toy_segmenter.spec()
    large = ModelSpec(**{**vars(spec), "height": 256, "width": 256})
    answers = np.full((5, 256, 256, 5), 0.2, np.float32)
    carried = golden.golden_vectors(large, lambda pixels: answers, 1e-4)
    assert all(len(json.dumps(vector)) < 30_000 for vector in carried["vectors"])
    vector = carried["vectors"][0]
    assert vector["shape"] == list(answers[0, :: vector["stride"], :: vector["stride"]].shape)
    sizes = {name: _opened(png) for name, png in golden.golden_images(large).items()}
    assert sizes["blocks"][:2] == (256, 256)
    assert sizes["shrunk"][0] > 256 > sizes["enlarged, transparent"][0]
    assert sizes["enlarged, transparent"][2] == "RGBA"
    assert sizes["16 bits"][2].startswith("I")


def _opened(png):
    import io

    picture = Image.open(io.BytesIO(png))
    return (*picture.size, picture.mode)


def test_class_names_of_any_language(toy_models):
    proto = onnx.load(toy_models["classify"])
    record = metadata_of(toy_models["classify"])
    # The last is Persian, with the joiner that Persian needs.
    record["classes"][:4] = ["café", '"quoted" \\ name', "\U0001f455", "\u0645\u06cc\u200c"]
    data = metadata.attach(proto, record)
    assert Predictor(data).spec.classes[:4] == tuple(record["classes"][:4])
    names = {p.key: p.value for p in onnx.load_from_string(data).metadata_props}["names"]
    assert list(ast.literal_eval(names).values()) == record["classes"]


def test_examples_that_are_all_right_tell_no_temperature():
    scores = np.random.default_rng(0).normal(size=(50, 3))
    fit = measure_temperature(scores, scores.argmax(axis=1))
    assert fit.temperature == 1 and fit.nll_after == fit.nll_before


def test_temperature_makes_overconfident_scores_honest():
    rng = np.random.default_rng(0)
    honest = rng.normal(size=(4000, 3)) * 2
    shares = np.exp(honest) / np.exp(honest).sum(1, keepdims=True)
    labels = (shares.cumsum(1) > rng.random((4000, 1))).argmax(1)
    fit = measure_temperature(honest * 3, labels)
    assert fit.temperature == pytest.approx(3, rel=0.1)
    assert fit.nll_after < fit.nll_before
    assert fit.nll_after == pytest.approx(
        negative_log_likelihood(honest * 3, labels, fit.temperature)
    )


def test_classifier_carries_its_temperature(toy_models):
    fit = metadata_of(toy_models["classify"])["calibration"]
    assert fit["temperature"] > 0
    assert fit["nll_after"] <= fit["nll_before"]
    assert 0 < fit["unknown_threshold"] < 1
    assert "calibration" not in metadata_of(toy_models["segment"])
    predictor = Predictor(toy_models["classify"], unknown_below="auto")
    assert predictor.unknown_above == fit["unknown_score_threshold"]


def test_the_unknown_threshold_lets_pass_what_the_model_gets_right():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 2000)
    scores = rng.normal(size=(2000, 3)) + 3 * np.eye(3)[labels]
    threshold = unknown_threshold(scores, labels, 1.5)
    probabilities = softmax(scores / 1.5)
    right = probabilities.argmax(1) == labels
    assert (probabilities.max(1)[right] >= threshold).mean() == pytest.approx(0.95, abs=0.001)
    assert (probabilities.max(1)[~right] >= threshold).mean() < 0.95
    assert unknown_threshold(-scores[right], labels[right], 1.0) is None


# Options


def test_any_size_that_is_a_multiple(toy_segmenter, tmp_path):
    result = export_onnx(toy_segmenter, tmp_path / "free.onnx", Options(dynamic_size=True))
    assert result["verification"]["sizes"] == ((32, 48), (16, 24), (24, 64))
    predictor = Predictor(tmp_path / "free.onnx")
    assert predictor.spec.dynamic_size
    for height, width in ((8, 8), (40, 16)):
        scores, probabilities = predictor.run(np.zeros((2, height, width, 3), np.uint8))
        assert scores.shape == probabilities.shape == (2, height, width, 5)


def test_the_network_of_best_at_any_size(tmp_path):
    from tfproj.experiment.presets import PRESETS, make_config
    from tfproj.training.train import train

    options = {**PRESETS["segment"]["best"]["model_options"], "widths": [16, 16, 16]}
    size = {"limit": 8, "image_size": (32, 48), "batch_size": 4, "epochs": 1}
    config = make_config("segment", "best", data="synthetic_facades", model_options=options, **size)
    run = train(config, tmp_path)
    result = export_onnx(run, tmp_path / "free.onnx", Options(dynamic_size=True))
    assert len(result["verification"]["sizes"]) == 3
    # The lines of an image are means over what it has, whatever its size.
    assert Counter(n.op_type for n in onnx.load(tmp_path / "free.onnx").graph.node)["ReduceMean"]
    scores, _ = Predictor(tmp_path / "free.onnx").run(np.zeros((1, 64, 40, 3), np.uint8))
    assert scores.shape == (1, 64, 40, 5)


def test_a_graph_that_knows_the_size_of_its_image_is_not_freed():
    shapes = {"image": ["N", 8, 8, 1], "scores": ["N", 1, 1, 4]}
    values = {
        name: onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    }
    reshapes = [
        onnx.helper.make_node("Reshape", ["image", "chw"], ["x"]),
        onnx.helper.make_node("Reshape", ["x", "other"], ["scores"]),
    ]
    targets = {"chw": [-1, 1, 8, 8], "other": [-1, 1, 1, 4]}
    constants = [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in targets.items()]
    graph = onnx.helper.make_graph(reshapes, "g", [values["image"]], [values["scores"]], constants)
    with pytest.raises(TfprojError, match="larger --image-size"):
        free_size(graph)


def test_classifiers_have_one_size(toy_classifier, tmp_path):
    with pytest.raises(InputError, match="one size"):
        export_onnx(toy_classifier, tmp_path / "free.onnx", Options(dynamic_size=True))


@pytest.mark.parametrize(
    ("opset", "target", "expected"),
    [
        (None, None, 17),
        (15, None, 15),
        (None, "1.20.1", 17),
        (None, "1.13", 17),
        (None, "1.10", 15),
        (None, "9.9", 17),
        (16, "1.12", 16),
    ],
)
def test_target_caps_the_file(opset, target, expected):
    assert choose_opset(opset, target) == expected


@pytest.mark.parametrize(
    ("opset", "target"), [(18, "1.12"), (19, None), (None, "1.5"), (None, "new"), (None, "1")]
)
def test_impossible_targets_are_refused(opset, target):
    with pytest.raises(InputError):
        choose_opset(opset, target)


def test_file_for_an_old_runtime(toy_classifier, tmp_path):
    export_onnx(toy_classifier, tmp_path / "old.onnx", Options(target_ort="1.12"))
    model = onnx.load(tmp_path / "old.onnx")
    assert ([(o.domain, o.version) for o in model.opset_import], model.ir_version) == (
        [("", 17)],
        8,
    )
    graph = metadata_of(tmp_path / "old.onnx")["graph"]
    assert graph.pop("converter").startswith("tf2onnx 1.")
    assert graph == {"opset": 17, "ir_version": 8}


@pytest.mark.parametrize("output", ["model.pb", "nowhere/model.onnx", "folder.onnx"])
def test_output_must_be_a_place_for_onnx(tmp_path, output):
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(InputError):
        job.check_output(tmp_path / output)


@pytest.mark.parametrize(
    ("output", "other"),
    [("a.xml", "a.bin"), ("a.tflite", "a.labels.txt"), ("a.tflite", "a.tflite.json")],
)
def test_what_lies_beside_is_replaced_only_with_its_file(output, other, tmp_path):
    format = next(name for name, (ending, *_) in FORMATS.items() if output.endswith(ending))
    (tmp_path / other).write_text("mine")
    with pytest.raises(InputError, match=f"{other}: exists, and belongs to no {output}"):
        job.check_output(tmp_path / output, format)
    (tmp_path / output).touch()
    assert job.check_output(tmp_path / output, format) == tmp_path / output


def test_options_are_checked_before_tensorflow_is_loaded():
    code = "import sys, tfproj.cli.export; print({'tensorflow', 'keras', 'onnx'} & {*sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "set()"


# The gate


@pytest.fixture
def wrong_conversion(monkeypatch):
    """What is converted is not the trained model."""
    fold = convert.fold_norms

    def wrong(*args):
        folded = fold(*args)
        folded.set_weights([w * 0.9 for w in folded.get_weights()])
        return folded

    monkeypatch.setattr(convert, "fold_norms", wrong)


def test_wrong_answers_leave_no_file(toy_classifier, tmp_path, wrong_conversion, capsys):
    output = tmp_path / "model.onnx"
    assert main(["export", str(toy_classifier.path), "--output", str(output)]) == 1
    assert "differs from Keras by up to" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_rejected_file_is_kept_on_demand(toy_classifier, tmp_path, wrong_conversion):
    output = tmp_path / "model.onnx"
    output.write_bytes(b"the last good one")
    assert (
        main(["export", str(toy_classifier.path), "--output", str(output), "--keep-rejected"]) == 1
    )
    assert output.read_bytes() == b"the last good one"
    check = metadata_of(tmp_path / "model.onnx.rejected")["verification"]
    assert check["max_difference"] > check["tolerance"]


def test_a_file_that_cannot_run_is_kept_on_demand(toy_classifier, tmp_path, monkeypatch):
    def fails(*args):
        raise TfprojError("the predictor cannot run the exported file: why")

    monkeypatch.setattr(build, "verify", fails)
    with pytest.raises(Rejected, match="why; no file was written"):
        export_onnx(toy_classifier, tmp_path / "model.onnx", Options(keep=True))
    kept = metadata_of(tmp_path / "model.onnx.rejected")
    assert kept["verification"] == {"error": "the predictor cannot run the exported file: why"}


def test_converter_warnings_are_failures(toy_classifier, tmp_path, monkeypatch):
    import tf2onnx

    original = tf2onnx.convert.from_function

    def warns(*args, **kwargs):
        logging.getLogger("tf2onnx.optimizer").warning("Failed to apply pass")
        return original(*args, **kwargs)

    monkeypatch.setattr(tf2onnx.convert, "from_function", warns)
    with pytest.raises(TfprojError, match="Failed to apply pass"):
        export_onnx(toy_classifier, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_command_prints_what_was_measured(toy_classifier, tmp_path, capsys):
    output = tmp_path / "model.onnx"
    assert main(["export", str(toy_classifier.path), "--output", str(output), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["bytes"] == output.stat().st_size
    assert result["verification"]["images"] > 50
    assert result["calibration"]["temperature"] > 0
    assert main(["export", str(toy_classifier.path), "--output", str(output)]) == 0
    assert "same class for 100.00%" in capsys.readouterr().out
