"""Training from existing weights: the same function at the start, a new head where needed."""

import dataclasses

import numpy as np
import onnx
import pytest

from tfproj import backend

backend.setup()

from tfproj.cli.main import main  # noqa: E402
from tfproj.errors import InputError  # noqa: E402
from tfproj.experiment.initial_weights import find_source  # noqa: E402
from tfproj.experiment.plan import plan  # noqa: E402
from tfproj.experiment.presets import make_config  # noqa: E402
from tfproj.models.checkpoint import load_model  # noqa: E402
from tfproj.models.registry import build_model  # noqa: E402
from tfproj.pretrained import names, pretrained_file  # noqa: E402
from tfproj.training import transfer  # noqa: E402


def images(spec, count=2):
    shape = (count, *spec.size, spec.channels)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def build(name, task, **changes):
    """(new model, its spec, its options) that --init would start from ``name``."""
    source = find_source(name, task)
    spec = dataclasses.replace(source.spec, **changes)
    return build_model(spec, source.options), spec, source.options


def started(name, task, **changes):
    """(model with the weights of ``name``, its spec, layers that kept their random weights)."""
    model, spec, options = build(name, task, **changes)
    fresh = transfer.initialise(model, spec, options, find_source(name, task), images(spec, 16))
    return model, spec, fresh


@pytest.mark.parametrize("exported", [False, True])
@pytest.mark.parametrize("kind", ["toy_classifier", "toy_segmenter"])
def test_the_same_classes_give_the_same_function(request, toy_models, kind, exported):
    run = request.getfixturevalue(kind)
    task = run.spec().task
    model, spec, fresh = started(str(toy_models[task] if exported else run.path), task)
    assert fresh == []
    expected, actual = (m.predict_on_batch(images(spec)) for m in (load_model(run), model))
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_other_classes_get_a_new_last_layer(toy_segmenter):
    name = str(toy_segmenter.path)
    model, _, fresh = started(name, "segment", classes=("sky", "ground"), colors=())
    assert fresh == ["dec1_conv2"]
    assert model.get_layer("dec1_conv2").get_weights()[0].shape[-1] == 2
    assert np.ptp(model.get_layer("dec1_conv2").get_weights()[0]) > 0
    reference, _, _ = started(name, "segment")
    for layer in ("enc1_conv1", "dec1_up"):
        pair = (m.get_layer(layer).get_weights()[0] for m in (model, reference))
        np.testing.assert_array_equal(*pair)


def test_a_grey_image_means_the_same_to_a_model_of_colours(toy_segmenter):
    name = str(toy_segmenter.path)
    grey, grey_spec, _ = started(name, "segment", channels=1)
    colour, _, _ = started(name, "segment")
    pixels = images(grey_spec)
    expected = colour.predict_on_batch(np.repeat(pixels, 3, axis=-1))
    np.testing.assert_allclose(grey.predict_on_batch(pixels), expected, rtol=1e-3, atol=1e-3)


def test_batch_norm_comes_back_and_changes_nothing_until_it_is_trained():
    from tfproj.inference.predictor import Predictor

    file = pretrained_file("fashion_mnist-tiny")
    spec = Predictor(file).spec
    assert find_source("fashion_mnist-tiny", "classify").options["batch_norm"]
    pixels = images(spec, 64)
    model, spec, options = build("fashion_mnist-tiny", "classify")
    transfer.initialise(model, spec, options, find_source("fashion_mnist-tiny", "classify"), pixels)
    expected = Predictor(file).run(pixels)[0]
    scale = 1e-3 * np.abs(expected).max()
    for training in (False, True):  # by the stored statistics, and by those of this very batch
        actual = np.asarray(model(pixels, training=training))
        np.testing.assert_allclose(actual, expected, rtol=2e-3, atol=2 * scale)


