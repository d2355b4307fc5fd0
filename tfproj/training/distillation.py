"""Learning from other models' answers ("distillation").

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015): beside the labels
a pupil learns the probabilities that its teachers give, which say what a class is mistaken for.
Teachers see the same augmented view as the pupil.
"""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
from scipy.special import softmax

from tfproj.data.masks import IGNORE
from tfproj.experiment.teachers import Teacher
from tfproj.inference.predictor import Predictor
from tfproj.training.losses import SoftmaxLoss


class Teachers:
    """What several models say of a batch, on average.

    Args:
        teachers: whose files are opened, with onnxruntime.
        temperature: their scores are divided by it, which evens their answers out.
    """

    def __init__(self, teachers: Sequence[Teacher], temperature: float):
        self._teachers = [(Predictor(t.file, threads=1), list(t.order)) for t in teachers]
        self._temperature = temperature
        self.classes = len(teachers[0].order)

    def pack(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Labels with the answers beside them, for :class:`DistillationLoss`.

        Args:
            images: uint8 (B, H, W, C); labels: int (B,) or (B, H, W).

        Returns:
            float32 (B, 1 + classes) or (B, H, W, 1 + classes).
        """
        scores = [teacher.run(images)[0][..., order] for teacher, order in self._teachers]
        answers = np.mean([softmax(s / self._temperature, axis=-1) for s in scores], axis=0)
        return np.concatenate([labels[..., None], answers], axis=-1, dtype=np.float32)


@keras.saving.register_keras_serializable("tfproj")
class DistillationLoss(SoftmaxLoss):
    """(1 - w) times the loss by the labels, and w T^2 KL(teachers || pupil) at temperature T.

    T^2 keeps the size of the gradients, as in the paper.

    Args:
        weight: w, 0..1.
        temperature: T, that of the teachers' answers.
        options: of :class:`tfproj.training.losses.SoftmaxLoss`.
    """

    def __init__(self, classes, weight=0.5, temperature=1.0, name="distillation_loss", **options):
        super().__init__(classes, name=name, **options)
        self.weight, self.temperature = weight, temperature

    def call(self, y_true, y_pred):
        """Packed targets (B, ..., 1 + classes), or labels (B, ...), which teach alone."""
        if len(y_true.shape) < len(y_pred.shape):
            return super().call(y_true, y_pred)
        answers = y_true[..., 1:]
        log_pupil = keras.ops.log_softmax(y_pred / self.temperature, axis=-1)
        log_answers = keras.ops.log(keras.ops.maximum(answers, 1e-12))
        divergence = keras.ops.sum(answers * (log_answers - log_pupil), axis=-1)
        divergence = self.counted(self.weighted(divergence, y_true[..., 0]), y_true[..., 0])
        labelled = super().call(y_true[..., 0], y_pred)
        return (1 - self.weight) * labelled + self.weight * self.temperature**2 * divergence

    def get_config(self):
        own = {"weight": self.weight, "temperature": self.temperature}
        return {**super().get_config(), **own}


@keras.saving.register_keras_serializable("tfproj")
class LabelAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """Accuracy by the labels of packed targets, or by labels.

    Args:
        void: pixels of the class 255 are not counted.
    """

    def __init__(self, name="accuracy", void=False, **kwargs):
        super().__init__(name=name, **kwargs)
        self.void = void

    def update_state(self, y_true, y_pred, sample_weight=None):
        if len(y_true.shape) == len(y_pred.shape):
            y_true = y_true[..., 0]
        if self.void:
            sample_weight = keras.ops.cast(y_true != IGNORE, "float32")
        return super().update_state(y_true, y_pred, sample_weight)

    def get_config(self):
        return {**super().get_config(), "void": self.void}
