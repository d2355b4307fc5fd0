"""The models that come with the package: small, described, and as good as their cards say."""

import zipfile

import numpy as np
import pytest
import yaml

from tfproj import Predictor
from tfproj.cli.main import main
from tfproj.cli.predict import model_file
from tfproj.data import DataOptions, load_dataset
from tfproj.errors import InputError
from tfproj.pretrained import card, is_pretrained, names, pretrained_file
from tfproj.report.card import PIPELINES

WHEEL_LIMIT = 6 * 2**20
# Another CPU may round int8 elsewhere; float32 files differ in the last digits only.
TOLERANCE = 0.002


def facts(name):
    """The front matter of a card: data, license, commands, and metrics by file."""
    _, head, _ = card(name).split("---\n", 2)
    return yaml.safe_load(head)


def test_the_models_that_are_promised():
    promised = {"facades-best", "facades-default", "fashion_mnist-best", "fashion_mnist-tiny"}
    assert promised <= set(names())


def test_a_short_name_means_the_best():
    assert pretrained_file("facades").name == "facades-best.onnx"
    assert pretrained_file("fashion_mnist").name == "fashion_mnist-best.onnx"
    assert not is_pretrained("facade")
    with pytest.raises(InputError, match="did you mean"):
        Predictor.pretrained("facades-bst")


def test_together_they_are_small(tmp_path):
    archive = tmp_path / "wheel.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for name in names():
            file.write(pretrained_file(name))
    assert archive.stat().st_size < WHEEL_LIMIT


@pytest.mark.parametrize("name", names())
def test_each_reproduces_its_own_answers(name):
    assert Predictor.pretrained(name).selftest().vectors > 0


@pytest.mark.parametrize("name", names())
def test_each_has_a_card(name):
    found = facts(name)
    assert {"data", "license", "attribution", "train", "export", "measured"} <= found.keys()
    assert name in found["measured"]
    task = Predictor.pretrained(name).spec.task
    # What the Hugging Face hub reads.
    assert found["library_name"] == "tfproj" and isinstance(found["metrics"], list)
    assert found["pipeline_tag"] == PIPELINES[task]
    assert found["license"] in ("mit", "other") and (found["license"] == "mit") != (
        "license_name" in found
    )
    for command in (found["train"], found["export"]):
        assert command.startswith("tfproj ")
    for heading in ("## Use", "## Recipe", "## Measured", "## Limits"):
        assert heading in card(name)


# In an int8 file scales and zero points would be counted.
@pytest.mark.parametrize("name", [name for name in names() if not name.endswith("-int8")])
def test_parameters_are_those_of_the_card(name):
    import onnx

    graph = onnx.load(pretrained_file(name)).graph
    maker, needed, found = {o: n for n in graph.node for o in n.output}, ["scores"], {}
    while needed:  # what the scores come from: the score of unknown images has its own numbers
        node = maker.get(needed.pop())
        if node is not None and node.output[0] not in found:
            found[node.output[0]] = node
            needed += node.input
    layers = ("Conv", "ConvTranspose", "Gemm")
    kernels = {n.input[1]: n for n in found.values() if n.op_type in layers}
    stored = {i.name: int(np.prod(i.dims)) for i in graph.initializer}
    casts = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "Cast"}
    count = sum(stored[casts.get(k, k)] for k in kernels)
    count += sum(stored[n.input[2]] for n in kernels.values() if len(n.input) > 2)
    assert count == facts(name)["parameters"]


def test_limits_of_the_sizes():
    assert facts("fashion_mnist-best")["parameters"] <= 500_000
    assert facts("fashion_mnist-tiny")["parameters"] < 100_000
    assert facts("facades-best")["parameters"] <= 2_000_000
    assert facts("facades-default")["parameters"] == 465_857


def test_predict_by_name(tmp_path, capsys):
    from PIL import Image

    photo = tmp_path / "photo.png"
    Image.fromarray(np.full((90, 70, 3), 200, np.uint8)).save(photo)
    assert main(["predict", "facades", str(photo)]) == 0
    assert "window" in capsys.readouterr().out
    assert main(["predict", "fashion_mnist-tiny", str(photo), "--flip"]) == 0


def test_a_name_of_a_run_and_of_a_model_is_not_guessed(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert model_file("facades", "runs") == pretrained_file("facades")
    (tmp_path / "facades").mkdir()  # perhaps the data, not a run
    assert model_file("facades", "runs") == pretrained_file("facades")
    run = tmp_path / "runs" / "segment" / "facades"
    run.mkdir(parents=True)
    (run / "config.json").write_text("{}")
    (run / "model.onnx").write_bytes(b"")
    with pytest.raises(InputError, match="a pretrained model and a run; for the run say runs/seg"):
        model_file("facades", "runs")
    assert model_file("segment/facades", "runs").samefile(run / "model.onnx")
    with pytest.raises(InputError, match="did you mean 'facades-best'"):
        model_file("facades-bst", "runs")


def test_models_shows_names_and_cards(capsys):
    assert main(["models"]) == 0
    assert "facades-best" in capsys.readouterr().out
    assert main(["models", "facades"]) == 0
    assert capsys.readouterr().out == card("facades")


@pytest.mark.real_data
@pytest.mark.parametrize("name", [n for n in names() if n.startswith("fashion_mnist")])
def test_accuracy_of_the_card(name, real_fashion):
    options = DataOptions(data_dir=str(real_fashion))
    split = load_dataset("fashion_mnist", "classify", options).splits["test"]
    images = np.stack([split.read_image(i) for i in range(len(split))])
    results = Predictor.pretrained(name).predict(images.reshape(-1, 28, 28, 1), batch_size=100)
    classes = list(Predictor.pretrained(name).spec.classes)
    predicted = np.array([classes.index(r.label) for r in results])
    accuracy = float(np.mean(predicted == split.labels))
    assert accuracy == pytest.approx(facts(name)["measured"][name]["test accuracy"], abs=TOLERANCE)


@pytest.mark.real_data
@pytest.mark.parametrize("name", [n for n in names() if n.startswith("facades")])
def test_average_precision_of_the_card(name, real_facades):
    from tfproj.core import image
    from tfproj.evaluation import metrics
    from tfproj.evaluation.pixels import PixelScores

    options = DataOptions(data_dir=str(real_facades))
    split = load_dataset("facades", "segment", options).splits["val"]
    predictor = Predictor.pretrained(name)
    pixels = PixelScores(len(predictor.spec.classes))
    for index in range(len(split)):
        picture = image.load(split.read_image(index), predictor.spec.size, 3)
        mask = image.resize_mask(split.read_mask(index), predictor.spec.size)
        pixels.add(predictor.run(picture[None])[0], mask[None])
    found = {k: metrics.mean(v) for k, v in pixels.average_precisions().items()}
    said = facts(name)["measured"][name]
    assert found["softmax"] == pytest.approx(said["validation mean AP, softmax"], abs=TOLERANCE)
    assert found["raw"] == pytest.approx(said["validation mean AP, raw"], abs=TOLERANCE)
