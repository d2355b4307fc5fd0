"""Average precision from histograms against the one that sorts every pixel."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from tfproj import backend
from tfproj.core.probabilities import softmax

backend.setup()

import tensorflow as tf  # noqa: E402

from tfproj.training.metrics import MeanAveragePrecision  # noqa: E402


def example(classes=4, present=4, certain=3.0, scale=1.0):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, present, (6, 40, 40)).astype(np.uint8)
    noise = rng.normal(size=(*labels.shape, classes)) * 3
    scores = (noise + np.eye(classes)[labels] * certain) * scale
    return labels, scores.astype(np.float32)


def sorted_average(labels, scores):
    by_class = enumerate(softmax(scores).reshape(-1, scores.shape[-1]).T)
    values = [average_precision_score(labels.ravel() == c, p) for c, p in by_class
              if (labels == c).any()]  # fmt: skip
    return np.mean(values)


@pytest.mark.parametrize("arguments", [
        {}, {"present": 3}, {"certain": 40.0}, {"certain": -3.0}, {"scale": 0.3}, {"scale": 6.0},
        {"scale": 10.0},
    ])  # fmt: skip
def test_as_by_sorting(arguments):
    labels, scores = example(**arguments)
    metric = MeanAveragePrecision(scores.shape[-1])
    metric.switch(True)
    step = tf.function(metric.update_state)
    for start in range(0, len(labels), 2):
        step(labels[start : start + 2], scores[start : start + 2])
    assert float(metric.result()) == pytest.approx(sorted_average(labels, scores), abs=1e-3)
    metric.reset_state()
    step(labels, scores)
    assert float(metric.result()) == pytest.approx(sorted_average(labels, scores), abs=1e-3)


def test_counts_only_where_it_is_switched_on():
    labels, scores = example()
    metric = MeanAveragePrecision(scores.shape[-1])
    metric.update_state(labels, scores)
    assert float(metric.result()) == 0
