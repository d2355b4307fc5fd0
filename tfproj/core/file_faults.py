"""What image files say about themselves where Pillow does not ask, and decodes other pixels.

Tried with Pillow 13 on files that code made, of every kind that these formats allow.
"""

from __future__ import annotations

import io
from typing import Any

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

# A picture of one of Pillow's readers, with what its types don't know: tile, fp, tag_v2 ...
Opened = Any
TILE = 1024  # px a side that a TIFF's tiles may have, however small the picture


def fault(picture: Opened, values: bool) -> str | None:
    """What keeps Pillow from giving the right pixels of a file; None where nothing does.

    Args:
        picture: opened and not yet decoded; of TIFF, decoded ones will do.
        values: the numbers count and not their brightness, as in masks.
    """
    if picture.format == "TIFF":
        return _tiff(picture.tag_v2, values)
    check = _CHECKS.get(picture.format)
    return check(picture) if check and picture.tile else None


def tiff_fault(data: bytes) -> str | None:
    """What is unusual about a TIFF file that Pillow does not open; None where that is not known."""
    file = io.BytesIO(data)
    try:
        tags: Any = ImageFileDirectory_v2(data[:8])
        file.seek(tags.next)
        tags.load(file)
        return _tiff(dict(tags), values=False)
    except Exception:  # damaged tags raise many types
        return None


def raw_mode(picture: Image.Image) -> str:
    """Pillow's name for the samples as they are in the file; "" for a picture in memory."""
    tiles = getattr(picture, "tile", None)
    args = tiles[0][3] if tiles else ""
    return str(args if isinstance(args, str) else args[0])


def _png(picture: Opened) -> str | None:
    if raw_mode(picture) == "RGB;16B" and "transparency" in picture.info:
        return "16-bit colours of which one is transparent"  # Pillow compares its low bytes
    return None


def _bmp(picture: Opened) -> str | None:
    picture.fp.seek(14)
    head = picture.fp.read(56)
    bits, masks, alpha = head[10 if head[0] == 12 else 14], head[40:52], head[52:56]
    # Greys of a palette are taken for samples of 1 or 8 bits, whatever their number.
    if bits != {"1": 1, "L": 8}.get(picture.mode, bits):
        return f"a palette of greys and {bits} bits per pixel"
    bit_fields, with_alpha = head[0] > 12 and head[16] == 3, head[0] >= 56 and any(alpha)
    if bit_fields and (not any(masks) or (bits == 16 and with_alpha)):
        return "masks of this kind"
    return None


def _gif(picture: Opened) -> str | None:
    if picture.tile[0][1] != (0, 0, *picture.size) and "transparency" not in picture.info:
        return "a first frame that leaves a part of the picture open"
    return None


def _tiff(tags: dict, values: bool) -> str | None:
    width, height, compression = tags.get(256, 0), tags.get(257, 0), tags.get(259, 1)
    bits, photometric = tags.get(258, (1,)), tags.get(262)
    tile = tags.get(322, 0), tags.get(323, 0)
    sample_format, extra = tags.get(339, (1,)), tags.get(338, ())
    faults = {
        f"tiles of {tile[0]} x {tile[1]} px": tile[0] > max(TILE, width + 15)
        or tile[1] > max(TILE, height + 15),
        "fewer strips than its height takes": _strips_missing(tags),
        "no photometric interpretation": photometric is None and compression != 6,
        "floating-point samples": 3 in sample_format,
        f"{max(bits)} bits per sample": not values and not {*bits} <= {1, 2, 4, 8, 16},
        "signed samples": not values and 2 in sample_format,
        "16 bits per sample and white as 0": photometric == 0 and max(bits) > 8,
        "planes of this kind": tags.get(284, 1) == 2 and _planes_fail(tags),
        "a palette of 8 bits": not values and 0 < max(tags.get(320, (0,))) < 256,
        "four channels of which the last has no name": photometric == 2
        and tags.get(277, 1) == 4
        and not extra,
        "subsampled colours": photometric == 6 and compression == 1
        and tags.get(277, 1) == 3 and tags.get(530) != (1, 1),
    }  # fmt: skip
    return next((words for words, present in faults.items() if present), None)


def _strips_missing(tags: dict) -> bool:
    """Pillow leaves the rows of those black, however many there are."""
    height, rows, found = tags.get(257, 0), tags.get(278, 0), tags.get(273)
    planes = tags.get(277, 1) if tags.get(284, 1) == 2 else 1
    count = found if isinstance(found, tuple) else (found,)
    return found is not None and rows > 0 and planes * -(-height // rows) > len(count)


def _planes_fail(tags: dict) -> bool:
    """Pillow unpacks planes of uncompressed files as 8 bits, of grey and alpha as RGB."""
    photometric = tags.get(262)
    if tags.get(259, 1) == 1:
        return {*tags.get(258, (1,))} != {8} or photometric == 0 or tags.get(266, 1) == 2
    return tags.get(277, 1) > 1 and photometric not in (2, 5)


_CHECKS = {"PNG": _png, "BMP": _bmp, "GIF": _gif}
