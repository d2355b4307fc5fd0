"""The first epoch of a training from an encoder: its last layer, fitted to features computed once.

A logistic regression on the encoder's features takes seconds, and on a few hundred photographs no
fine-tuning was better. So it is the result that later epochs have to beat ("linear probing, then
fine-tuning", Kumar et al., "Fine-Tuning can Distort Pretrained Features", 2022).
"""

from __future__ import annotations

import sys

import keras
import numpy as np
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from tfproj.experiment.mirroring import flips
from tfproj.experiment.plan import Plan
from tfproj.models.encoder import DENSE
from tfproj.training.cache import Cache
from tfproj.training.multi_label import SigmoidLoss
from tfproj.training.pipeline import epoch_order, eval_batches

# The mean loss counts so many times the L2 penalty, for features of a mean of 0 and a mean square
# of 1: in cross-validation on 50 to 480 flowers the best or within half a point of it.
FIT = 10.0
ITERATIONS = 1000
# More than these views would take minutes, and are enough for so few weights.
VIEWS = 20_000
BATCH = 16


def fit_last_layer(
    model: keras.Model,
    planned: Plan,
    caches: dict[str, Cache],
    listeners: list[keras.callbacks.Callback],
) -> None:
    """Epoch 1: the weights of the last layer, and the callbacks' begin and end of an epoch.

    Args:
        model: compiled, its last layer ``dense``.
        caches: of ``train`` and ``val``.
        listeners: are called as by ``fit``, with the same logs.
    """
    callbacks = keras.callbacks.CallbackList(listeners, model=model, epochs=planned.config.epochs)
    callbacks.set_params({"epochs": planned.config.epochs, "steps": 0, "verbose": 0})
    model.optimizer.build(model.trainable_variables)
    callbacks.on_train_begin()
    callbacks.on_epoch_begin(0)
    logs = _fit(model, planned, caches["train"])
    batches = eval_batches(caches["val"], planned.config.eval_batch_size)
    model.evaluate(batches.take(1), verbose=0)  # metrics can be switched on once they were called
    measured = model.evaluate(batches, callbacks=listeners, verbose=0, return_dict=True)
    callbacks.on_epoch_end(0, logs | {f"val_{name}": value for name, value in measured.items()})


def _fit(model: keras.Model, planned: Plan, cache: Cache) -> dict[str, float]:
    """Fit the last layer; what an epoch's logs say of the training images."""
    config = planned.config
    mirror = flips(config.augment)
    chosen = np.sort(epoch_order(config.seed, 0, len(cache))[: VIEWS // (1 + mirror)])
    features, labels = _features(model, cache, chosen, mirror), cache.targets[chosen]
    swapped = np.array(planned.spec.mirrored)
    several = labels.ndim == 2
    targets = [labels, labels[:, swapped] if several else swapped[labels]][: len(features)]
    importance = None if several else _importance(planned, chosen, targets)
    together = np.concatenate(features), np.concatenate(targets), len(planned.spec.classes)
    kernel, bias = _regressions(*together) if several else _regression(*together, importance)
    model.get_layer(DENSE).set_weights([kernel, bias])
    if several:
        return {"loss": float(SigmoidLoss()(labels, features[0] @ kernel + bias))}
    likelihoods = log_softmax(features[0] @ kernel + bias, axis=1)
    losses = -likelihoods[np.arange(len(labels)), labels]
    loss = (
        losses.mean() if importance is None else np.average(losses, None, importance[: len(losses)])
    )
    accuracy = np.mean(likelihoods.argmax(1) == labels)
    return {"accuracy": float(accuracy), "loss": float(loss)}


def _features(
    model: keras.Model, cache: Cache, chosen: np.ndarray, mirror: bool
) -> list[np.ndarray]:
    """What the last layer sees, float32 (N, filters), of the images and of their mirror images."""
    last = keras.Model(model.input, model.get_layer(DENSE).input)
    views = [[], []][: 1 + mirror]
    starts = range(0, len(chosen), BATCH)
    for start in tqdm(starts, "features", file=sys.stderr, leave=False, disable=None):
        images, _ = cache.batch(chosen[start : start + BATCH])
        for view, side in zip(views, (images, images[:, :, ::-1]), strict=False):
            view.append(np.asarray(last.predict_on_batch(side)))
    return [np.concatenate(view) for view in views]


def _importance(planned: Plan, chosen: np.ndarray, targets: list[np.ndarray]) -> np.ndarray | None:
    """float (N,): class weight times repeat factor of each view, with a mean of 1; None: all 1."""
    if not planned.weights and planned.repeats is None:
        return None
    weights = np.array([*planned.weights.values()] or [1.0] * len(planned.spec.classes))
    repeats = 1.0 if planned.repeats is None else planned.repeats[chosen]
    found = np.concatenate([weights[labels] * repeats for labels in targets])
    return found / found.mean()


def _regressions(
    features: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`_regression` for labels (N, classes): one of each class against the rest."""
    kernel, bias = np.zeros((features.shape[1], classes)), np.zeros(classes)
    for index, own in enumerate(labels.T):
        if own.any() and not own.all():
            # The score of one of two classes is the other's opposite: they are the log odds apart.
            both = _regression(features, own, 2)
            kernel[:, index], bias[index] = (part[..., 1] - part[..., 0] for part in both)
        else:
            bias[index] = 30.0 if own.all() else -30.0
    return kernel, bias


def _regression(
    features: np.ndarray, labels: np.ndarray, classes: int, importance: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Kernel (filters, classes) and bias; a class without an example is never answered."""
    mean = features.mean(0)
    scale = np.sqrt(np.mean((features - mean) ** 2)) or 1.0  # one for all: they share a unit
    regression = LogisticRegression(C=FIT / len(labels), max_iter=ITERATIONS)
    regression.fit((features - mean) / scale, labels, importance)
    slopes, offsets = regression.coef_ / scale, regression.intercept_
    if len(slopes) == 1:  # of two classes, one score: the other's is its opposite
        slopes, offsets = np.stack([-slopes[0], slopes[0]]) / 2, np.array([-1, 1]) * offsets / 2
    kernel, bias = np.zeros((slopes.shape[1], classes)), np.full(classes, -30.0)
    kernel[:, regression.classes_] = slopes.T
    bias[regression.classes_] = offsets - slopes @ mean
    return kernel, bias
