import tracemalloc

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from tfproj.core.probabilities import softmax
from tfproj.evaluation import metrics
from tfproj.evaluation.pixels import PixelScores


def test_softmax():
    probabilities = softmax(np.array([[1000.0, 1000.0], [0.0, np.log(3)]], np.float32))
    np.testing.assert_allclose(probabilities, [[0.5, 0.5], [0.25, 0.75]], rtol=1e-6)
    assert probabilities.dtype == np.float32


def test_confusion_recall_and_iou():
    labels, predictions = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 0])
    confusion = metrics.confusion_matrix(labels, predictions, 3)
    np.testing.assert_array_equal(confusion, [[1, 1, 0], [1, 2, 0], [0, 0, 0]])
    assert metrics.recall(confusion) == [0.5, pytest.approx(2 / 3), None]
    assert metrics.intersection_over_union(confusion) == [pytest.approx(1 / 3), 0.5, None]


def test_confusion_is_counted_part_by_part(monkeypatch):
    labels, predictions = np.random.default_rng(0).integers(0, 3, (2, 7, 11), np.uint8)
    whole = metrics.confusion_matrix(labels, predictions, 3)
    monkeypatch.setattr(metrics, "CHUNK", 5)
    np.testing.assert_array_equal(metrics.confusion_matrix(labels, predictions, 3), whole)
    assert whole.sum() == 77


def test_mean_leaves_out_what_is_undefined():
    assert metrics.mean([1.0, None, 0.5]) == 0.75
    assert metrics.mean([None]) is None


def test_average_precision_by_hand():
    # Ranked: hit, miss, hit. Precision at the hits: 1, 2/3; each adds half of the recall.
    pixels = PixelScores(2)
    scores = np.zeros((1, 1, 3, 2), np.float32)
    scores[..., 1] = 0.9, 0.5, 0.3
    pixels.add(scores, np.array([[[1, 0, 1]]], np.uint8))
    assert pixels.average_precisions()["raw"][1] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


@pytest.mark.parametrize("scale", [1e-3, 2, 100])
@pytest.mark.parametrize("as_log_probabilities", [False, True])
def test_average_precision_from_counts_is_that_of_scikit_learn(scale, as_log_probabilities):
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 3, (5, 80, 90), np.uint8)
    scores = ((rng.normal(size=(*masks.shape, 3)) + np.eye(3)[masks]) * scale).astype(np.float32)
    scores -= 0.25 * scale * np.float32(1)  # on both sides of zero
    if as_log_probabilities:
        scores -= np.log(np.exp(scores.astype(np.float64)).sum(axis=-1, keepdims=True))
    pixels = PixelScores(3)
    for part in (slice(0, 2), slice(2, 5)):
        pixels.add(scores[part], masks[part])
    found = pixels.average_precisions()
    for kind, values in (
        ("raw", scores),
        ("softmax", scores if as_log_probabilities else softmax(scores)),
    ):
        expected = [
            # By rank, since scikit-learn takes scores that are less than 1e-8 apart for equal.
            average_precision_score(
                masks.ravel() == c, np.unique(values[..., c], return_inverse=True)[1].ravel()
            )
            for c in range(3)
        ]
        np.testing.assert_allclose(found[kind], expected, atol=1e-4)


def test_equal_scores_count_as_equal():
    # A final ReLU leaves many zeros: all of them are passed at once, as in scikit-learn.
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (2, 40, 40), np.uint8)
    scores = np.maximum(rng.normal(size=(*masks.shape, 2)).astype(np.float32), 0)
    pixels = PixelScores(2)
    pixels.add(scores, masks)
    expected = [average_precision_score(masks.ravel() == c, scores[..., c].ravel()) for c in (0, 1)]
    np.testing.assert_allclose(pixels.average_precisions()["raw"], expected, atol=1e-4)


def test_a_class_that_never_occurs_has_no_average_precision():
    pixels = PixelScores(2)
    pixels.add(np.zeros((1, 2, 2, 2), np.float32), np.zeros((1, 2, 2), np.uint8))
    assert pixels.average_precisions()["raw"][1] is None
    assert pixels.precision_recall()["softmax"][1] is None


def test_counts_take_as_much_memory_for_many_images_as_for_one():
    scores, masks = np.zeros((1, 64, 64, 3), np.float32), np.zeros((1, 64, 64), np.uint8)
    pixels = PixelScores(3)
    pixels.add(scores, masks)
    tracemalloc.start()
    for _ in range(30):
        pixels.add(scores, masks)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < scores.nbytes
