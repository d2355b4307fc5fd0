"""Training from existing weights: the same function at the start, a new head where needed."""

import dataclasses

import numpy as np
import pytest

from tfproj import backend

backend.setup()

from tfproj import transfer  # noqa: E402
from tfproj.cli.main import main  # noqa: E402
from tfproj.config import make_config  # noqa: E402
from tfproj.errors import InputError  # noqa: E402
from tfproj.evaluate import load_model  # noqa: E402
from tfproj.models import build_model  # noqa: E402
from tfproj.pretrained import names, pretrained_file  # noqa: E402


def images(spec, count=2):
    shape = (count, *spec.size, spec.channels)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def twin(run):
    """A new model for the classes of a run, without norms."""
    source = transfer.find_source(str(run.path), run.spec().task)
    return build_model(source.spec, source.options), source.spec


@pytest.mark.parametrize("kind", ["toy_classifier", "toy_segmenter"])
def test_the_same_classes_give_the_same_function(request, kind):
    run = request.getfixturevalue(kind)
    model, spec = twin(run)
    assert transfer.initialise(model, spec, str(run.path)) == []
    expected, actual = (m.predict_on_batch(images(spec)) for m in (load_model(run), model))
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


def test_other_classes_get_a_new_last_layer(toy_segmenter):
    source = transfer.find_source(str(toy_segmenter.path), "segment")
    spec = dataclasses.replace(source.spec, classes=("sky", "ground"), colors=())
    model = build_model(spec, source.options)
    before = model.get_layer("dec1_conv2").get_weights()[0]
    assert transfer.initialise(model, spec, str(toy_segmenter.path)) == ["dec1_conv2"]
    np.testing.assert_array_equal(model.get_layer("dec1_conv2").get_weights()[0], before)
    reference = build_model(source.spec, source.options)
    transfer.initialise(reference, source.spec, str(toy_segmenter.path))
    for name in ("enc1_conv1", "dec1_up"):
        pair = (m.get_layer(name).get_weights()[0] for m in (model, reference))
        np.testing.assert_array_equal(*pair)


def test_a_grey_image_means_the_same_to_a_model_of_colours(toy_segmenter):
    source = transfer.find_source(str(toy_segmenter.path), "segment")
    grey_spec = dataclasses.replace(source.spec, channels=1)
    grey, colour = (build_model(s, source.options) for s in (grey_spec, source.spec))
    for model, spec in ((grey, grey_spec), (colour, source.spec)):
        transfer.initialise(model, spec, str(toy_segmenter.path))
    pixels = images(grey_spec)
    expected = colour.predict_on_batch(np.repeat(pixels, 3, axis=-1))
    np.testing.assert_allclose(grey.predict_on_batch(pixels), expected, rtol=1e-3, atol=1e-3)


def test_a_run_starts_from_another_and_says_so(toy_classifier, tmp_path, capsys):
    command = [
        "train", "classify", "--data", "digits", "--limit", "100", "--epochs", "1",
        "--init", str(toy_classifier.path), "--runs-dir", str(tmp_path), "--name", "tuned",
    ]  # fmt: skip
    assert main(command) == 0
    err = capsys.readouterr().err
    assert "starting from" in err
    assert "same classes" in err
    from tfproj.runs import Run

    run = Run(tmp_path / "classify" / "tuned")
    assert run.config().preset == "finetune"
    assert run.config().model_options == {"filters": 8, "dense": 16}
    assert len(run.environment()["init"]["sha256"]) == 64
    # One epoch at a small rate from weights that know the digits: far above a tenth.
    assert run.history()[0]["val_accuracy"] > 0.3


@pytest.mark.parametrize(
    ("task", "init", "message"),
    [
        ("classify", "facades", "a model for segment, not classify"),
        ("segment", "facadse", "facadse"),
        ("segment", "facades-int8", "int8 weights can't be trained"),
    ],
)
def test_what_can_not_be_started_from(task, init, message):
    if init != "facadse" and "facades-best-int8" not in names():
        pytest.skip("no int8 file is shipped")
    with pytest.raises(InputError, match=message):
        make_config(task, init=init)


def test_a_model_that_does_not_fit(toy_classifier):
    model, spec = twin(toy_classifier)
    other = build_model(spec, {"filters": 4, "dense": 16})
    with pytest.raises(InputError, match="does not fit"):
        transfer.initialise(other, spec, str(toy_classifier.path))


@pytest.mark.parametrize("name", [n for n in names() if not n.endswith("-int8")])
def test_a_pretrained_file_gives_keras_its_weights(name):
    from tfproj.predict import Predictor

    predictor = Predictor(pretrained_file(name))
    source = transfer.find_source(name, predictor.spec.task)
    model = build_model(source.spec, source.options)
    transfer.initialise(model, source.spec, name)
    pixels = images(source.spec)
    expected, actual = predictor.run(pixels)[0], model.predict_on_batch(pixels)
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
