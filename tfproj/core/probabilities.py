"""From logits to probabilities, and from those at the network's size to a mask at the photograph's.

``docs/onnx-contract.md`` has the steps of the mask for ports to other languages. Bands of rows are
worked on one after the other, so that no more than the mask itself is kept at the photograph's
size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

BAND_PIXELS = 2**17  # as float32, three such arrays stay in a CPU's cache


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities float32 over the last axis of float ``logits``."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    exponent = np.exp(shifted, dtype=np.float32)
    return exponent / exponent.sum(axis=-1, keepdims=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities float32 of float ``logits``, each by itself."""
    return np.exp(-np.logaddexp(0, -np.asarray(logits, np.float32)))


def probabilities_of(scores: np.ndarray, kind: str) -> np.ndarray:
    """What a graph makes of its float ``scores``; ``kind`` as of a ``ModelSpec``."""
    return sigmoid(scores) if kind == "multi_label" else softmax(scores)


def mean_with_mirrored(
    score: Callable[[np.ndarray], np.ndarray], images: np.ndarray, mirrored: Sequence[int]
) -> np.ndarray:
    """The mean of the scores of images and of those of their mirror images, brought back.

    Args:
        score: from (B, H, W, C) to float (B, classes) or (B, H, W, classes).
        images: uint8 (B, H, W, C).
        mirrored: the class of each class's mirror image: left and right change places.
    """
    scores, others = score(images), score(np.ascontiguousarray(images[:, :, ::-1]))
    others = others[..., list(mirrored)]
    return (scores + (others[:, :, ::-1] if scores.ndim == 4 else others)) / 2


def mask_of_size(probabilities: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize probabilities smoothly, then decide.

    Directions that shrink come first, by a triangle filter as wide as the scale. Those that grow
    are interpolated linearly between the centres of the pixels, the edge held.

    Args:
        probabilities: float32 (h, w, classes), 0..1, of at most 256 classes.
        size: (height, width) of the mask.

    Returns:
        uint8 (height, width), the most probable class of each pixel; of equal ones the first.
    """
    if probabilities.shape[:2] == size:
        return probabilities.argmax(axis=-1).astype(np.uint8)
    planes = _shrunk(np.ascontiguousarray(np.moveaxis(probabilities, -1, 0)), size)
    rows, columns = (_places(n, m) for n, m in zip(planes.shape[1:], size, strict=True))
    mask = np.zeros(size, np.uint8)
    band = max(1, BAND_PIXELS // size[1])
    for start in range(0, size[0], band):
        part = slice(start, start + band)
        low, share = rows[0][part], rows[1][part, None]
        below = planes[:, low[0] : low[-1] + 2]  # the last of them has a row after it, or is last
        wide = (_between(plane, *columns, axis=1) for plane in below)
        decide((_between(plane, low - low[0], share, axis=0) for plane in wide), mask[part])
    return mask


def _shrunk(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Planes float32 (classes, h, w) with no side larger than that of ``size``."""
    height, width = np.minimum(planes.shape[1:], size).tolist()
    if planes.shape[1:] == (height, width):
        return planes
    from PIL import Image  # noqa: PLC0415 (arrays are predicted without Pillow)

    def resized(plane: np.ndarray) -> np.ndarray:
        # Two steps, since the order that Pillow chooses depends on its version.
        rows = Image.fromarray(plane).resize((width, len(plane)), Image.Resampling.BILINEAR)
        return np.asarray(rows.resize((width, height), Image.Resampling.BILINEAR))

    return np.stack([resized(plane) for plane in planes])


def _places(n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the centres of m pixels lie among those of n: (index before, float32 share after)."""
    place = ((np.arange(m) + 0.5) * (n / m) - 0.5).clip(0, n - 1)
    low = place.astype(np.intp)
    return low, (place - low).astype(np.float32)


def _between(values: np.ndarray, low: np.ndarray, share: np.ndarray, axis: int) -> np.ndarray:
    """values[low] + (values[low + 1] - values[low]) * share, in float32, the last one held."""
    steps = np.diff(values, axis=axis, append=values.take([-1], axis))
    result = steps.take(low, axis)
    result *= share
    result += values.take(low, axis)
    return result


def decide(planes: Iterator[np.ndarray], mask: np.ndarray) -> None:
    """Write into uint8 ``mask``, which is 0, the index of the largest of float32 ``planes``."""
    best = next(planes)
    for index, plane in enumerate(planes, 1):
        better = plane > best  # not where equal: the first class keeps it
        np.maximum(best, plane, out=best)
        np.maximum(mask, better.view(np.uint8) * np.uint8(index), out=mask)
