"""Small pictures for a page: shrunk and encoded."""

from __future__ import annotations

import io

from PIL import Image

LOSSLESS_SIDE = 48  # px; pictures up to here are small as PNG, photographs are not


def thumbnail(picture: Image.Image, side: int) -> Image.Image:
    """The picture within ``side`` x ``side`` pixels; the one that was given may be another's."""
    small = picture.copy()
    small.thumbnail((side, side))
    return small


def encode(picture: Image.Image) -> tuple[bytes, str]:
    """(file content, suffix): PNG for small pictures, JPEG for others."""
    buffer = io.BytesIO()
    if max(picture.size) <= LOSSLESS_SIDE:
        picture.save(buffer, "PNG", optimize=True)
        return buffer.getvalue(), ".png"
    picture.save(buffer, "JPEG", quality=85)
    return buffer.getvalue(), ".jpg"
