"""What speaks against the result of a training: said at once, and kept for the report."""

from __future__ import annotations

import math
import sys

import keras
import numpy as np

from tfproj.data.masks import IGNORE
from tfproj.experiment.mirroring import flips
from tfproj.experiment.plan import Plan
from tfproj.models.checkpoint import load_weights
from tfproj.runs.config import TrainConfig
from tfproj.runs.history import best_epoch, tied_epochs
from tfproj.runs.run import Run
from tfproj.training.cache import Cache
from tfproj.training.pipeline import epoch_order
from tfproj.training.validation_weights import ValidationWeights

SAMPLE = 500  # images, or as many as have
SAMPLE_PIXELS = 2**22
MARGIN = 0.1  # between two measures of one accuracy, besides chance
LEARNED = 0.3  # of the way from chance to 1: an accuracy far above chance
ONE_CLASS = 0.98  # share of the answers that makes them all one
FEW = 5  # images of a class that say nothing of it
AS_OFTEN = 0.7  # two counts of some ten coins each are seldom further apart

Sample = tuple[np.ndarray, np.ndarray]


class CollapseAlarm(keras.callbacks.Callback):
    """Says once, after the epoch, that every validation image gets one answer.

    Args:
        run, config: of the training.
        caches: of ``train`` and ``val``.
        kept: what is validated.
    """

    def __init__(self, run: Run, planned: Plan, caches: dict[str, Cache], kept: ValidationWeights):
        super().__init__()
        self._run, self._planned, self._caches, self._kept = run, planned, caches, kept

    def on_epoch_end(self, epoch, logs=None):
        config = self._planned.config
        if "collapse" in self._run.warnings() or logs["val_accuracy"] > logs["accuracy"] - MARGIN:
            return
        chance = _chance(_sample(self._caches["train"], config)[1])
        if logs["accuracy"] < chance + LEARNED * (1 - chance):
            return
        with self._kept.swapped_in():
            only = _only_answer(self.model, self._caches["val"], config)
        if only is not None:
            say(self._run, {"collapse": (
                f"the model has collapsed in epoch {epoch + 1}: it answers "
                f"{self._planned.spec.classes[only]!r} to every validation image, though its "
                f"accuracy in training is {logs['accuracy']:.3f}; most likely the validation "
                "images differ from the training images, or the steps are too large: look at both, "
                "try a smaller --learning-rate or more steps (a smaller --batch-size)"
            )})  # fmt: skip


def look_back(run: Run, planned: Plan, model: keras.Model, caches: dict[str, Cache]) -> None:
    """Say what is doubtful of the kept weights, which are read into the model."""
    config, history = planned.config, run.history()
    if config.multi_label:  # the other doubts are about the one answer to an image
        say(run, _tie(history, config))
        return
    load_weights(model, run.best_weights)
    images, targets = _sample(caches["train"], config)
    answers = _answers(model, images, config)
    found = _tie(history, config) | _forgotten(history, config, answers, targets)
    if "collapse" in run.warnings() and _only_answer(model, caches["val"], config) is None:
        run.drop_warning("collapse")  # a later epoch was better
    elif not found and config.task == "classify" and flips(config.augment):
        found = _mirrored(model, planned, *_sample(caches["val"], config))
    say(run, found)


def say(run: Run, found: dict[str, str]) -> None:
    """Print each sentence, and keep it with the run."""
    for text in found.values():
        print(f"warning: {text}", file=sys.stderr)
    run.add_warnings(found)


def _tie(history: list[dict], config: TrainConfig) -> dict[str, str]:
    column = config.monitored
    tied = tied_epochs(history, column)
    if not 1 < len(tied) == len(history) or tied[0][column] == 1:
        return {}
    return {"tie": (
        f"{column} was {tied[0][column]:.4f} in each of the {len(tied)} epochs, so it could not "
        "choose one; give more validation images, or other ones"
    )}  # fmt: skip


