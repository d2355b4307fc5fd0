"""Random changes to training batches, inside tf.data, the same for an image and its mask.

Each takes and returns uint8 image batches (B, H, W, C) with 0..255, labels int32 (B,) or masks
uint8 (B, H, W), and a seed int64 (2,): the result is a function of these alone. Masks are moved
by nearest neighbour, so a class index is never mixed with another.

TensorFlow draws, OpenCV moves and colours: a tenth of the time that TensorFlow's own operators
take, which the training step would wait for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
import tensorflow as tf

# Ranges of the "photo" policy. Scale and colour follow what nnU-Net uses (Isensee et al., 2021).
SCALE = (0.8, 1.4)
WIDE_SCALE = (0.7, 1.6)
ASPECT = (0.8, 1.25)  # width by height
TURN = math.radians(6)
BRIGHTNESS = (0.75, 1.25)
CONTRAST = (0.75, 1.25)
SATURATION = (0.6, 1.4)
MAX_SHIFT = 2  # pixels, for "shift_flip"
# Random erasing: share of images, share of the area (Zhong et al., 2020).
ERASE_SHARE = 0.5
ERASE_AREA = (0.02, 0.4)
RECTANGLE_ASPECT = 0.3  # height by width, and up to its inverse

Transform = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


# Pasting a part of another photograph ("CutMix", Yun et al., 2019): share of images, of the area.
PASTE_SHARE = 0.5
PASTE_AREA = (0.1, 0.5)


def shift_flip(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor):
    """Left-right flip of half the images, shift by up to 2 px; the edge is reflected."""
    draw = _Uniform(seed, tf.shape(images)[0])
    flip = tf.where(draw(0, 1) < 0.5, -1.0, 1.0)
    shift_x = tf.round(draw(-MAX_SHIFT - 0.5, MAX_SHIFT + 0.5))
    shift_y = tf.round(draw(-MAX_SHIFT - 0.5, MAX_SHIFT + 0.5))
    zero = tf.zeros_like(flip)
    moves = _moves(images, (flip, zero, zero, tf.ones_like(flip)), shift_x, shift_y)
    if labels.shape.rank == 3:
        labels = _move(labels, moves, cv2.INTER_NEAREST)
    # Whole pixels: nearest is exact and cheaper than bilinear.
    return _move(images, moves, cv2.INTER_NEAREST), labels


def shift_flip_erase(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor):
    """``shift_flip``, then a rectangle of half the images becomes noise ("random erasing")."""
    images, labels = shift_flip(images, labels, seed)
    noise = tf.random.stateless_uniform(
        tf.shape(images), seed + tf.constant([1 << 49, 0], tf.int64), 0, 256, tf.int32
    )
    boxes = _rectangles(images, seed, ERASE_AREA, ERASE_SHARE)
    return _paste(tf.cast(noise, images.dtype), images, boxes), labels


def _rectangles(images, seed: tf.Tensor, areas: tuple[float, float], share: float) -> tf.Tensor:
    """int32 (B, 4): top, bottom, left, right of a rectangle with a share of the area.

    In a ``share`` of the images; in the others it is empty.
    """
    draw = _Uniform(seed + tf.constant([1 << 48, 0], tf.int64), tf.shape(images)[0])
    height, width = images.shape[1:3]
    area = draw(*areas) * height * width
    aspect = tf.exp(draw(math.log(RECTANGLE_ASPECT), -math.log(RECTANGLE_ASPECT)))
    rows = _span(height, tf.sqrt(area * aspect), draw)
    columns = _span(width, tf.sqrt(area / aspect), draw)
    chosen = draw(0, 1) < share
    return tf.where(chosen[:, None], tf.cast(tf.stack([*rows, *columns], axis=1), tf.int32), 0)


def _span(side: int, length: tf.Tensor, draw: _Uniform) -> tuple[tf.Tensor, tf.Tensor]:
    """First (B,) and one after the last of ``length`` (B,) pixels that lie within the side."""
    length = tf.minimum(tf.round(length), side)
    start = tf.floor(draw(0, 1) * (side - length + 1))
    return start, start + length


def _paste(sources: tf.Tensor, images: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Images or masks with the rectangles of others, which lie in the same places there."""
    return _on_each(_copy_box, sources, images, boxes)


def _copy_box(source: np.ndarray, image: np.ndarray, box: np.ndarray, pasted: np.ndarray) -> None:
    top, bottom, left, right = box
    pasted[:] = image
    pasted[top:bottom, left:right] = source[top:bottom, left:right]


def photo(images: tf.Tensor, masks: tf.Tensor, seed: tf.Tensor):
    """Flip, scale 0.8 to 1.4 with a random crop, brightness, contrast and saturation.

    ``masks`` may be labels (B,), which a geometric change leaves as they are.
    """
    draw = _Uniform(seed, tf.shape(images)[0])
    flip = tf.where(draw(0, 1) < 0.5, -1.0, 1.0)
    zoom = 1 / draw(*SCALE)  # source pixels per target pixel
    zero = tf.zeros_like(zoom)
    return _photo(images, masks, (flip * zoom, zero, zero, zoom), zoom, draw)


def photo_wide(images: tf.Tensor, masks: tf.Tensor, seed: tf.Tensor):
    """Like ``photo`` with scale 0.7 to 1.6, either side by itself, and a turn of up to 6 degrees.

    For long trainings, which see every image often.
    """
    draw = _Uniform(seed, tf.shape(images)[0])
    flip = tf.where(draw(0, 1) < 0.5, -1.0, 1.0)
    zoom = 1 / draw(*WIDE_SCALE)
    stretch = tf.sqrt(draw(*ASPECT))
    angle = draw(-TURN, TURN)
    cos, sin = tf.cos(angle) * zoom, tf.sin(angle) * zoom
    matrix = (flip * cos * stretch, -sin * stretch, flip * sin / stretch, cos / stretch)
    return _photo(images, masks, matrix, zoom, draw)


