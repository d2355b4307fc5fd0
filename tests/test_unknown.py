"""Images of no class, and where a model looks: further outputs of an exported classifier."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from PIL import Image
from tiny_models import png

from tfproj.cli.main import main
from tfproj.core.heat import heat_map, heated
from tfproj.errors import InputError
from tfproj.inference.image_files import describe
from tfproj.inference.predictor import Predictor

keras = pytest.importorskip("keras")

from tfproj.core.spec import ModelSpec  # noqa: E402
from tfproj.experiment.plan import plan_evaluation  # noqa: E402
from tfproj.experiment.presets import make_config  # noqa: E402
from tfproj.export import unknown  # noqa: E402
from tfproj.export.job import Options  # noqa: E402
from tfproj.export.onnx_file import export_onnx  # noqa: E402
from tfproj.models.checkpoint import load_model  # noqa: E402
from tfproj.models.features import class_activations, last_dense, stage_means  # noqa: E402
from tfproj.models.registry import build_model  # noqa: E402
from tfproj.training.train import train  # noqa: E402


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A residual network on digits, which averages over space."""
    options = {"batch_norm": True, "widths": [8, 16], "dropout": 0.1}
    config = make_config(
        "classify", data="digits", model="resnet", epochs=4, augment="none", model_options=options
    )
    return train(config, tmp_path_factory.mktemp("runs"), "digits")


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    file = tmp_path_factory.mktemp("models") / "digits.onnx"
    return file, export_onnx(run, file)


@pytest.fixture(scope="module")
def examples(run):
    splits = plan_evaluation(run).dataset.splits
    return {
        name: [split.read_image(i) for i in range(min(200, len(split)))]
        for name, split in splits.items()
    }


def noise(count=50):
    return list(np.random.default_rng(0).integers(0, 256, (count, 8, 8, 1), np.uint8))


def test_noise_is_far_and_few_digits_are_refused(exported, examples):
    predictor = Predictor(exported[0], unknown_below="auto")
    assert predictor.unknown_below is None and predictor.unknown_above > 0
    known = predictor.predict(examples["test"])
    assert np.mean([r.is_unknown for r in known]) < 0.12
    assert np.mean([r.unknown_score for r in predictor.predict(examples["train"])]) < 1.5
    far = predictor.predict(noise())
    assert all(r.label == "unknown" and r.index == -1 for r in far)


def test_a_number_is_a_probability_as_before(exported, examples):
    predictor = Predictor(exported[0], unknown_below=0.5)
    assert predictor.unknown_above is None
    (found,) = predictor.predict(examples["test"][0])
    assert found.unknown_score is None and found.unknown_below == 0.5


@pytest.mark.parametrize("own", [None, 0.5, "auto"])
def test_a_server_is_asked_for_the_score_whatever_it_was_started_with(exported, own):
    pytest.importorskip("multipart", reason="the extra serve is not installed")
    from tfproj.serving.models import Model, Question
    from tfproj.serving.settings import Settings

    model = Model("digits", Settings({"digits": (exported[0], {"unknown_below": own})}))
    for pixels in noise(3):
        data = png(pixels)
        for asked in (None, "auto", 0.99):
            below = own if asked is None else asked
            result = Predictor(exported[0], threads=1, unknown_below=below).predict_one(data)
            found = model.answer("image", data, Question(unknown_below=asked))
            assert found == describe("image", result, 1)


def test_the_score_of_an_image_is_not_that_of_its_mirror_image(exported, examples):
    pictures = examples["test"][:5]
    plain, flipped = (
        Predictor(exported[0], unknown_below="auto", flip=flip).predict(pictures)
        for flip in (False, True)
    )
    assert [r.unknown_score for r in plain] == [r.unknown_score for r in flipped]
    assert any((a.scores != b.scores).any() for a, b in zip(plain, flipped, strict=True))


def test_both_outputs_are_verified_against_keras(run, exported):
    differences = exported[1]["verification"]["max_output_differences"]
    assert set(differences) == {"unknown_score", "activation"}
    assert max(differences.values()) < 1e-4


def test_a_wrong_score_of_unknown_images_is_no_file(run, tmp_path, monkeypatch):
    honest = unknown.extended

    def wrong(model, spec, found):
        return honest(model, spec, found and replace(found, bias=found.bias * 1.01))

    monkeypatch.setattr("tfproj.export.convert.extended", wrong)
    with pytest.raises(Exception, match="of unknown_score"):
        export_onnx(run, tmp_path / "wrong.onnx")
    assert not (tmp_path / "wrong.onnx").exists()


