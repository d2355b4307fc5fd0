"""A network with its optimiser, loss and metrics, as a configuration wants it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras

from tfproj.experiment.plan import Plan
from tfproj.models.registry import build_model
from tfproj.runs.config import TrainConfig
from tfproj.training.distillation import DistillationLoss, LabelAccuracy
from tfproj.training.losses import SoftmaxLoss
from tfproj.training.metrics import MEASURES, MeanAveragePrecision, Measure
from tfproj.training.multi_label import LabelAveragePrecision, SigmoidLoss
from tfproj.training.optimizers import make_optimizer
from tfproj.training.pipeline import steps_per_epoch

# Steps on small images take a few milliseconds, of which Keras' loop between them takes two.
# More pixels in a call would leave the progress bar and Ctrl-C waiting.
PIXELS_PER_CALL = 2**21


def compiled_model(planned: Plan, precision: str) -> tuple[keras.Model, int]:
    """(model under ``precision``, steps per epoch), randomly initialised from the current seed."""
    config = planned.config
    count = planned.examples
    steps = steps_per_epoch(count, min(config.batch_size, count))
    keras.config.set_dtype_policy(precision)
    model = build_model(planned.spec, config.model_options)
    model.compile(
        optimizer=make_optimizer(config, steps),
        loss=make_loss(
            config,
            len(planned.spec.classes),
            planned.dataset.void,
            [*planned.weights.values()] or None,
        ),
        metrics=_metrics(planned),
        steps_per_execution=steps_per_call(
            steps, min(config.batch_size, count) * math.prod(planned.spec.size)
        ),
        jit_compile=False,  # XLA is slower than oneDNN on CPUs in every case measured
    )
    return model, steps


def steps_per_call(steps: int, pixels: int) -> int:
    """How many of an epoch's ``steps``, of so many ``pixels`` each, TensorFlow does in one call.

    A divisor of ``steps``: one iterator serves all epochs, and a call must not run into the next.
    """
    most = max(1, PIXELS_PER_CALL // pixels)
    return max(count for count in range(1, min(most, steps) + 1) if steps % count == 0)


def _metrics(planned: Plan) -> list:
    config, classes = planned.config, len(planned.spec.classes)
    if config.multi_label:
        return [LabelAveragePrecision(classes, len(planned.dataset.splits["val"]))]
    found = train_accuracy(planned)
    if config.task == "segment":
        found.append(MeanAveragePrecision(classes))
    return found + [Measure(classes, config.monitor)] * (config.monitor in MEASURES)


def train_accuracy(planned: Plan) -> list[keras.metrics.Metric]:
    """The measure that training steps count, too; none of several labels an image."""
    if planned.config.multi_label:
        return []
    if planned.config.teacher or planned.dataset.void:
        return [LabelAccuracy(void=planned.dataset.void)]
    return [keras.metrics.SparseCategoricalAccuracy("accuracy")]


def make_loss(
    config: TrainConfig,
    classes: int,
    void: bool = False,
    weights: Sequence[float] | None = None,
) -> keras.losses.Loss:
    """The loss of scores against labels, meaned over examples (and pixels that are not ``void``).

    Keras' fused cross entropy is no faster: 0.97 times the UNet's images a second, 1.01 the CNN's.
    """
    if config.multi_label:
        return SigmoidLoss(config.label_smoothing)
    options = {"smoothing": config.label_smoothing, "dice": config.dice, "void": void}
    options["class_weights"] = weights
    if config.teacher:
        return DistillationLoss(classes, config.teacher_weight, config.temperature, **options)
    return SoftmaxLoss(classes, **options)
