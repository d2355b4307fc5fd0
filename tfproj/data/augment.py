"""Random changes to training batches, inside tf.data, the same for an image and its mask.

Each takes and returns uint8 image batches (B, H, W, C) with 0..255, labels int32 (B,) or masks
uint8 (B, H, W), and a seed int64 (2,): the result is a function of these alone. Masks are moved
by nearest neighbour, so a class index is never mixed with another.
"""

from __future__ import annotations

import math
from collections.abc import Callable

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
        labels = _move(labels[..., None], moves, "NEAREST")[..., 0]
    # Whole pixels: nearest is exact and cheaper than bilinear.
    return _move(images, moves, "NEAREST"), labels


def shift_flip_erase(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor):
    """``shift_flip``, then a rectangle of half the images becomes noise ("random erasing")."""
    images, labels = shift_flip(images, labels, seed)
    erased = _rectangles(images, seed, ERASE_AREA, ERASE_SHARE)
    noise = tf.random.stateless_uniform(
        tf.shape(images), seed + tf.constant([1 << 49, 0], tf.int64), 0, 256, tf.int32
    )
    return tf.where(erased[..., None], tf.cast(noise, images.dtype), images), labels


def _rectangles(images, seed: tf.Tensor, areas: tuple[float, float], share: float) -> tf.Tensor:
    """bool (B, H, W): a rectangle in a ``share`` of the images, of a share of the area."""
    draw = _Uniform(seed + tf.constant([1 << 48, 0], tf.int64), tf.shape(images)[0])
    height, width = images.shape[1:3]
    area = draw(*areas) * height * width
    aspect = tf.exp(draw(math.log(RECTANGLE_ASPECT), -math.log(RECTANGLE_ASPECT)))
    rows = _span(height, tf.sqrt(area * aspect), draw)
    columns = _span(width, tf.sqrt(area / aspect), draw)
    chosen = draw(0, 1) < share
    return rows[:, :, None] & columns[:, None, :] & chosen[:, None, None]


def _span(side: int, length: tf.Tensor, draw: _Uniform) -> tf.Tensor:
    """bool (B, side): a run of ``length`` (B,) pixels that lies within the side."""
    length = tf.minimum(tf.round(length), side)
    start = tf.floor(draw(0, 1) * (side - length + 1))
    place = tf.range(side, dtype=tf.float32)[None]
    return (place >= start[:, None]) & (place < (start + length)[:, None])


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
    pasted = _rectangles(images, seed, PASTE_AREA, PASTE_SHARE)
    others = tf.roll(images, 1, axis=0), tf.roll(masks, 1, axis=0)
    return tf.where(pasted[..., None], others[0], images), tf.where(pasted, others[1], masks)


def _photo(images, masks, matrix, zoom: tf.Tensor, draw: _Uniform):
    """Move images and masks by the matrix and within the room that ``zoom`` leaves; colours."""
    height, width = (tf.cast(side, tf.float32) for side in images.shape[1:3])
    room = tf.abs(1 - zoom) / 2
    moves = _moves(images, matrix, draw(-1, 1) * room * width, draw(-1, 1) * room * height)
    if masks.shape.rank == 3:
        masks = _move(masks[..., None], moves, "NEAREST")[..., 0]
    return _jitter(_move(images, moves, "BILINEAR", tf.float32), draw), masks


def _jitter(images: tf.Tensor, draw: _Uniform) -> tf.Tensor:
    """Brightness (a factor), contrast (about the image's mean), saturation (about its grey)."""
    brightness, contrast = draw(*BRIGHTNESS), draw(*CONTRAST)
    mean = tf.reduce_mean(images, axis=(1, 2, 3))
    # Both are affine, so one multiplication and one addition per pixel do.
    gain, bias = brightness * contrast, brightness * (1 - contrast) * mean
    images = images * _per_image(gain) + _per_image(bias)
    if images.shape[-1] == 3:
        saturation = _per_image(draw(*SATURATION))
        grey = tf.reduce_mean(images, axis=-1, keepdims=True)
        images = grey + (images - grey) * saturation
    return tf.cast(tf.clip_by_value(images, 0.0, 255.0) + 0.5, tf.uint8)


def _per_image(values: tf.Tensor) -> tf.Tensor:
    return values[:, None, None, None]


class _Uniform:
    """Independent draws (B,) float32; each call takes its own stream of the same seed."""

    def __init__(self, seed: tf.Tensor, count: tf.Tensor):
        self._seed, self._count, self._calls = tf.cast(seed, tf.int64), count, 0

    def __call__(self, low: float, high: float) -> tf.Tensor:
        self._calls += 1
        seed = self._seed + tf.constant([self._calls << 32, 0], tf.int64)
        return tf.random.stateless_uniform([self._count], seed, low, high)


def _moves(images, matrix, shift_x, shift_y) -> tf.Tensor:
    """(B, 8) projective matrices that map a target pixel to its source pixel about the centre.

    ``matrix``: (a, b, d, e), each (B,): source x = a x + b y, source y = d x + e y, and the shift.
    """
    center_x = (images.shape[2] - 1) / 2
    center_y = (images.shape[1] - 1) / 2
    a, b, d, e = matrix
    c = center_x + shift_x - a * center_x - b * center_y
    f = center_y + shift_y - d * center_x - e * center_y
    zero = tf.zeros_like(a)
    return tf.stack([a, b, c, d, e, f, zero, zero], axis=1)


def _move(images, moves, interpolation: str, dtype: tf.DType = tf.uint8) -> tf.Tensor:
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, dtype),
        transforms=moves,
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation=interpolation,
        fill_mode="REFLECT",
    )


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