def _forgotten(
    history: list[dict], config: TrainConfig, answers: np.ndarray, targets: np.ndarray
) -> dict[str, str]:
    """Whether the kept weights know less of the training images than the training said."""
    last = history[-1]
    kept = last if config.keep == "last" else history[best_epoch(history, config.monitored) - 1]
    right, chance = float(np.mean((answers == targets)[_counted(targets)])), _chance(targets)
    noise = 3 * math.sqrt(kept["accuracy"] * (1 - kept["accuracy"]) / len(answers))
    # An earlier epoch than the last may know less by heart, but not less than half.
    if right >= kept["accuracy"] - MARGIN - noise:
        if right >= (last["accuracy"] + chance) / 2 - noise:
            return {}
        kept = last
    return {"kept": (
        f"the kept weights have an accuracy of {right:.3f} on {len(answers)} training images, "
        f"where epoch {kept['epoch']:.0f} counted {kept['accuracy']:.3f}: they do not hold what "
        "was learned; take more validation images, or more steps (a smaller --batch-size, more "
        "--epochs), or --keep last"
    )}  # fmt: skip


def _mirrored(
    model: keras.Model, planned: Plan, images: np.ndarray, labels: np.ndarray
) -> dict[str, str]:
    """Whether images of one class, as they are and mirrored, are called another as often.

    Of validation images: those of the training may be known by heart, both ways.
    """
    config, spec = planned.config, planned.spec
    counts = np.zeros((len(spec.classes),) * 2, int)
    np.add.at(counts, (labels, _answers(model, images, config)), 1)
    others = _answers(model, images[:, :, ::-1], config)
    np.add.at(counts, (labels, np.array(spec.mirrored)[others]), 1)
    own = counts.diagonal().copy()
    np.fill_diagonal(counts, 0)
    doubtful = (counts.sum(1) + own >= FEW) & (counts.max(1) > AS_OFTEN * own)
    if not doubtful.any():
        return {}
    first = int(np.argmax(np.where(doubtful, counts.max(1), -1)))
    own_name, other = spec.classes[first], spec.classes[int(counts[first].argmax())]
    return {"mirrored": (
        f"images of {own_name!r} are called {other!r} about as often as {own_name!r}, and "
        f"augmentation {config.augment!r} mirrors every other image; if these classes are mirror "
        "images of each other, train with --augment none or --augment shift"
    )}  # fmt: skip


def _sample(cache: Cache, config: TrainConfig) -> Sample:
    """Images uint8 (N, H, W, C) and targets of a drawn part, the same in every epoch."""
    count = min(SAMPLE, max(1, SAMPLE_PIXELS // math.prod(cache.image_shape[:2])))
    order = epoch_order(config.seed, 0, len(cache), cache.repeats)
    return cache.batch(np.sort(order[:count]))


def _answers(model: keras.Model, images: np.ndarray, config: TrainConfig) -> np.ndarray:
    """Class indices (N,) or (N, H, W)."""
    starts = range(0, len(images), config.eval_batch_size)
    scores = (model(images[i : i + config.eval_batch_size], training=False) for i in starts)
    return np.concatenate([keras.ops.convert_to_numpy(x).argmax(-1) for x in scores])


def _only_answer(model: keras.Model, cache: Cache, config: TrainConfig) -> int | None:
    """The class that is nearly every answer, where it is not nearly every target."""
    images, targets = _sample(cache, config)
    counts = np.bincount(_answers(model, images, config)[_counted(targets)], minlength=1)
    collapsed = counts.max() >= ONE_CLASS * counts.sum() and _chance(targets) < ONE_CLASS - MARGIN
    return int(counts.argmax()) if collapsed else None


def _chance(targets: np.ndarray) -> float:
    """Accuracy of the best single answer."""
    counted = targets[_counted(targets)]
    return float(np.bincount(counted, minlength=1).max() / max(1, counted.size))


def _counted(targets: np.ndarray) -> np.ndarray:
    """bool as ``targets``: labels, and pixels that are not void."""
    return np.full(targets.shape, True) if targets.ndim == 1 else targets != IGNORE
