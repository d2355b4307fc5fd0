"""How a picture comes to the model's size: the policies of ``ModelSpec.resize``.

All sizes are (height, width). The geometry is in whole numbers, so that a port is exact;
docs/onnx-contract.md spells it out.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from tfproj.core.spec import PAD


def resized(picture: Image.Image, size: tuple[int, int], policy: str = "stretch") -> Image.Image:
    """A picture of mode ``L`` or ``RGB`` at exactly ``size``; one of that size is unchanged.

    Args:
        policy: ``stretch``: whatever the proportions. ``crop``: the largest centred part of the
            right proportions. ``letterbox``: the whole, centred, the rest filled with ``PAD``.
            ``tiles``: the window in the middle, at the picture's own scale.
    """
    if policy == "tiles":
        return Image.fromarray(middle_window(np.asarray(picture), size))
    if policy == "crop":
        picture = picture.crop(crop_box(picture.size[::-1], size))
    if policy != "letterbox":
        return _stretched(picture, size)
    rows, columns = inner_box(picture.size[::-1], size, policy)
    inner = (rows.stop - rows.start, columns.stop - columns.start)
    canvas = Image.new(picture.mode, size[::-1], (PAD,) * len(picture.getbands()))
    canvas.paste(_stretched(picture, inner), (columns.start, rows.start))
    return canvas


def middle_window(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The (height, width) in the middle of an array (H, W, ...); the whole, mirrored, of less."""
    rows, columns = (
        mirrored(max(0, (n - m) // 2), m, n) for n, m in zip(pixels.shape, size, strict=False)
    )
    return pixels[rows[:, None], columns]


def mirrored(first: int, count: int, n: int) -> np.ndarray:
    """Places ``first`` to ``first + count`` along ``n`` pixels, thrown back at either end.

    The pixel at the end comes twice: ... 2 1 0 | 0 1 2 ... n-1 | n-1 n-2 ...
    """
    place = np.arange(first, first + count) % (2 * n)
    return np.minimum(place, 2 * n - 1 - place)


def crop_box(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the largest centred part that has ``target``'s proportions.

    Its free side is rounded to the nearest pixel, half up and at least 1. An odd rest is cut off at
    the right or at the bottom.
    """
    (h, w), (height, width) = size, target
    if w * height > h * width:
        inner = h, _divided(h * width, height)
    else:
        inner = _divided(w * height, width), w
    top, left = (h - inner[0]) // 2, (w - inner[1]) // 2
    return left, top, left + inner[1], top + inner[0]


def letterbox_size(size: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """The largest (height, width) within ``target`` that has ``size``'s proportions.

    Rounded as in :func:`crop_box`.
    """
    (h, w), (height, width) = size, target
    if w * height > h * width:
        return _divided(h * width, w), width
    return height, _divided(w * height, h)


def inner_box(size: tuple[int, int], target: tuple[int, int], policy: str) -> tuple[slice, slice]:
    """Rows and columns of ``target`` that show the picture of ``size``, and no letterbox's rest."""
    if policy != "letterbox":
        return slice(0, target[0]), slice(0, target[1])
    rows, columns = letterbox_size(size, target)
    top, left = (target[0] - rows) // 2, (target[1] - columns) // 2
    return slice(top, top + rows), slice(left, left + columns)


def _divided(a: int, b: int) -> int:
    """a / b to the nearest whole number, half up, at least 1."""
    return max(1, (2 * a + b) // (2 * b))


def _stretched(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    # In two steps, since the rounding in between depends on their order and Pillow 13 takes the one
    # that is less work. A direction that keeps its size is not resampled.
    for step in ((size[1], picture.height), (size[1], size[0])):
        picture = picture.resize(step, Image.Resampling.BILINEAR)
    return picture
