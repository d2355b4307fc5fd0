"""Measures of a whole validation split while a training runs, from counts."""

from __future__ import annotations

import math

import keras

from tfproj.data.masks import IGNORE


class Counts(keras.metrics.Metric):
    """Counts whose sum over the batches is that of the split, so that a measure of them is exact.

    Training steps call the metrics as well, where it would cost time and say little: it counts only
    between :meth:`switch` on and off. A subclass has ``_count`` and ``result``.

    Args:
        classes: number of classes.
        shape: of the counts.
    """

    def __init__(self, classes, shape, name, **kwargs):
        super().__init__(name=name, **kwargs)
        self.classes = classes
        # float64: whole numbers up to 2**53.
        self.counts = self.add_weight(
            shape=shape, initializer="zeros", dtype="float64", name="counts"
        )
        self.counting = keras.Variable(False, dtype="bool", trainable=False, name="counting")

    def switch(self, on: bool) -> None:
        self.counting.assign(on)

    def reset_state(self):
        self.counts.assign(keras.ops.zeros_like(self.counts))

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Class indices (B, ...) and scores (B, ..., classes); see Teachers.pack for others."""
        if len(y_true.shape) == len(y_pred.shape):
            y_true = y_true[..., 0]
        found = keras.ops.cond(
            self.counting.value,
            lambda: self._count(y_true, y_pred),
            lambda: keras.ops.zeros(self.counts.shape, "float64"),
        )
        self.counts.assign_add(found)

    def _bins(self, index):
        """How often each index of the counts is there; further ones are left out."""
        size = math.prod(self.counts.shape)
        index = keras.ops.reshape(keras.ops.minimum(index, size), (-1,))
        found = keras.ops.bincount(index, minlength=size + 1)[:size]
        return keras.ops.cast(keras.ops.reshape(found, self.counts.shape), "float64")

    def get_config(self):
        return {**super().get_config(), "classes": self.classes}


@keras.saving.register_keras_serializable("tfproj")
class MeanAveragePrecision(Counts):
    """Mean over the classes of the average precision by softmax, over all pixels seen but void.

    ``metrics.average_precision`` sorts every pixel; this one counts them in bins of the log odds,
    so that an epoch's validation keeps some hundred kilobytes. The two differ by less than 0.001
    in the tests, be the scores of a pixel 1 or 100 apart.

    Args:
        classes: number of classes.
    """

    BINS = 8192
    # The log odds that float32 can tell apart: of 1e-38, and of the number next to 1.
    LOW, HIGH = -87.5, 17.5

    def __init__(self, classes, name="mean_ap", **kwargs):
        super().__init__(classes, (classes, 2, self.BINS), name, **kwargs)

    def _count(self, y_true, y_pred):
        scores = keras.ops.cast(keras.ops.reshape(y_pred, (-1, self.classes)), "float32")
        probability = keras.ops.softmax(scores, axis=-1)
        rest = keras.ops.maximum(1 - probability, 1e-8)
        odds = keras.ops.log(keras.ops.maximum(probability, 1e-38)) - keras.ops.log(rest)
        place = (odds - self.LOW) * (self.BINS / (self.HIGH - self.LOW))
        place = keras.ops.cast(keras.ops.clip(place, 0, self.BINS - 1), "int32")
        labels = keras.ops.reshape(keras.ops.cast(y_true, "int32"), (-1, 1))
        classes = keras.ops.arange(self.classes, dtype="int32")[None]
        is_class = keras.ops.cast(labels == classes, "int32")
        index = (classes * 2 + is_class) * self.BINS + place
        beyond = self.classes * 2 * self.BINS
        return self._bins(keras.ops.where(labels == IGNORE, beyond, index))

    def result(self):
        """float32 scalar; classes without pixels do not count."""
        from_above = keras.ops.cumsum(keras.ops.flip(self.counts, axis=-1), axis=-1)
        false, true = from_above[:, 0], from_above[:, 1]
        total = true[:, -1:]
        precision = true / keras.ops.maximum(true + false, 1)
        gained = keras.ops.flip(self.counts[:, 1], axis=-1)
        area = keras.ops.sum(gained * precision, axis=-1, keepdims=True)
        present = keras.ops.cast(total > 0, "float64")
        means = keras.ops.sum(area / keras.ops.maximum(total, 1)) / keras.ops.maximum(
            keras.ops.sum(present), 1
        )
        return keras.ops.cast(means, "float32")


def _over(part, whole, present):
    """Mean of part / whole over the classes that are present."""
    count = keras.ops.sum(keras.ops.cast(present, part.dtype))
    ratios = part / keras.ops.maximum(whole, 1)  # 0 where absent: part is 0, too
    return keras.ops.sum(ratios) / keras.ops.maximum(count, 1)


# Of a confusion matrix: hits, true and predicted ones of each class; as evaluation/metrics.py.
MEASURES = {
    "balanced_accuracy": lambda hits, true, said: _over(hits, true, true > 0),
    "macro_f1": lambda hits, true, said: _over(2 * hits, true + said, true + said > 0),
    "mean_iou": lambda hits, true, said: _over(hits, true + said - hits, true + said > 0),
}
COUNTED = ("mean_ap", *MEASURES)  # in validation only


@keras.saving.register_keras_serializable("tfproj")
class Measure(Counts):
    """A measure of the confusion matrix, by its name in :data:`MEASURES`; void is left out."""

    def __init__(self, classes, name, **kwargs):
        super().__init__(classes, (classes, classes), name, **kwargs)

    def _count(self, y_true, y_pred):
        labels = keras.ops.cast(y_true, "int32")
        answers = keras.ops.cast(keras.ops.argmax(y_pred, axis=-1), "int32")
        return self._bins(labels * self.classes + answers)

    def result(self):
        """float32 scalar."""
        hits = keras.ops.diagonal(self.counts)
        true, said = keras.ops.sum(self.counts, axis=1), keras.ops.sum(self.counts, axis=0)
        return keras.ops.cast(MEASURES[self.name](hits, true, said), "float32")
