"""From a split to batches: decode -> resize -> cache -> shuffle -> batch -> augment -> prefetch.

Every batch is a function of (seed, step) alone: the order of epoch ``e`` is drawn
from ``[seed, e]``, the images that even epochs mirror and odd ones don't from ``[seed, 0, 2]``, and
the rest of the augmentation of step ``s`` from ``[seed, s, 1]``. A run can thus start at any step
and see what an uninterrupted run sees.

TensorFlow only carries the batches: its own operators take several times as long as OpenCV to move
and colour images, and the training step would wait.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import tensorflow as tf

from tfproj.experiment.mirroring import flips
from tfproj.training.augment import AUGMENT, mirror, pastes
from tfproj.training.cache import Cache
from tfproj.training.distillation import Teachers

# Of an epoch that batch norm's statistics are taken from: so many batches, and so many images.
FIRST_BATCHES = 16
FIRST_IMAGES = 128


def epoch_order(seed: int, epoch: int, count: int, repeats: np.ndarray | None = None) -> np.ndarray:
    """The permutation of ``count`` examples for one epoch: int64 (count,).

    With ``repeats`` float (count,) as many are drawn, each in proportion: by systematic sampling,
    so that one that is due 2.3 times comes two or three times.
    """
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(count)
    if repeats is None:
        return order
    ends = np.cumsum(repeats[order])
    drawn = np.searchsorted(ends / ends[-1] * count, np.arange(count) + rng.random(), "right")
    return rng.permutation(order[drawn])


@lru_cache(maxsize=2)
def mirrored_in(seed: int, epoch: int, count: int) -> np.ndarray:
    """Which of ``count`` examples an epoch shows from right to left: bool (count,).

    Half of them, and the next epoch the others, so that every image is seen both ways in two
    epochs; were each flip drawn, half the images would not be ("alternating flip", Jordan, "94% on
    CIFAR-10 in 3.29 Seconds on a Single GPU", 2024).
    """
    first = np.random.default_rng([seed, 0, 2]).random(count) < 0.5
    return first ^ (epoch % 2 == 1)


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Whole batches in an epoch; what is left over is most likely in the next, of another order."""
    return max(1, count // batch_size)


@dataclass(frozen=True)
class Share:
    """Of each batch, divided into ``parts`` alike, the ``count`` parts from ``first`` on.

    A part has neighbours in the order of the split: most of its images come again and again, and
    few of the others need to be decoded.
    """

    parts: int = 1
    first: int = 0
    count: int = 1

    def places(self, part: int, chosen: np.ndarray) -> np.ndarray:
        """Where in a batch of the examples ``chosen`` int (B,) its share lies: int (B / parts,)."""
        if self.parts == 1:
            return np.arange(len(chosen))
        length, start = len(chosen) // self.parts, self.first + part
        return np.sort(np.argsort(chosen, kind="stable")[start * length : (start + 1) * length])


ALL = Share()


def train_batches(
    cache: Cache,
    batch_size: int,
    epochs: range,
    seed: int,
    augment: str,
    mirrored: Sequence[int] | None = None,
    teachers: Teachers | None = None,
    share: Share = ALL,
) -> tf.data.Dataset:
    """Shuffled, augmented batches of all ``epochs`` through one iterator.

    One iterator for all epochs, and autotune off: tearing down an iterator waits for the
    autotune thread, which sleeps up to half an epoch (TensorFlow 2.21).

    Args:
        mirrored: the class of each class's mirror image, see ``ModelSpec.mirrored``; None: its own.
        teachers: whose answers go with the labels.
        share: what is wanted of each batch; its parts come one by one.

    Returns:
        (image uint8 (B, H, W, C), label int32 (B,) or uint8 (B, classes) or mask uint8 (B, H, W),
        or what ``Teachers.pack`` makes of them).
    """
    batch_size = min(batch_size, len(cache))
    steps = steps_per_epoch(len(cache), batch_size)
    transform = AUGMENT[augment]
    classes = None if mirrored is None else np.arange(max(256, len(mirrored)))  # 255 is void
    if classes is not None:
        classes[: len(mirrored)] = mirrored

    @lru_cache(maxsize=2)
    def order_of(epoch: int) -> np.ndarray:
        return epoch_order(seed, epoch, len(cache), cache.repeats)

    def gather(index: np.int64) -> tuple[np.ndarray, np.ndarray]:
        step, part = divmod(int(index), share.count)
        epoch, place = divmod(step, steps)
        chosen = order_of(epoch)[place * batch_size : (place + 1) * batch_size]
        places = share.places(part, chosen)
        images, targets = view(step, epoch, chosen, places)
        if share.parts > 1:
            images, targets, chosen = images[places], targets[places], chosen[places]
        if not teachers:
            return images, targets
        mirrored = mirrored_in(seed, epoch, len(cache))[chosen] & flips(augment)
        seen = (mirrored.astype(int), chosen) if transform is None else None
        return images, teachers.pack(images, targets, seen)

    def view(step: int, epoch: int, chosen: np.ndarray, places: np.ndarray) -> tuple:
        batch = _read(cache, chosen, epoch, places, pastes(augment))
        if flips(augment):
            batch = mirror(*batch, mirrored_in(seed, epoch, len(cache))[chosen], classes)
        if transform is None:
            return batch
        return transform(*batch, np.random.default_rng([seed, step, 1]))

    if teachers and transform is None:
        teachers.keep(cache, 1 + flips(augment), epochs.stop)
    bounds = (epoch * steps * share.count for epoch in (epochs.start, epochs.stop))
    dataset = tf.data.Dataset.range(*bounds)
    kinds = (tf.float32, (1 + teachers.classes,)) if teachers else None
    dataset = dataset.map(_numpy_batch(gather, cache, batch_size // share.parts, kinds))
    return dataset.prefetch(4).with_options(_options())


def _read(
    cache: Cache, chosen: np.ndarray, epoch: int, places: np.ndarray, pasted: bool
) -> tuple[np.ndarray, np.ndarray]:
    """The examples ``chosen`` of a batch, or those at its ``places`` alone, and zeros elsewhere.

    So a part has what an augmentation draws for it among the whole batch; and what it pastes.
    """
    if len(places) == len(chosen):
        return cache.batch(chosen, epoch)
    if pasted:
        places = np.union1d(places, (places - 1) % len(chosen))
    whole = []
    for part in cache.batch(chosen[places], epoch):
        whole.append(np.zeros((len(chosen), *part.shape[1:]), part.dtype))
        whole[-1][places] = part
    return whole[0], whole[1]


def first_batches(cache: Cache, batch_size: int, seed: int, augment: str) -> list[np.ndarray]:
    """Images of the first batches of the first epoch, for the statistics of batch norm.

    Returns:
        uint8 (B, H, W, C) each.

    Raises:
        InputError: one of them can't be read.
    """
    count = max(FIRST_BATCHES, math.ceil(FIRST_IMAGES / batch_size))
    # Decoded here, where an unreadable file is named; TensorFlow would bury it in its own error.
    cache.fill(epoch_order(seed, 0, len(cache), cache.repeats)[: count * batch_size])
    batches = train_batches(cache, batch_size, range(1), seed, augment)
    return [images.numpy() for images, _ in batches.take(count)]


def eval_batches(cache: Cache, batch_size: int) -> tf.data.Dataset:
    """All examples once, in order; the last batch may be smaller."""
    starts = tf.data.Dataset.range(0, len(cache), batch_size)

    def gather(start: np.int64) -> tuple[np.ndarray, np.ndarray]:
        return cache.batch(np.arange(start, min(start + batch_size, len(cache))))

    dataset = starts.map(_numpy_batch(gather, cache, None)).prefetch(2)
    # Keras can't count the elements of a map over Python code.
    count = -(-len(cache) // batch_size)
    return dataset.apply(tf.data.experimental.assert_cardinality(count)).with_options(_options())


def _numpy_batch(gather, cache: Cache, batch_size: int | None, packed: tuple | None = None):
    """``packed``: (dtype, further shape) of targets that are not the cache's own."""
    kind, more = packed or (tf.as_dtype(cache.target_dtype), ())
    kinds = (tf.uint8, kind)
    shapes = (batch_size, *cache.image_shape), (batch_size, *cache.target_shape, *more)

    def load(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        tensors = tf.numpy_function(gather, [step], kinds, stateful=False)
        for tensor, shape in zip(tensors, shapes, strict=True):
            tensor.set_shape(shape)
        return tuple(tensors)

    return load


def _options() -> tf.data.Options:
    # No threads of tf.data's own: one or two of them train 1.01 to 1.02 times as fast.
    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = True
    return options
