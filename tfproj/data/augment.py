"""Random changes to training batches, inside tf.data, the same for an image and its mask.

Each takes and returns uint8 image batches (B, H, W, C) with 0..255, labels int32 (B,) or masks
uint8 (B, H, W), and a seed int64 (2,): the result is a function of these alone. Masks are moved
by nearest neighbour, so a class index is never mixed with another.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

# Ranges of the "photo" policy. Scale and colour follow what nnU-Net uses (Isensee et al., 2021).
SCALE = (0.8, 1.4)
BRIGHTNESS = (0.75, 1.25)
CONTRAST = (0.75, 1.25)
SATURATION = (0.6, 1.4)
MAX_SHIFT = 2  # pixels, for "shift_flip"

Transform = Callable[[tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def shift_flip(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor):
    """Left-right flip of half the images, shift by up to 2 px; the edge is reflected."""
    draw = _Uniform(seed, tf.shape(images)[0])
    flip = tf.where(draw(0, 1) < 0.5, -1.0, 1.0)
    shift_x = tf.round(draw(-MAX_SHIFT - 0.5, MAX_SHIFT + 0.5))
    shift_y = tf.round(draw(-MAX_SHIFT - 0.5, MAX_SHIFT + 0.5))
    moves = _moves(images, flip, tf.ones_like(flip), shift_x, shift_y)
    # Whole pixels: nearest is exact and cheaper than bilinear.
    return _move(images, moves, "NEAREST"), labels


def photo(images: tf.Tensor, masks: tf.Tensor, seed: tf.Tensor):
    """Flip, scale 0.8 to 1.4 with a random crop, brightness, contrast and saturation.

    ``masks`` may be labels (B,), which a geometric change leaves as they are.
    """
    draw = _Uniform(seed, tf.shape(images)[0])
    flip = tf.where(draw(0, 1) < 0.5, -1.0, 1.0)
    zoom = 1 / draw(*SCALE)  # source pixels per target pixel
    height, width = (tf.cast(side, tf.float32) for side in images.shape[1:3])
    room = tf.abs(1 - zoom) / 2
    moves = _moves(images, flip, zoom, draw(-1, 1) * room * width, draw(-1, 1) * room * height)
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


def _moves(images, flip, zoom, shift_x, shift_y) -> tf.Tensor:
    """(B, 8) projective matrices that map a target pixel to its source pixel about the centre."""
    center_x = (images.shape[2] - 1) / 2
    center_y = (images.shape[1] - 1) / 2
    zero = tf.zeros_like(zoom)
    a, e = flip * zoom, zoom
    c = center_x + shift_x - a * center_x
    f = center_y + shift_y - e * center_y
    return tf.stack([a, zero, c, zero, e, f, zero, zero], axis=1)


def _move(images, moves, interpolation: str, dtype: tf.DType = tf.uint8) -> tf.Tensor:
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, dtype),
        transforms=moves,
        output_shape=tf.shape(images)[1:3],
        fill_value=0.0,
        interpolation=interpolation,
        fill_mode="REFLECT",
    )


AUGMENT: dict[str, Transform | None] = {"none": None, "shift_flip": shift_flip, "photo": photo}
