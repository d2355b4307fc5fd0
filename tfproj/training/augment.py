"""Random changes to training batches, the same for an image and its mask.

Each takes uint8 images (B, H, W, C) with 0..255, labels int32 (B,) or uint8 (B, classes) or masks
uint8 (B, H, W), and a generator, and returns new ones: they are a function of these alone. Masks
are moved by nearest neighbour, so a class index is never mixed with another.

The flip that comes before each of them is not drawn here: an image and its mirror image take turns
(:func:`mirror`, and ``mirrored_in`` in ``tfproj/training/pipeline.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import cv2
import numpy as np

# Ranges of the "photo" policy. Scale and colour follow what nnU-Net uses (Isensee et al., 2021).
SCALE = (0.8, 1.4)
WIDE_SCALE = (0.7, 1.6)
ASPECT = (0.8, 1.25)  # width by height
TURN = math.radians(6)
BRIGHTNESS = (0.75, 1.25)
CONTRAST = (0.75, 1.25)
SATURATION = (0.6, 1.4)
MAX_SHIFT = 2  # pixels
# Random erasing: share of images, share of the area (Zhong et al., 2020).
ERASE_SHARE = 0.5
ERASE_AREA = (0.02, 0.4)
# Pasting a part of another photograph ("CutMix", Yun et al., 2019): share of images, of the area.
PASTE_SHARE = 0.5
PASTE_AREA = (0.1, 0.5)
RECTANGLE_ASPECT = 0.3  # height by width, and up to its inverse

Batch = tuple[np.ndarray, np.ndarray]
Transform = Callable[[np.ndarray, np.ndarray, np.random.Generator], Batch]


def mirror(
    images: np.ndarray, labels: np.ndarray, chosen: np.ndarray, classes: np.ndarray | None = None
) -> Batch:
    """Those of ``chosen`` bool (B,) from right to left, masks with them.

    ``classes`` (classes,): what each label, or class in a mask, becomes in a mirror image; None:
    stays.
    """
    changed = _mirror(labels, chosen) if labels.ndim == 3 else labels.copy()
    if classes is not None and labels.ndim == 2:  # each class takes the column of its mirror image
        changed[chosen] = labels[chosen][:, classes[: labels.shape[1]]]
    elif classes is not None:
        changed[chosen] = classes[changed[chosen]]
    return _mirror(images, chosen), changed


def _mirror(arrays: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    changed = arrays.copy()
    changed[chosen] = arrays[chosen, :, ::-1]
    return changed


def shift(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Batch:
    """Shift by up to 2 px; the edge is reflected."""
    shifts = rng.integers(-MAX_SHIFT, MAX_SHIFT, (2, len(images)), endpoint=True)
    moves = _moves(images, (1, 0, 0, 1), *shifts)
    # Whole pixels: nearest is exact and cheaper than bilinear.
    return _move(images, moves, cv2.INTER_NEAREST), _move_masks(labels, moves)


def erase(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Batch:
    """A rectangle of half the images becomes noise ("random erasing")."""
    images = images.copy()
    for index, box in _rectangles(images, rng, ERASE_AREA, ERASE_SHARE):
        erased = images[index][box]
        erased[:] = rng.integers(0, 256, erased.shape, np.uint8)
    return images, labels


def shift_erase(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Batch:
    """``shift``, then ``erase``."""
    return erase(*shift(images, labels, rng), rng)


def photo(images: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> Batch:
    """Scale 0.8 to 1.4 with a random crop, brightness, contrast and saturation.

    ``masks`` may be labels (B,), which a geometric change leaves as they are.
    """
    zoom = 1 / rng.uniform(*SCALE, len(images))  # source pixels per target pixel
    return _photo(images, masks, (zoom, 0, 0, zoom), zoom, rng)


def photo_wide(images: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> Batch:
    """Like ``photo`` with scale 0.7 to 1.6, either side by itself, and a turn of up to 6 degrees.

    For long trainings, which see every image often.
    """
    zoom = 1 / rng.uniform(*WIDE_SCALE, len(images))
    stretch = np.sqrt(rng.uniform(*ASPECT, len(images)))
    angle = rng.uniform(-TURN, TURN, len(images))
    cos, sin = np.cos(angle) * zoom, np.sin(angle) * zoom
    matrix = (cos * stretch, -sin * stretch, sin / stretch, cos / stretch)
    return _photo(images, masks, matrix, zoom, rng)


def photo_mix(images: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> Batch:
    """``photo_wide``, then half the images get a rectangle of another one, with its mask.

    Raises:
        ValueError: labels (B,), which can't be cut.
    """
    if masks.ndim != 3:
        raise ValueError("photo_mix is for masks")
    images, masks = photo_wide(images, masks, rng)
    whole_images, whole_masks = images.copy(), masks.copy()
    for index, box in _rectangles(images, rng, PASTE_AREA, PASTE_SHARE):
        images[index][box] = whole_images[index - 1][box]
        masks[index][box] = whole_masks[index - 1][box]
    return images, masks


def _photo(images, masks, matrix, zoom: np.ndarray, rng: np.random.Generator) -> Batch:
    """Move images and masks by the matrix and within the room that ``zoom`` leaves; colours."""
    height, width = images.shape[1:3]
    room = np.abs(1 - zoom) / 2
    shift_x, shift_y = rng.uniform(-1, 1, (2, len(images))) * room * [[width], [height]]
    moves = _moves(images, matrix, shift_x, shift_y)
    moved = _move(images, moves, cv2.INTER_LINEAR)
    return _jitter(moved, rng), _move_masks(masks, moves)


def _jitter(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Brightness (a factor), contrast (about the image's mean), saturation (about its grey)."""
    ranges = np.array([BRIGHTNESS, CONTRAST, SATURATION])
    factors = rng.uniform(*ranges.T, (len(images), 3))
    return np.stack([_recolor(*each) for each in zip(images, factors, strict=True)])


