import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from tfproj.core.softmax import softmax
from tfproj.evaluation import metrics


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


def test_mean_leaves_out_what_is_undefined():
    assert metrics.mean([1.0, None, 0.5]) == 0.75
    assert metrics.mean([None]) is None


def test_average_precision_by_hand():
    # Ranked: hit, miss, hit. Precision at the hits: 1, 2/3; each adds half of the recall.
    value = metrics.average_precision(np.array([True, False, True]), np.array([0.9, 0.5, 0.3]))
    assert value == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert metrics.average_precision(np.array([False]), np.array([0.1])) is None


def test_pixel_scores_stream_to_what_scikit_learn_gives_at_once(monkeypatch):
    monkeypatch.setattr(metrics.PixelScores, "CHUNK", 100)
    rng = np.random.default_rng(0)
    masks = rng.integers(0, 3, (5, 8, 9), np.uint8)
    scores = (rng.normal(size=(5, 8, 9, 3)) * 2 + np.eye(3)[masks]).astype(np.float32)
    pixels = metrics.PixelScores(masks.size, 3)
    for part in (slice(0, 2), slice(2, 5)):
        pixels.add(scores[part], masks[part])
    found = pixels.average_precisions()
    for kind, values in (("raw", scores), ("softmax", softmax(scores))):
        expected = [
            average_precision_score(masks.ravel() == c, values[..., c].ravel()) for c in range(3)
        ]
        np.testing.assert_allclose(found[kind], expected, rtol=1e-6)
    assert found["raw"] != found["softmax"]


def test_a_class_that_never_occurs_has_no_average_precision():
    pixels = metrics.PixelScores(4, 2)
    pixels.add(np.zeros((1, 2, 2, 2), np.float32), np.zeros((1, 2, 2), np.uint8))
    assert pixels.average_precisions()["raw"][1] is None
