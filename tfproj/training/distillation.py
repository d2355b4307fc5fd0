"""Learning from other models' answers ("distillation").

Hinton, Vinyals and Dean, "Distilling the Knowledge in a Neural Network" (2015): beside the labels
a pupil learns the probabilities that its teachers give, which say what a class is mistaken for.
Teachers see the same augmented view as the pupil. Where that is the image or its mirror image,
they are asked once.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence

import keras
import numpy as np
from scipy.special import softmax
from tqdm import tqdm

from tfproj.data.masks import IGNORE
from tfproj.experiment.teachers import Teacher
from tfproj.inference.predictor import Predictor
from tfproj.training.cache import Cache
from tfproj.training.losses import SoftmaxLoss

BLOCK = 256  # images that are answered at once where answers are kept
MOST_KEPT = 512 * 2**20  # bytes


class Teachers:
    """What several models say of a batch, on average.

    Args:
        teachers: whose files are opened, with onnxruntime.
        temperature: their scores are divided by it, which evens their answers out.
    """

    def __init__(self, teachers: Sequence[Teacher], temperature: float):
        # One thread each: those of onnxruntime that wait for work would take it from the training.
        self._teachers = [(Predictor(t.file, threads=1), list(t.order)) for t in teachers]
        self._temperature = temperature
        self.classes = len(teachers[0].order)
        self._kept: np.ndarray | None = None

    def pack(
        self, images: np.ndarray, labels: np.ndarray, views: tuple | None = None
    ) -> np.ndarray:
        """Labels with the answers beside them, for :class:`DistillationLoss`.

        Args:
            images: uint8 (B, H, W, C); labels: int (B,) or (B, H, W).
            views: (1 where it is the mirror image, else 0: int (B,); which example: int (B,)), if
                the images are nothing else; their answers may be known.

        Returns:
            float32 (B, 1 + classes) or (B, H, W, 1 + classes).
        """
        known = self._kept is not None and views is not None
        answers = self._kept[views] if known else self._answer(images)
        return np.concatenate([labels[..., None], answers], axis=-1, dtype=np.float32)

    def keep(self, cache: Cache, views: int, epochs: int) -> None:
        """Ask for all answers at once, if that is less work, and they are one an image.

        Args:
            cache: the examples.
            views: that the training sees of each: 1, or 2 with its mirror image.
            epochs: of the whole training, also where this is the rest of it: the last bit of an
                answer may depend on the images that are asked with it.
        """
        shape = (views, len(cache), self.classes)
        too_many = 4 * math.prod(shape) > MOST_KEPT
        if self._kept is not None or cache.target_shape or epochs <= views or too_many:
            return
        self._kept = np.empty(shape, np.float32)
        starts = range(0, len(cache), BLOCK)
        for start in tqdm(starts, "teachers", file=sys.stderr, leave=False, disable=None):
            images, _ = cache.batch(np.arange(start, min(start + BLOCK, len(cache))))
            for view, place in enumerate(self._kept[:, start : start + BLOCK]):
                place[:] = self._answer(images[:, :, ::-1] if view else images)

    def _answer(self, images: np.ndarray) -> np.ndarray:
        scores = [teacher.run(images)[0][..., order] for teacher, order in self._teachers]
        return np.mean([softmax(s / self._temperature, axis=-1) for s in scores], axis=0)


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