def test_a_run_starts_from_another_and_says_so(toy_classifier, tmp_path, capsys):
    command = [
        "train", "classify", "--data", "digits", "--limit", "100", "--epochs", "1",
        "--init", str(toy_classifier.path), "--runs-dir", str(tmp_path), "--name", "tuned",
    ]  # fmt: skip
    assert main(command) == 0
    err = capsys.readouterr().err
    assert "starting from" in err
    assert "same classes" in err
    from tfproj.runs.run import Run

    run = Run(tmp_path / "classify" / "tuned")
    assert run.config().preset == "finetune"
    assert run.config().model_options == toy_classifier.config().model_options
    assert len(run.environment()["init"]["sha256"]) == 64
    # One epoch at a small rate from weights that know the digits: far above a tenth.
    assert run.history()[0]["val_accuracy"] > 0.3


def test_a_run_to_start_from_is_looked_for_in_the_given_folder(toy_classifier):
    from tfproj.cli.train import build_config

    run, root = toy_classifier.path, toy_classifier.path.parent.parent
    config = build_config("classify", None, None, {"init": run.name}, str(root))
    assert config.init == str(run)
    with pytest.raises(InputError, match="unknown model or run .*did you mean 'facades-best'"):
        build_config("segment", None, None, {"init": "facade-best"}, str(root))


def test_a_name_that_means_two_things(tmp_path, capsys):
    from tfproj.cli.train import build_config
    from tfproj.core.files import write_json
    from tfproj.runs.run import create_run

    for task, name in (("segment", "facades"), ("segment", "mine"), ("classify", "mine")):
        run = create_run(tmp_path, task, name, "x", overwrite=False)
        write_json(run.config_file, make_config(task).to_dict())
    with pytest.raises(InputError, match="a pretrained model and a run; for the run say "):
        build_config("segment", None, None, {"init": "facades"}, str(tmp_path))
    with pytest.raises(InputError, match="segment/mine: best.keras is missing"):
        plan(build_config("segment", None, None, {"init": "mine"}, str(tmp_path)))
    assert main(["train", "classify", "--resume", str(tmp_path / "segment" / "mine")]) == 2
    assert "this run is for segment, not classify" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("task", "init", "message"),
    [
        ("classify", "facades", "a model for segment, not classify"),
        ("segment", "facadse", "facadse"),
        ("classify", "fashion_mnist-int8", "int8 weights can't be trained"),
        ("classify", "nothing.onnx", "nothing.onnx: no such file"),
    ],
)
def test_what_can_not_be_started_from(task, init, message):
    with pytest.raises(InputError, match=message):
        plan(make_config(task, init=init))


def test_a_model_that_does_not_fit(toy_classifier):
    name = str(toy_classifier.path)
    _, spec, _ = build(name, "classify")
    options = {"filters": 4, "dense": 16}
    with pytest.raises(InputError, match="does not fit"):
        transfer.initialise(
            build_model(spec, options), spec, options, find_source(name, "classify"), images(spec)
        )


@pytest.mark.parametrize("input_name", ["", "none", "input"])
def test_a_graph_without_its_weights(tmp_path, input_name):
    """As an edited file may be: its metadata are right, its nodes are not."""
    graph, path = onnx.load(pretrained_file("fashion_mnist-tiny")), tmp_path / "a.onnx"
    node = next(node for node in graph.graph.node if node.op_type == "Conv")
    node.input[1] = input_name
    onnx.save(graph, path)
    model, spec, options = build("fashion_mnist-tiny", "classify")
    source = dataclasses.replace(find_source("fashion_mnist-tiny", "classify"), file=path)
    with pytest.raises(InputError, match="a.onnx: its weights cannot be taken"):
        transfer.initialise(model, spec, options, source, images(spec))


@pytest.mark.parametrize("name", [n for n in names() if not n.endswith("-int8")])
def test_a_pretrained_file_gives_keras_its_weights(name):
    from tfproj.inference.predictor import Predictor

    predictor = Predictor(pretrained_file(name))
    model, spec, fresh = started(name, predictor.spec.task)
    assert fresh == []
    pixels = images(spec)
    expected, actual = predictor.run(pixels)[0], model.predict_on_batch(pixels)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
