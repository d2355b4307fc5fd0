"""Tiles of trained models: exact in files of any size, measured alike, and without a seam."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from tiny_models import tiny_model

from tfproj import Predictor
from tfproj.cli import terminal
from tfproj.cli.main import main
from tfproj.core.spec import ModelSpec
from tfproj.core.tiling import Tiling, blocks
from tfproj.errors import InputError
from tfproj.evaluation.evaluate import evaluate
from tfproj.evaluation.metrics import confusion_matrix, intersection_over_union, mean
from tfproj.experiment.plan import plan_again, plan_evaluation
from tfproj.experiment.tiling import plan_tiling
from tfproj.export.job import prepare
from tfproj.export.metadata import Measured
from tfproj.export.onnx_file import Options, export_onnx
from tfproj.export.quantize import Judge
from tfproj.export.web import write_page
from tfproj.models.registry import build_model, input_multiple, input_reach
from tfproj.runs.run import Run

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def free(toy_segmenter, tmp_path_factory):
    """An exported file that takes any size."""
    path = tmp_path_factory.mktemp("free") / "free.onnx"
    export_onnx(toy_segmenter, path, Options(dynamic_size=True))
    return path


def facade(size):
    """A picture of (height, width) made of drawn facades."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (size[0] // 16 + 1, size[1] // 16 + 1, 3), np.uint8)
    return Image.fromarray(small).resize(size[::-1], Image.Resampling.NEAREST)


def blended(predictor, picture, tiling):
    size = picture.height, picture.width
    out = np.full((*size, len(predictor.spec.classes)), np.nan, np.float32)
    answer = lambda windows: predictor.run(windows)[1]  # noqa: E731 (short)
    for top, left, block in blocks(picture, size, tiling, out.shape[-1], answer, 2, None):
        out[top : top + block.shape[1], left : left + block.shape[2]] = np.moveaxis(block, 0, -1)
    return out


def test_tiles_of_a_file_of_any_size_are_one_pass(free):
    predictor = Predictor(free, tiles=1.0)
    assert predictor.metadata["input"]["reach"] == predictor.tiling.reach == 51
    picture = facade((448, 640))
    _, expected = predictor.run(np.asarray(picture)[None])
    found = blended(predictor, picture, predictor.tiling)
    assert len(predictor.tiling.axis(640, predictor.tiling.window[1]).starts) > 1
    np.testing.assert_allclose(found, expected[0], atol=1e-4)
    (result,) = predictor.predict(picture)
    np.testing.assert_array_equal(result.mask, found.argmax(-1))
    # Windows of the training's size see less than the network does: their blend is another.
    small = blended(predictor, picture, Tiling((32, 48), multiple=8, reach=51))
    assert np.abs(small - expected[0]).max() > 1e-2


def test_the_interior_of_odd_sides_is_one_pass_too(free):
    """At the right and below the image is mirrored to fill the strides."""
    predictor, picture = Predictor(free, tiles=1.0), facade((441, 637))
    _, expected = predictor.run(np.asarray(picture)[None, :440, :632])
    found = blended(predictor, picture, predictor.tiling)
    np.testing.assert_allclose(found[: 440 - 52, : 632 - 52], expected[0, :-52, :-52], atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [{"widths": [4, 4]}, {"widths": [4, 4, 4]}, {"widths": [4, 4, 4], "stem_stride": 2},
     {"widths": [4, 4], "stem_stride": 3}],
)  # fmt: skip
def test_the_reach_is_how_far_a_pixel_is_seen(options):
    """A brighter pixel changes answers so far, in a network that adds everything up."""
    import keras

    multiple, reach = (find("unet", options) for find in (input_multiple, input_reach))
    around = reach // multiple + 2
    side = multiple * (2 * around + 1)
    model = build_model(ModelSpec("segment", "unet", ("a", "b"), (), side, side, 1), options)
    for weight in model.weights:
        weight.assign(np.full(weight.shape, 0.05 if len(weight.shape) > 1 else 0.01, np.float32))
    logits = keras.Model(model.input, model.get_layer("scores_log_softmax").input)
    pixels = np.full((multiple + 1, side, side, 1), 100, np.uint8)
    place = multiple * around + np.arange(multiple)
    pixels[1 + np.arange(multiple), place, multiple * around] = 255
    answers = logits(pixels).numpy()
    seen = [np.flatnonzero((answer != answers[0]).any(axis=(1, 2))) for answer in answers[1:]]
    assert reach == max(
        max(at - rows[0], rows[-1] - at) for at, rows in zip(place, seen, strict=True)
    )


def test_what_sees_whole_lines_has_no_reach():
    assert input_reach("unet", {"strip_pooling": True}) is None
    assert input_reach("encoder_unet", {}) is None


def test_a_run_and_its_file_say_how_large_the_photographs_were(toy_segmenter, toy_models):
    size = toy_segmenter.environment()["data"]["median_size"]
    predictor = Predictor(toy_models["segment"], tiles=True)
    assert predictor.metadata["training"]["median_size"] == size
    assert predictor.tiling.scale == (32 / size[0], 48 / size[1])
    tiling = plan_tiling(toy_segmenter, plan_again(toy_segmenter))
    assert tiling == predictor.tiling


