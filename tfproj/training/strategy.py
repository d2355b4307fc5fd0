"""Training on several GPUs of a machine (``--device 0,1``), or on several machines (``TF_CONFIG``).

Every device has a replica of the model and computes a part of each batch; what they have learned is
added. So a step is that of one device with the whole batch, but for rounding and dropout.

``fit`` of Keras 3.15.1 can't do it (keras-team/keras issues 20585 and 19246): among several
workers it reduces a tuple of batches, and means over the first axis of scalars. So the steps are
taken here, by a twin of the model on all devices. After each epoch worker 0 takes over the
twin's weights into the plain model, and does with it what a training on one device does: validates,
writes checkpoints and history, stops. The others write nothing. Where ``fit`` can, a test of
``tests/test_strategy.py`` fails and says that this file may go.
"""

from __future__ import annotations

import math

import keras
import numpy as np
import tensorflow as tf

from tfproj.experiment.plan import Plan
from tfproj.models.registry import build_model
from tfproj.training import callbacks, pipeline
from tfproj.training.cache import Cache
from tfproj.training.compiling import make_loss, train_accuracy
from tfproj.training.optimizers import make_optimizer
from tfproj.training.together import Together, lost_workers


def fit(together: Together, planned: Plan, ready, listeners: list, done: int) -> None:
    """The epochs from ``done`` on, which worker 0 says, as do the weights that they start from.

    Args:
        ready: with ``model``, ``steps``, ``caches`` and ``teachers``.
        listeners: callbacks of worker 0.
    """
    with lost_workers():
        _fit(together, planned, ready, listeners, done)


def _fit(together: Together, planned: Plan, ready, listeners: list, done: int) -> None:
    config, model, first = planned.config, ready.model, together.is_first
    model.optimizer.build(model.trainable_variables)
    begin = np.int32(done).tobytes() + b"".join(v.numpy().tobytes() for v in _variables(model))
    begin = together.exchange(begin if first else b"")[0]
    done = int(np.frombuffer(begin[:4], np.int32)[0])
    twin = _Twin(together, planned, ready.steps, begin[4:])
    batches = twin.batches(ready.caches["train"], range(done, config.epochs), ready.teachers)
    reports = keras.callbacks.CallbackList(
        listeners, model=model, epochs=config.epochs, steps=ready.steps
    )
    model.stop_training = False
    reports.on_train_begin()
    if first:  # metrics are there, to be switched on, once they were called
        model.evaluate(_validation(planned, ready.caches).take(1), verbose=0)
    for epoch in range(done, config.epochs):
        reports.on_epoch_begin(epoch)
        logs = twin.epoch(epoch, batches, reports)
        if first:
            twin.copy_to(model)
            found = model.evaluate(
                _validation(planned, ready.caches), callbacks=reports, verbose=0, return_dict=True
            )
            reports.on_epoch_end(epoch, logs | {f"val_{k}": v for k, v in found.items()})
        if together.exchange(b"stop" if model.stop_training else b"")[0]:
            break
    reports.on_train_end()


def _validation(planned: Plan, caches: dict[str, Cache]) -> tf.data.Dataset:
    return pipeline.eval_batches(caches["val"], planned.config.eval_batch_size)


def _variables(model: keras.Model) -> list[keras.Variable]:
    return [*model.weights, *model.optimizer.variables]


class _Twin:
    """A model on all devices, and its steps."""

    def __init__(self, together: Together, planned: Plan, steps: int, values: bytes):
        self._together, self._planned, self._steps = together, planned, steps
        config, spec = planned.config, planned.spec
        with together.strategy.scope():
            self.model = build_model(spec, config.model_options)
            self.model.optimizer = make_optimizer(config, steps)
            self.model.optimizer.build(self.model.trainable_variables)
            weights = [*planned.weights.values()] or None
            self._loss = make_loss(config, len(spec.classes), planned.dataset.void, weights)
            self._metrics = [keras.metrics.Mean("loss"), *train_accuracy(planned)]
            for layer in self.model.layers:
                if isinstance(layer, keras.layers.BatchNormalization):
                    layer.synchronized = True  # Keras' own, of an encoder
            for variable in _variables(self.model):
                value = np.frombuffer(
                    values, tf.as_dtype(variable.dtype).as_numpy_dtype, math.prod(variable.shape)
                )
                values = values[value.nbytes :]
                variable.assign(value.reshape(variable.shape))
        self._reseed = callbacks.Reseed(config.seed)
        self._reseed.set_model(self.model)

    def batches(self, cache: Cache, epochs: range, teachers) -> tf.distribute.DistributedIterator:
        """Of this worker's share of the batches of all ``epochs``."""
        config = self._planned.config

        def make(context) -> tf.data.Dataset:
            batches = pipeline.train_batches(
                cache, config.batch_size, epochs, config.seed, config.augment,
                self._planned.spec.mirrored, teachers, self._together.share,
            )  # fmt: skip
            # Else the workers ask each other before every step whether there is another.
            endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
            return batches.apply(endless)

        return iter(self._together.strategy.distribute_datasets_from_function(make))

    def epoch(self, epoch: int, batches, reports: keras.callbacks.CallbackList) -> dict[str, float]:
        """Take the steps of an epoch; what the logs say of the training images."""
        with self._together.strategy.scope():
            self._reseed.on_epoch_begin(epoch)
            for metric in self._metrics:
                metric.reset_state()
        for step in range(self._steps):
            reports.on_train_batch_end(step, {"loss": self._step(batches)})
        with self._together.strategy.scope():
            return {metric.name: float(metric.result()) for metric in self._metrics}

    @tf.function
    def _step(self, batches):
        strategy = self._together.strategy
        losses = strategy.run(self._train_step, (next(batches),))
        return strategy.experimental_local_results(losses)[0]

    def _train_step(self, batch):
        images, targets = batch
        with tf.GradientTape() as tape:
            scores = self.model(images, training=True)
            loss = self._loss(targets, scores)  # a part of the mean over the whole batch
        trained = self.model.trainable_variables
        gradients = tape.gradient(loss, [v.value for v in trained])
        self.model.optimizer.apply(gradients, trained)
        loss *= self._together.share.parts
        self._metrics[0].update_state(loss)
        for metric in self._metrics[1:]:
            metric.update_state(targets, scores)
        return loss

    def copy_to(self, model: keras.Model) -> None:
        """Give a model without a strategy the weights, and its optimiser the state."""
        locally = self._together.strategy.experimental_local_results
        for own, other in zip(_variables(self.model), _variables(model), strict=True):
            other.assign(locally(own.value)[0])
