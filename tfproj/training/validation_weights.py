"""The weights that validation measures and ``best.keras`` holds; the training goes on with its own.

They are the moving average where the optimiser keeps one (``--ema``), else the latest; either with
batch norm statistics that fit them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

# A moving mean and variance start at 0 and 1. What is left of that after n steps, momentum ** n, is
# lost in a norm's epsilon of 0.001 once it is a hundredth of it: after 110 steps at momentum 0.9.
LEFT_OF_START = 1e-5


class ValidationWeights:
    """Puts what is validated and kept into the model for a while.

    The moving mean and variance of a norm follow the latest weights, from their start at 0 and 1.
    Twenty steps are too few to arrive: a training of 80 photographs had an accuracy of 1.0 in its
    own batches and of 0.5 with them. And they fit no average of the weights: half way through a
    short training of clothes it had 85.75 % with them, and 87.52 % with its own (Izmailov et al.,
    "Averaging Weights Leads to Wider Optima", 2018, section 3.2). So both come from training images
    again, until the moving ones have arrived at those of the latest weights.

    Args:
        model: compiled.
        batches: uint8 (B, H, W, C) each; none: the moving statistics stay.
    """

    def __init__(self, model: keras.Model, batches: Sequence[np.ndarray]):
        self._model, self._batches = model, batches
        self._norms = norms(model)
        self._step = -1  # of the statistics below
        self._statistics: list[np.ndarray] = []
        self._latest: list[tuple[keras.Variable, Any]] = []  # while others are in

    @contextlib.contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Inside the block the model holds what is kept; then the latest."""
        self.swap_in()
        try:
            yield
        finally:
            self.swap_out()

    def swap_in(self) -> None:
        """Put what is kept into the model, until :meth:`swap_out`."""
        optimizer = self._model.optimizer
        averages = getattr(optimizer, "_model_variables_moving_average", None) or []
        # Before the first step an average holds nothing.
        averages = averages if optimizer.use_ema and int(optimizer.iterations) else []
        if not averages and self._arrived():
            return
        trained = optimizer._trainable_variables if averages else []
        moving = [v for norm in self._norms for v in (norm.moving_mean, norm.moving_variance)]
        self._latest = [(v, keras.ops.copy(v.value)) for v in (*trained, *moving)]
        for variable, average in zip(trained, averages, strict=True):
            variable.assign(average)
        step = int(optimizer.iterations)
        if step != self._step:
            self._estimate_statistics()
            self._step, self._statistics = step, [v.numpy() for v in moving]
        for variable, value in zip(moving, self._statistics, strict=True):
            variable.assign(value)

    def swap_out(self) -> None:
        """Bring back the latest weights."""
        for variable, value in self._latest:
            variable.assign(value)
        self._latest = []

    def _arrived(self) -> bool:
        """Whether nothing of their start is left in the moving statistics."""
        steps = int(self._model.optimizer.iterations)
        return all(norm.momentum**steps < LEFT_OF_START for norm in self._norms)

    def _estimate_statistics(self) -> None:
        """Let every norm's mean and variance be the mean of those of all batches."""
        momenta = [norm.momentum for norm in self._norms]
        try:
            for count, images in enumerate(self._batches):
                for norm in self._norms:
                    norm.momentum = count / (count + 1)
                self._model(images, training=True)
        finally:
            for norm, momentum in zip(self._norms, momenta, strict=True):
                norm.momentum = momentum


def norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """The batch norms of a model whose statistics a training moves."""
    kind = keras.layers.BatchNormalization
    return [layer for layer in model.layers if isinstance(layer, kind) and layer.trainable]
