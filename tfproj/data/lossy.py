"""Masks that went through JPEG: by the format of the file, and by the traces in its values.

JPEG stores the frequencies of blocks of 8 x 8 pixels, each rounded. Class numbers lie so close
together that this turns one into another, and no value need be outside the classes.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

BLOCK = 8
# Those that tools take by themselves or people choose. Above 90 few pixels change their class, and
# drawn masks are kept as well.
QUALITIES = (50, 60, 70, 75, 80, 85, 90)
# The share of different blocks with an edge that JPEG leaves as they are, by their number. In masks
# that were JPEG of the same quality it is above; in 1,200 drawn ones at most 0.6 of 5 to 7 blocks
# and 0.5 of more, in those of Mini Facade 0.27.
KEPT = {5: 0.8, 8: 0.55}
SIDE = 512  # px of a mask that are looked at


def lossy_format(picture: Image.Image, data: bytes) -> str | None:
    """What rounds the pixels of an encoded picture, opened from ``data``; None: nothing."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data[8:12] == b"WEBP" and b"VP8L" not in data:
        return "lossy WebP"
    if str(picture.info.get("compression")) in ("jpeg", "tiff_jpeg", "webp"):
        return "TIFF with lossy compression"
    return None


def edge_blocks(values: np.ndarray) -> np.ndarray:
    """The different blocks of a mask, uint8 (H, W), that have an edge inside: uint8 (N, 64)."""
    height, width = (side // BLOCK * BLOCK for side in values.shape)
    top, left = (max(0, side - SIDE) // (2 * BLOCK) * BLOCK for side in (height, width))
    part = values[top:height, left:width][:SIDE, :SIDE]  # the middle is enough to tell
    rows, columns = (side // BLOCK for side in part.shape)
    blocks = part.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK * BLOCK)
    return np.unique(blocks[(blocks != blocks[:, :1]).any(1)], axis=0)


def kept_by_jpeg(blocks: np.ndarray) -> bool:
    """Whether blocks, uint8 (N, 64), are such as JPEG leaves behind; False for too few to tell.

    To be saved as JPEG once more changes a drawn mask, but not one that comes from JPEG.
    """
    kept = [share for count, share in KEPT.items() if len(blocks) >= count]
    if not kept:
        return False
    picture = Image.fromarray(blocks.reshape(-1, BLOCK))
    for quality in QUALITIES:
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality)
        # What lies beyond the classes was cut off, or the mask would have been refused.
        again = np.asarray(Image.open(file)).clip(blocks.min(), blocks.max())
        if (again.reshape(blocks.shape) == blocks).all(1).mean() >= kept[-1]:
            return True
    return False
