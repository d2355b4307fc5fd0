"""Every step sees images by the one policy of the run: train -> evaluate -> export -> predict."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from tfproj import Predictor
from tfproj.core import image
from tfproj.core.files import write_json
from tfproj.core.spec import ModelSpec
from tfproj.errors import InputError, TfprojError
from tfproj.experiment.plan import explain_size, plan_again
from tfproj.export import samples
from tfproj.export.golden import golden_images
from tfproj.runs.run import Run
from tfproj.training.cache import make_cache


def test_evaluation_is_prediction(kept_proportions):
    run = kept_proportions
    predictor, rows = Predictor(run.onnx_file), list(csv.DictReader(run.predictions_file.open()))
    files = [run.path.parents[2] / "data" / "val" / f"{row['name']}" for row in rows]
    assert len(files) == 12
    for row, result in zip(rows, predictor.predict(list(map(str, files))), strict=True):
        assert row["prediction"] == result.label
        assert float(row["probability"]) == pytest.approx(result.probability, abs=1e-4)


def test_every_step_has_the_same_pixels(kept_proportions):
    run = kept_proportions
    planned, predictor = plan_again(run), Predictor(run.onnx_file)
    policy = run.spec().resize
    files = planned.dataset.splits["train"].files
    seen = np.stack([predictor.load(file)[0] for file in files])
    np.testing.assert_array_equal(make_cache(planned, "train").batch(np.arange(24))[0], seen)
    np.testing.assert_array_equal(
        np.stack([image.load(file, (20, 20), 3, resize=policy) for file in files]), seen
    )
    quantized_on = {pixels.tobytes() for pixels in samples.calibration_images(planned, 5)}
    assert len(quantized_on) == 5
    assert quantized_on <= {pixels.tobytes() for pixels in seen}
    with np.load(run.report_data / "filters.npz") as arrays:
        shown = arrays["example"]
    of_val = planned.dataset.splits["val"].files
    assert any(np.array_equal(shown, predictor.load(file)[0]) for file in of_val)


def test_the_file_says_and_proves_its_policy(kept_proportions):
    run = kept_proportions
    policy, predictor = run.spec().resize, Predictor(run.onnx_file)
    record = predictor.metadata
    assert (record["schema"], record["resize"]) == (2, policy)
    assert record["preprocessing"]["resize"]["policy"] == policy
    names = [vector["name"] for vector in record["golden"]["vectors"]]
    assert names[-2:] == [f"{policy}, wide", f"{policy}, high"]
    assert predictor.selftest().max_difference < 1e-4
    # A reader that stretches is found out.
    predictor.spec = dataclasses.replace(predictor.spec, resize="stretch")
    with pytest.raises(TfprojError, match="self-test failed"):
        predictor.selftest()


def test_a_run_keeps_its_policy(kept_proportions, tmp_path):
    policy = kept_proportions.spec().resize
    assert kept_proportions.config().resize == policy
    assert f"resize: {policy})" in explain_size(plan_again(kept_proportions))
    # One of before there was a choice goes on as it began, whatever the plan would choose now.
    run = Run(tmp_path)
    for file in ("config_file", "spec_file", "splits_file", "environment_file"):
        record = json.loads(getattr(kept_proportions, file).read_text())
        if file in ("config_file", "spec_file"):
            record |= {"resize": None} if file == "config_file" else {"resize": "stretch"}
        write_json(getattr(run, file), record)
    assert plan_again(run).spec.resize == "stretch"
    write_json(run.config_file, {**run.config().to_dict(), "resize": policy})
    with pytest.raises(InputError, match="resize 'stretch' does not fit"):
        plan_again(run)


def test_golden_images_of_tiles_are_windows():
    spec = ModelSpec("segment", "unet", ("wall", "door"), (), 8, 12, 3, resize="tiles")
    pictures = golden_images(spec)
    assert list(pictures) == ["blocks", "gradient", "more blocks", "transparent", "16 bits"]
    assert {image.header(picture)[0] for picture in pictures.values()} == {spec.size}