def test_evaluation_in_tiles_is_that_of_the_predicted_masks(toy_segmenter, toy_models, capsys):
    planned = plan_evaluation(toy_segmenter, ["val"])
    tiling = plan_tiling(toy_segmenter, planned, 0.5)
    measured = evaluate(toy_segmenter, ["val"], planned=planned, tiling=tiling)
    found = measured["tiled"]
    assert (found["scale"], found["window"]) == ([0.5, 0.5], [32, 48])
    examples = planned.dataset.splits["val"]
    predictor, confusion = Predictor(toy_models["segment"], tiles=0.5), np.zeros((5, 5), np.int64)
    for index in range(len(examples)):
        (result,) = predictor.predict(examples.read_image(index))
        confusion += confusion_matrix(examples.read_mask(index), result.mask, 5)
    expected = mean(intersection_over_union(confusion))
    assert found["splits"]["val"]["mean_iou_full"] == pytest.approx(expected, abs=1e-3)
    assert found["splits"]["val"]["examples"] == len(examples)
    # Kept by a later evaluation without tiles, and shown.
    assert evaluate(toy_segmenter, ["val"])["tiled"] == found
    path = toy_segmenter.path
    assert main(["evaluate", str(path), "--split", "val", "--tiles"]) == 0
    assert "in tiles, at " in capsys.readouterr().out
    with pytest.raises(InputError, match="measured on val and test"):
        evaluate(toy_segmenter, ["train"], tiling=tiling)


def test_a_file_of_a_model_for_tiles(toy_segmenter, toy_models, tmp_path):
    """Exported, verified and measured by windows, and predicted by blended ones."""
    run = Run(shutil.copytree(toy_segmenter.path, tmp_path / "runs" / "segment" / "tiled"))
    crop = {"crop": list(run.spec().size), "image_size": None}
    for file, more in (run.config_file, crop), (run.spec_file, {}):
        record = json.loads(file.read_text())
        file.write_text(json.dumps({**record, "resize": "tiles", **more}))
    result = export_onnx(run, run.onnx_file)
    assert result["verification"]["max_difference"] < 1e-4
    predictor = Predictor(run.onnx_file)
    assert predictor.metadata["schema"] == 2 and predictor.tiling.scale == (1, 1)
    assert predictor.selftest().vectors == 5
    picture = facade((70, 111))
    (found,) = predictor.predict(picture)
    (asked,) = Predictor(toy_models["segment"], tiles=1.0).predict(picture)
    np.testing.assert_array_equal(found.mask, asked.mask)
    file = SimpleNamespace(data=run.onnx_file.read_bytes(), measured=Measured())
    judge = Judge(prepare(run, None, Options()), file, 4, tmp_path)
    assert judge.metrics.keys() == result["verification"]["metrics"].keys()


def test_a_page_of_the_browser_takes_no_tiles(tmp_path):
    model = tmp_path / "a.onnx"
    model.write_bytes(tiny_model("segment", resize="tiles", schema=2))
    with pytest.raises(InputError, match="--web takes images whole"):
        write_page(model, tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_evaluation_of_a_classifier_has_no_tiles(toy_classifier, capsys):
    assert main(["evaluate", str(toy_classifier.path), "--tiles"]) == 2
    assert "tiles are for segmentation" in capsys.readouterr().err


def test_a_run_of_before_sizes_were_recorded(toy_segmenter, monkeypatch):
    record = toy_segmenter.environment()
    size = record["data"].pop("median_size")
    monkeypatch.setattr(type(toy_segmenter), "environment", lambda self: record)
    planned = plan_again(toy_segmenter)
    assert plan_tiling(toy_segmenter, planned).scale == (32 / size[0], 48 / size[1])
    monkeypatch.setattr(type(planned), "own_data", False)
    object.__setattr__(planned, "own_data", False)
    with pytest.raises(InputError, match="give --tile-scale"):
        plan_tiling(toy_segmenter, planned)


def test_predict_shows_the_tiles_and_resumes_with_the_same_only(
    toy_models, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(terminal, "REPORT", 0)
    model, out = str(toy_models["segment"]), tmp_path / "out"
    for name in ("a.png", "b.png"):
        facade((150, 190)).save(tmp_path / name)
    files = [str(tmp_path / name) for name in ("a.png", "b.png")]
    assert main(["predict", model, *files, "--tile-scale", "0.8", "--output", str(out),
                 "--overlay", "--html", str(tmp_path / "page.html")]) == 0  # fmt: skip
    said = capsys.readouterr().err
    assert "1 of 25 tiles" in said and "25 of 25 tiles" in said
    mask = Image.open(out / "a.png")
    assert mask.mode == "P" and mask.size == Image.open(out / "a_overlay.png").size == (190, 150)
    (result,) = Predictor(model, tiles=0.8).predict(files[0])
    np.testing.assert_array_equal(np.asarray(mask), result.mask)
    # As if it had been interrupted.
    table = (out / "predictions.csv").rename(out / "predictions.csv.partial")
    assert main(["predict", model, files[0], "--tile-scale", "0.8", "--output", str(tmp_path / "x"),
                 "--overlay"]) == 0  # fmt: skip
    settings = {
        "model": Predictor(model).digest, "top": 1, "overlay": True, "unknown_below": None,
        "unknown_above": None, "flip": False, "explain": False, "tiles": [0.8, 0.8],
    }  # fmt: skip
    Path(f"{table}.json").write_text(json.dumps(settings))
    resume = ["predict", model, *files, "--output", str(out), "--overlay", "--resume"]
    assert main(resume) == 2
    assert "written with another model or other options" in capsys.readouterr().err
    assert main([*resume, "--tile-scale", "0.8"]) == 0


@pytest.mark.real_data
def test_no_seam_shows_on_facades(real_facades, monkeypatch):
    """IoU by the distance to the borders of the tiles, beside tiles that have no borders there."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    sys.modules.pop("tiles", None)
    import tiles

    found = tiles.near_borders(real_facades / "train")
    apart, ours = (
        [iou - dense for _, _, iou, dense in found[way]] for way in ("side by side", "overlapping")
    )
    assert apart[0] < -0.15 and apart[1] < -0.05  # what would be seen without an overlap
    assert min(ours) > -0.02 and min(ours[:2]) > -0.01