@pytest.mark.parametrize("options", [{"half": True}, {"opset": 15}])
def test_other_kinds_of_file_have_the_score_too(options, run, examples, tmp_path):
    export_onnx(run, tmp_path / "other.onnx", Options(**options))
    predictor = Predictor(tmp_path / "other.onnx", unknown_below="auto", explain=True)
    assert all(r.is_unknown for r in predictor.predict(noise()))
    assert np.mean([r.is_unknown for r in predictor.predict(examples["test"])]) < 0.12


def test_an_int8_file_has_statistics_of_its_own(run, exported, examples, tmp_path, monkeypatch):
    monkeypatch.setattr("tfproj.export.quantize.speed_ratio", lambda *args: 2.5)
    file = tmp_path / "int8.onnx"
    export_onnx(run, file, Options(int8=True))
    graph = onnx.load(file).graph
    floats = {i.name for i in graph.initializer if i.data_type == onnx.TensorProto.FLOAT}
    assert {"unknown/weight", "places/weight", "dense/weight"} <= floats
    assert "stem/weight" not in floats
    predictor, whole = (
        Predictor(f, unknown_below="auto", explain=True) for f in (file, exported[0])
    )
    assert predictor.unknown_above != whole.unknown_above
    found = predictor.predict(examples["test"])
    assert np.mean([r.is_unknown for r in found]) < 0.12
    assert all(r.is_unknown for r in predictor.predict(noise()))
    # The features' average, of which the scores are made, is rounded to 8 bits; the map is not.
    np.testing.assert_allclose(found[0].activation.mean((0, 1)), found[0].scores, atol=0.02)


def test_a_graph_is_surveyed_again_by_its_own_features(run, exported):
    model = onnx.load(exported[0])
    planned = plan_evaluation(run)
    changed, found = unknown.resurveyed(model, planned)
    known = exported[1]["calibration"]["unknown_score_threshold"]
    assert found.threshold == pytest.approx(known, rel=1e-3)
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in changed.graph.initializer}
    np.testing.assert_array_equal(weights["unknown/weight"], found.weight)


def test_too_few_images_leave_the_score_out(run):
    planned = plan_evaluation(run)
    splits = planned.dataset.splits
    model = unknown.features_of(load_model(run))
    for name, words in (("val", "validation"), ("train", "training")):
        few = splits[name].subset(np.arange(18))
        dataset = replace(planned.dataset, splits={**splits, name: few})
        assert words in unknown.survey(replace(planned, dataset=dataset), model)


def test_the_threshold_refuses_at_most_five_percent():
    assert unknown.threshold_rank(18) is None
    assert unknown.threshold_rank(19) == 18
    rng = np.random.default_rng(0)
    scores = np.sort(rng.random((4000, 59)), axis=1)[:, unknown.threshold_rank(59)]
    assert np.mean(1 - scores) == pytest.approx(0.05, abs=0.003)


def test_features_that_do_not_vary_are_no_reason_to_fail():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(30, 40)).astype(np.float32)
    features[:, :5] = 3.0
    weight, bias = unknown.whitening(features)
    scores = unknown.Surroundings(weight, bias, 0.0).score(features)
    assert np.isfinite(scores).all() and scores.max() < 10
    odd = features[:1] + np.eye(1, 40, dtype=np.float32)
    assert unknown.Surroundings(weight, bias, 0.0).score(odd)[0] > 100
    weight, bias = unknown.whitening(np.ones((30, 4), np.float32))
    assert np.isfinite(weight).all() and np.isfinite(bias).all()


@pytest.mark.parametrize(
    ("model", "options", "features"),
    [("cnn", {"filters": 8}, 24), ("resnet", {"widths": [8, 16, 24], "batch_norm": True}, 48),
     ("encoder", {"batch_norm": True}, 512), ("encoder", {"encoder": "mobilenet_v2"}, 488)],
)  # fmt: skip
def test_each_resolution_has_its_features(model, options, features):
    side = 64 if model == "encoder" else 16
    spec = ModelSpec("classify", model, ("a", "b"), (), side, side, 3)
    assert stage_means(build_model(spec, options)).shape == (None, features)


# Where a model looks