def photo_mix(images: tf.Tensor, masks: tf.Tensor, seed: tf.Tensor):
    """``photo_wide``, then half the images get a rectangle of another one, with its mask.

    Raises:
        ValueError: labels (B,), which can't be cut.
    """
    if masks.shape.rank != 3:
        raise ValueError("photo_mix is for masks")
    images, masks = photo_wide(images, masks, seed)
    boxes = _rectangles(images, seed, PASTE_AREA, PASTE_SHARE)
    images, masks = (_paste(tf.roll(x, 1, axis=0), x, boxes) for x in (images, masks))
    return images, masks


def _photo(images, masks, matrix, zoom: tf.Tensor, draw: _Uniform):
    """Move images and masks by the matrix and within the room that ``zoom`` leaves; colours."""
    height, width = (tf.cast(side, tf.float32) for side in images.shape[1:3])
    room = tf.abs(1 - zoom) / 2
    moves = _moves(images, matrix, draw(-1, 1) * room * width, draw(-1, 1) * room * height)
    if masks.shape.rank == 3:
        masks = _move(masks, moves, cv2.INTER_NEAREST)
    return _jitter(_move(images, moves, cv2.INTER_LINEAR), draw), masks


def _jitter(images: tf.Tensor, draw: _Uniform) -> tf.Tensor:
    """Brightness (a factor), contrast (about the image's mean), saturation (about its grey)."""
    factors = tf.stack([draw(*BRIGHTNESS), draw(*CONTRAST), draw(*SATURATION)], axis=1)
    return _on_each(_recolor, images, factors)


def _recolor(image: np.ndarray, factors: np.ndarray, changed: np.ndarray) -> None:
    """Write ``image`` (H, W, C) to ``changed``; all three are affine, so one matrix does."""
    brightness, contrast, saturation = factors
    channels = image.shape[-1]
    mean = sum(cv2.mean(image)) / channels
    grey = np.full((channels, channels), (1 - saturation) / channels)
    gain = brightness * contrast * (grey + saturation * np.eye(channels))
    bias = np.full((channels, 1), brightness * (1 - contrast) * mean)
    cv2.transform(image, np.hstack([gain, bias]), changed)  # rounds, and clips to 0..255


class _Uniform:
    """Independent draws (B,) float32; each call takes its own stream of the same seed."""

    def __init__(self, seed: tf.Tensor, count: tf.Tensor):
        self._seed, self._count, self._calls = tf.cast(seed, tf.int64), count, 0

    def __call__(self, low: float, high: float) -> tf.Tensor:
        self._calls += 1
        seed = self._seed + tf.constant([self._calls << 32, 0], tf.int64)
        return tf.random.stateless_uniform([self._count], seed, low, high)


def _moves(images, matrix, shift_x, shift_y) -> tf.Tensor:
    """(B, 2, 3) affine matrices that map a target pixel to its source pixel about the centre.

    ``matrix``: (a, b, d, e), each (B,): source x = a x + b y, source y = d x + e y, and the shift.
    """
    center_x = (images.shape[2] - 1) / 2
    center_y = (images.shape[1] - 1) / 2
    a, b, d, e = matrix
    c = center_x + shift_x - a * center_x - b * center_y
    f = center_y + shift_y - d * center_x - e * center_y
    return tf.stack([tf.stack([a, b, c], axis=1), tf.stack([d, e, f], axis=1)], axis=1)


def _move(images: tf.Tensor, moves: tf.Tensor, interpolation: int) -> tf.Tensor:
    """Images or masks moved by :func:`_moves`; beyond the edge they are reflected."""
    return _on_each(partial(_warp, interpolation | cv2.WARP_INVERSE_MAP), images, moves)


def _warp(flags: int, image: np.ndarray, move: np.ndarray, moved: np.ndarray) -> None:
    cv2.warpAffine(image, move, image.shape[1::-1], moved, flags, cv2.BORDER_REFLECT)


def _on_each(change: Callable[..., None], *batches: tf.Tensor) -> tf.Tensor:
    """What ``change(*(one of each batch), changed)`` writes to ``changed``, like the first's.

    ``change`` is no nested function: TensorFlow's AutoGraph would rewrite it into a slower one.
    """
    call = partial(_each, change)
    changed = tf.numpy_function(call, batches, batches[0].dtype, stateful=False)
    changed.set_shape(batches[0].shape)
    return changed


def _each(change: Callable[..., None], *batches: np.ndarray) -> np.ndarray:
    changed = np.empty_like(batches[0], order="C")
    for arguments in zip(*batches, changed, strict=True):
        change(*arguments)
    return changed


AUGMENT: dict[str, Transform | None] = {
    "none": None,
    "shift_flip": shift_flip,
    "shift_flip_erase": shift_flip_erase,
    "photo": photo,
    "photo_wide": photo_wide,
    "photo_mix": photo_mix,
}


def for_statistics(name: str) -> str:
    """The augmentation of the images that give averaged weights their batch norm statistics.

    None: plain images are what the model will meet. But one that was trained with noise in every
    other image is better with the statistics of these (``benchmarks/averaging.py``).
    """
    return name if name == "shift_flip_erase" else "none"