def _recolor(image: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """(H, W, C) of another brightness, contrast and saturation; all are affine: one matrix does."""
    brightness, contrast, saturation = factors
    channels = image.shape[-1]
    mean = sum(cv2.mean(image)) / channels
    grey = np.full((channels, channels), (1 - saturation) / channels)
    gain = brightness * contrast * (grey + saturation * np.eye(channels))
    bias = np.full((channels, 1), brightness * (1 - contrast) * mean)
    changed = cv2.transform(image, np.hstack([gain, bias]))  # rounds, and clips to 0..255
    return changed.reshape(image.shape)


def _rectangles(
    images: np.ndarray, rng: np.random.Generator, areas: tuple[float, float], share: float
) -> Iterator[tuple[int, tuple[slice, slice]]]:
    """Index and (rows, columns) of a rectangle in a ``share`` of the images, of so much area."""
    count, height, width = images.shape[:3]
    area = rng.uniform(*areas, count) * height * width
    limit = -math.log(RECTANGLE_ASPECT)
    aspect = np.exp(rng.uniform(-limit, limit, count))
    rows = _spans(height, np.sqrt(area * aspect), rng)
    columns = _spans(width, np.sqrt(area / aspect), rng)
    for index in np.flatnonzero(rng.random(count) < share):
        yield index, (rows[index], columns[index])


def _spans(side: int, lengths: np.ndarray, rng: np.random.Generator) -> list[slice]:
    """A run of each of ``lengths`` (B,) pixels that lies within the side."""
    lengths = np.minimum(np.round(lengths), side).astype(int)
    starts = rng.integers(0, side - lengths, endpoint=True)
    return list(map(slice, starts, starts + lengths))


def _moves(images: np.ndarray, matrix, shift_x, shift_y) -> np.ndarray:
    """(B, 2, 3) affine matrices that map a target pixel to its source pixel about the centre.

    ``matrix``: (a, b, d, e), each (B,): source x = a x + b y, source y = d x + e y, and the shift.
    """
    center_x = (images.shape[2] - 1) / 2
    center_y = (images.shape[1] - 1) / 2
    a, b, d, e = matrix
    c = center_x + shift_x - a * center_x - b * center_y
    f = center_y + shift_y - d * center_x - e * center_y
    moves = np.empty((len(images), 2, 3))
    for place, value in zip(np.ndindex(2, 3), (a, b, c, d, e, f), strict=True):
        moves[:, *place] = value
    return moves


def _move(images: np.ndarray, moves: np.ndarray, interpolation: int) -> np.ndarray:
    """Images or masks moved by :func:`_moves`; beyond the edge they are reflected."""
    moved = np.empty(images.shape, np.uint8)
    size, flags = images.shape[2:0:-1], interpolation | cv2.WARP_INVERSE_MAP
    for image, move, target in zip(images, moves, moved, strict=True):
        cv2.warpAffine(image, move, size, target, flags, cv2.BORDER_REFLECT)
    return moved


def _move_masks(labels: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Masks moved; labels (B,) stay, as they are of the whole image."""
    return _move(labels, moves, cv2.INTER_NEAREST) if labels.ndim == 3 else labels


# What follows the flip, if anything does; those of experiment/mirroring.py have no flip.
AUGMENT: dict[str, Transform | None] = {
    "none": None,
    "shift": shift,
    "shift_erase": shift_erase,
    "flip": None,
    "shift_flip": shift,
    "shift_flip_erase": shift_erase,
    "photo": photo,
    "photo_wide": photo_wide,
    "photo_mix": photo_mix,
}


def pastes(name: str) -> bool:
    """Whether an image gets parts of the one before it in the batch, or of the last."""
    return AUGMENT[name] is photo_mix


def for_statistics(name: str) -> str:
    """The augmentation of the images that give averaged weights their batch norm statistics.

    None: plain images are what the model will meet. But one that was trained with noise in every
    other image is better with the statistics of these (89.97 % after 8 epochs, and 89.65 % with
    those of plain images).
    """
    return name if name.endswith("_erase") else "none"
