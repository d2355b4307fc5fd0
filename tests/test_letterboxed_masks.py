"""Segmenters whose photographs keep their proportions: what stands beside them counts nowhere."""

import json

import numpy as np
import pytest

from tfproj import Predictor
from tfproj.core import image
from tfproj.core.probabilities import mask_of_size, softmax
from tfproj.core.resizing import inner_box
from tfproj.evaluation.metrics import confusion_matrix
from tfproj.experiment.plan import plan_evaluation
from tfproj.models.checkpoint import load_model


@pytest.fixture(scope="module")
def photographs(letterboxed_masks):
    return plan_evaluation(letterboxed_masks).dataset.splits["val"]


def test_masks_have_the_photographs_own_geometry(letterboxed_masks, photographs):
    model, predictor = load_model(letterboxed_masks), Predictor(letterboxed_masks.onnx_file)
    for file in photographs.files[:3]:  # wide, high, square
        pixels = image.load(file, (32, 32), 3, resize="letterbox")
        scores = model(pixels[None], training=False).numpy()[0]
        height, width = image.header(file)[0]
        expected = mask_of_size(
            softmax(scores[inner_box((height, width), (32, 32), "letterbox")]), (height, width)
        )
        found = predictor.predict_one(file)
        assert found.mask.shape == (height, width)
        assert np.mean(found.mask == expected) > 0.999
        assert found.probabilities.shape[:2] != (32, 32) or height in (40, 41)


def test_figures_leave_out_what_stands_beside(letterboxed_masks, photographs):
    split = json.loads(letterboxed_masks.metrics_file.read_text())["splits"]["val"]
    inner = [
        inner_box(photographs.read_mask(i).shape, (32, 32), "letterbox")
        for i in range(len(photographs))
    ]
    shown = sum((rows.stop - rows.start) * (c.stop - c.start) for rows, c in inner)
    assert np.sum(split["confusion_matrix"]) == shown < 32 * 32 * len(photographs)
    predictor, whole = Predictor(letterboxed_masks.onnx_file), np.zeros((2, 2), np.int64)
    for index, file in enumerate(photographs.files):
        found = predictor.predict_one(file)
        whole += confusion_matrix(photographs.read_mask(index), found.mask, 2)
    accuracy = np.trace(whole) / whole.sum()
    assert split["pixel_accuracy_full"] == pytest.approx(accuracy, abs=2e-3)
    assert accuracy > 0.6


def test_the_file_says_so_and_tests_itself(letterboxed_masks):
    predictor = Predictor(letterboxed_masks.onnx_file)
    assert predictor.spec.resize == "letterbox" and predictor.metadata["schema"] == 2
    assert predictor.metadata["preprocessing"]["resize"]["policy"] == "letterbox"
    assert predictor.metadata["verification"]["max_difference"] < 1e-4
    assert predictor.selftest().vectors == 7


def test_tiles_have_one_scale_in_both_directions(letterboxed_masks, photographs):
    predictor = Predictor(letterboxed_masks.onnx_file, tiles=True)
    rows, columns = predictor.metadata["training"]["median_size"]
    scale = min(32 / rows, 32 / columns)
    file = photographs.files[0]
    given = Predictor(letterboxed_masks.onnx_file, tiles=scale).predict_one(file)
    np.testing.assert_array_equal(predictor.predict_one(file).mask, given.mask)
