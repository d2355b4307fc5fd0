"""Where in a photograph a network found what speaks for a class, as a map and as a picture."""

from __future__ import annotations

import numpy as np
from PIL import Image

from tfproj.core.resizing import crop_box, letterbox_size

# Dark blue to yellow, in steps that all kinds of colour vision see alike: cividis (Nuñez, Anderton,
# Renslow, PLOS ONE 2018) at 0, 1/4, 1/2, 3/4 and 1.
COLORS = ((0, 34, 78), (65, 77, 107), (124, 123, 120), (188, 175, 111), (254, 232, 56))


def heat_map(
    places: np.ndarray, size: tuple[int, int], target: tuple[int, int], resize: str = "stretch"
) -> np.ndarray:
    """What speaks for a class at each place, in the photograph's own geometry.

    Args:
        places: float32 (h, w), over the network's whole input.
        size: (height, width) of the photograph.
        target: of the network's input.
        resize: how the one became the other, of ``tfproj.core.spec.RESIZES``.

    Returns:
        float32 (height, width): 0 where least speaks for the class, 1 where most does; NaN where
        the network saw nothing, beside a crop.
    """
    (h, w), (left, top, right, bottom) = places.shape, (0, 0, size[1], size[0])
    box = (0.0, 0.0, float(w), float(h))
    if resize == "crop":
        left, top, right, bottom = crop_box(size, target)
    elif resize == "letterbox":
        rows, columns = letterbox_size(size, target)
        first = (target[0] - rows) // 2, (target[1] - columns) // 2
        scale = h / target[0], w / target[1]
        box = (first[1] * scale[1], first[0] * scale[0],
               (first[1] + columns) * scale[1], (first[0] + rows) * scale[0])  # fmt: skip
    seen = Image.fromarray(np.ascontiguousarray(places, np.float32)).resize(
        (right - left, bottom - top), Image.Resampling.BILINEAR, box
    )
    values = np.asarray(seen)
    found = np.full(size, np.nan, np.float32)
    found[top:bottom, left:right] = (values - values.min()) / (np.ptp(values) or 1)
    return found


def heated(picture: Image.Image, heat: np.ndarray, alpha: float = 0.6) -> Image.Image:
    """The grey picture under the colours of a :func:`heat_map`, darkened where there is none.

    Args:
        picture: mode ``L`` or ``RGB``.
        heat: of the picture's size.
        alpha: weight of the colours, 0..1.
    """
    stops = np.linspace(0, 1, len(COLORS))
    values = np.nan_to_num(heat)
    colors = np.stack([np.interp(values, stops, channel) for channel in zip(*COLORS, strict=True)])
    grey = np.asarray(picture.convert("L"), np.float32)[None]
    mixed = np.where(np.isnan(heat), grey / 3, (1 - alpha) * grey + alpha * colors)
    return Image.fromarray(np.moveaxis(mixed, 0, -1).round().astype(np.uint8))
