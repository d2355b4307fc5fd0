"""Loss and metric where an image has any number of labels: each class is decided by itself."""

from __future__ import annotations

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("tfproj")
class SigmoidLoss(keras.losses.Loss):
    """Binary cross entropy, meaned over the classes; on request smoothed.

    Args:
        smoothing: the targets 0 and 1 become smoothing / 2 and 1 - smoothing / 2.
    """

    def __init__(self, smoothing=0.0, name="sigmoid_loss", **kwargs):
        super().__init__(name=name, **kwargs)
        self.smoothing = smoothing

    def call(self, y_true, y_pred):
        """Labels 0 and 1 and scores, both (B, classes) -> losses (B,)."""
        target = keras.ops.cast(y_true, y_pred.dtype) * (1 - self.smoothing) + self.smoothing / 2
        return keras.ops.mean(keras.ops.softplus(y_pred) - target * y_pred, axis=-1)

    def get_config(self):
        return {**super().get_config(), "smoothing": self.smoothing}


@keras.saving.register_keras_serializable("tfproj")
class LabelAveragePrecision(keras.metrics.Metric):
    """Mean over the classes of the average precision of validation images, exactly.

    As ``tfproj.evaluation.labels.average_precision``, from every score. It counts only between
    :meth:`switch` on and off: training steps call the metrics as well.

    Args:
        classes: number of classes.
        examples: at most so many images.
    """

    def __init__(self, classes, examples, name="mean_ap", **kwargs):
        super().__init__(name=name, **kwargs)
        self.classes, self.examples = classes, examples
        shape = {"shape": (examples, classes), "initializer": "zeros", "dtype": "float32"}
        self.scores = self.add_weight(**shape, name="scores")
        self.labels = self.add_weight(**shape, name="labels")
        self.seen = self.add_weight(shape=(), initializer="zeros", dtype="int32", name="seen")
        self.counting = keras.Variable(False, dtype="bool", trainable=False, name="counting")

    def switch(self, on: bool) -> None:
        self.counting.assign(on)

    def reset_state(self):
        self.seen.assign(0)

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Labels 0 and 1 and scores, both (B, classes)."""
        count = tf.where(self.counting.value, tf.shape(y_pred)[0], 0)
        places = tf.range(self.seen.value, self.seen.value + count)[:, None]
        for variable, values in ((self.scores, y_pred), (self.labels, y_true)):
            values = tf.cast(values[:count], tf.float32)
            variable.assign(tf.tensor_scatter_nd_update(variable.value, places, values))
        self.seen.assign_add(count)

    def result(self):
        """float32 scalar; classes without an image do not count."""
        return tf.cond(self.counting.value, self._mean, lambda: 0.0)

    def _mean(self):
        seen = self.seen.value
        scores, labels = (tf.transpose(v.value[:seen]) for v in (self.scores, self.labels))
        order = tf.argsort(scores, axis=-1, direction="DESCENDING")
        ranked = -tf.gather(scores, order, batch_dims=1)
        true = tf.gather(labels, order, batch_dims=1)
        # Equal scores share a threshold, which lets all of them pass.
        last = tf.searchsorted(ranked, ranked, side="right")
        hits = tf.gather(tf.cumsum(true, axis=-1), last - 1, batch_dims=1)
        precision, total = hits / tf.cast(last, tf.float32), tf.reduce_sum(true, -1)
        means = tf.reduce_sum(true * precision, -1) / tf.maximum(total, 1)
        present = tf.reduce_sum(tf.cast(total > 0, tf.float32))
        return tf.reduce_sum(means) / tf.maximum(present, 1)

    def get_config(self):
        own = {"classes": self.classes, "examples": self.examples}
        return {**super().get_config(), **own}