def test_the_mean_of_the_activations_is_the_score(run, exported, examples):
    model = load_model(run)
    places = keras.Model(model.input, class_activations(model))
    pictures = np.stack(examples["test"][:20]).reshape(20, 8, 8, 1)
    inside = np.asarray(places(pictures))
    np.testing.assert_allclose(inside.mean((1, 2)), model(pictures), atol=1e-4)
    results = Predictor(exported[0], explain=True).predict(list(pictures))
    np.testing.assert_allclose([r.activation for r in results], inside, atol=1e-4)
    assert results[0].activation.shape == (4, 4, 10)


def test_a_network_that_flattens_has_no_activations(toy_classifier, toy_models):
    model = load_model(toy_classifier)
    assert class_activations(model) is None
    assert last_dense(model).units == 10
    with pytest.raises(InputError, match="averages over space before its last layer"):
        Predictor(toy_models["classify"], explain=True)


def test_a_map_lies_where_the_network_looked():
    places = np.zeros((4, 4), np.float32)
    places[0] = 1.0  # at the top of the network's input
    stretched = heat_map(places, (80, 40), (64, 64))
    assert stretched[0].min() == 1 and stretched[-1].max() == 0 and stretched.shape == (80, 40)
    cropped = heat_map(places, (40, 80), (64, 64), "crop")
    assert np.isnan(cropped[:, :20]).all() and np.isnan(cropped[:, 60:]).all()
    assert cropped[0, 20:60].min() == 1 and cropped[-1, 20:60].max() == 0
    places[0], places[1] = 0.0, 1.0  # the first quarter below the padding
    boxed = heat_map(places, (40, 80), (64, 64), "letterbox")
    assert set(boxed.argmax(axis=0)) <= {9, 10} and boxed[-1].max() == 0
    assert not np.isnan(boxed).any()
    assert not heat_map(np.ones((2, 2), np.float32), (4, 4), (8, 8)).any()
    picture = heated(Image.new("L", (80, 40), 128), cropped)
    assert picture.size == (80, 40) and picture.mode == "RGB"
    blue, yellow = picture.getpixel((40, 39)), picture.getpixel((40, 0))
    assert blue[2] > blue[0] and yellow[0] > yellow[2] and picture.getpixel((0, 0)) == (43, 43, 43)


def test_heat_of_a_class(exported, examples):
    picture = Image.fromarray(np.squeeze(examples["test"][0])).resize((30, 20))
    (found,) = Predictor(exported[0], explain=True).predict(picture)
    best = found.classes[int(found.probabilities.argmax())]
    np.testing.assert_array_equal(found.heat(), found.heat(best))
    assert found.heat().shape == (20, 30) and found.overlay(picture).size == (30, 20)
    with pytest.raises(InputError, match="unknown class 'cat'"):
        found.heat("cat")
    with pytest.raises(InputError, match="the prediction's"):
        found.overlay(picture.resize((31, 20)))
    (plain,) = Predictor(exported[0]).predict(picture)
    with pytest.raises(InputError, match="explain=True"):
        plain.heat()


def test_predict_writes_where_the_model_looks(exported, examples, tmp_path, capsys):
    for name, pixels in (("a.png", examples["test"][0]), ("a.bmp", noise(1)[0])):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(np.squeeze(pixels)).resize((24, 16)).save(tmp_path / "in" / name)
    command = ["predict", str(exported[0]), str(tmp_path / "in"), "--explain"]
    assert main(command) == 2 and "--explain needs --output" in capsys.readouterr().err
    output = tmp_path / "out"
    flags = ["--output", str(output), "--unknown-below", "auto"]
    assert main([*command, *flags]) == 0
    assert sorted(p.name for p in output.iterdir()) == [
        "a_overlay.png", "a_png_overlay.png", "predictions.csv"
    ]  # fmt: skip
    assert Image.open(output / "a_overlay.png").size == (24, 16)
    header, *rows = (output / "predictions.csv").read_text().splitlines()
    assert header == "image,label,probability,confidence,unknown_score,explanation"
    assert len(rows) == 2 and ",unknown," in rows[0]
    assert "unknown (score" in capsys.readouterr().out
    assert main([*command, "--output", str(tmp_path / "in")]) == 2


def test_the_report_shows_where_the_network_looks(run, toy_classifier, tmp_path):
    pytest.importorskip("matplotlib")
    from tfproj.evaluation.evaluate import evaluate
    from tfproj.report import build

    pages = []
    for one in (run, toy_classifier):
        evaluate(one, ["val"])
        pages.append(build([one], tmp_path / f"{one.name}.html").read_text())
    assert pages[0].count('alt="where the network finds ') > 10
    assert "yellow is where the network found most" in pages[0]
    assert 'alt="where' not in pages[1] and "average over space" in pages[1]
