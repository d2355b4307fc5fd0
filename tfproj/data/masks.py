"""Reading segmentation masks: which number in a file means which class.

A mask file holds one value per pixel: a palette index (palette PNG) or a grey value. RGB masks
are matched to the class colours exactly, and so are palettes of these colours. A
value that is no class is an error, never a guess.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tfproj.core import decoding, image
from tfproj.core.spec import palette, rgb
from tfproj.data.lossy import lossy_format
from tfproj.errors import InputError

# Distance of two classes from which on noise of JPEG would fall between them, and be refused.
APART = 32
# What a mask holds where a pixel is void, that is not to be counted, and what tools call that.
IGNORE = 255
VOID_NAMES = {"void", "ignore", "unlabelled", "unlabeled", "__ignore__", "_ignore_"}
VOID_COLOR = "#E0E0C0"  # that of Pascal VOC
INTERPOLATED = "resized with interpolation, or saved as JPEG; use nearest neighbour and PNG"


def class_table_of(indices: Sequence[int]) -> np.ndarray:
    """uint8 (256,): what becomes of the class indices 0, 1, ... in a mask; void stays void."""
    table = np.full(256, IGNORE, np.uint8)
    table[: len(indices)] = indices
    return table


def mask_picture(mask: np.ndarray, colors: Sequence[str]) -> Image.Image:
    """Class indices uint8 (H, W) as a palette image, with a color for void where there is some."""
    picture = Image.fromarray(mask)
    void = [*["#000000"] * (IGNORE - len(colors)), VOID_COLOR] if (mask == IGNORE).any() else []
    picture.putpalette(palette([*colors, *void]))
    return picture


@dataclass(frozen=True)
class MaskCoding:
    """How classes are written in mask files.

    Attributes:
        values: the value in the file for each class, in class order.
        colors: ``#RRGGBB`` for each class, or empty where only values are known.
        stated: the values were given, not counted from the order of the classes.
        void: 255, which is none of the values, is void.
    """

    values: tuple[int, ...]
    colors: tuple[str, ...] = ()
    stated: bool = False
    void: bool = False

    @classmethod
    def plain(cls, count: int, colors: Sequence[str] = ()) -> MaskCoding:
        """Values 0 .. count-1."""
        return cls(tuple(range(count)), tuple(colors))

    def table(self) -> np.ndarray:
        """uint8 (256,): file value -> class index, 255 for "no class"."""
        table = np.full(256, 255, np.uint8)
        table[list(self.values)] = np.arange(len(self.values))
        return table

    def distance(self, ndim: int) -> int:
        """The least difference of two classes, by value (``ndim`` 2) or in any color channel."""
        points = np.array([rgb(c) for c in self.colors] if ndim == 3 else [*zip(self.values)])
        apart = np.abs(points[:, None] - points).max(-1)
        return int(apart[~np.eye(len(points), dtype=bool)].min(initial=255))

    def palette_table(self, used: dict[int, str], label: str) -> np.ndarray:
        """As :meth:`table`, for a file whose palette gives these values these colors.

        Tools write palettes in an order of their own. So where every color that a file uses is one
        of ``classes.csv``, the colors decide; where none says otherwise, the values do.

        Raises:
            InputError: colors and values contradict each other, and neither can be preferred.
        """
        table = self.table()
        by_color = {v: self.colors.index(c) for v, c in used.items() if c in self.colors}
        against = [value for value, index in by_color.items() if table[value] != index]
        if against and (self.stated or len(by_color) < len(used)):
            value = against[0]
            fix = "leave out the column 'value' or 'color' in classes.csv"
            if len(by_color) < len(used):
                other = next(color for value, color in used.items() if value not in by_color)
                fix = f"list its other colors too, such as {other}, or leave out the column 'color'"
            raise InputError(
                f"{label}: its palette gives the value {value} the color {used[value]}, which "
                f"classes.csv gives to the class of value {self.values[by_color[value]]}; {fix}"
            )
        for value in against:
            table[value] = by_color[value]
        return table

    def to_indices(self, raw: np.ndarray) -> np.ndarray:
        """Raw file content, uint8 (H, W) or (H, W, 3), as class indices with 255 for none."""
        if raw.ndim == 2:
            return self.table()[raw]
        packed = _packed(raw)
        result = np.full(packed.shape, 255, np.uint8)
        for index, color in enumerate(self.colors):
            result[packed == _packed(np.array(rgb(color), np.uint8))] = index
        return result


def _packed(pixels: np.ndarray) -> np.ndarray:
    channels = pixels.astype(np.uint32)
    return channels[..., 0] << 16 | channels[..., 1] << 8 | channels[..., 2]


def read_raw_mask(source: image.ImageLike, label: str) -> np.ndarray:
    """The values in an encoded mask: uint8 (H, W) indices or grey, or (H, W, 3) colours."""
    return _raw_values(image.open_image(source, label, values=True), label)


def _raw_values(picture: Image.Image, label: str) -> np.ndarray:
    if picture.mode in ("P", "L"):
        return np.asarray(picture)
    if picture.mode in ("LA", "PA"):
        return np.asarray(picture)[..., 0]
    if picture.mode == "1":
        return np.asarray(picture).astype(np.uint8)
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 255:
            top = values.max()
            raise InputError(f"{label}: mask values up to {top}; at most 256 classes are possible")
        return values.astype(np.uint8)
    if picture.mode in ("RGB", "RGBA"):
        return np.asarray(picture.convert("RGB"))
    raise InputError(f"{label}: a mask of mode {picture.mode}; save it as an 8-bit palette PNG")


def used_colors(picture: Image.Image, raw: np.ndarray) -> dict[int, str]:
    """Value -> ``#RRGGBB`` of the palette entries that a mask uses; empty without a palette.

    Args:
        picture: the decoded mask.
        raw: its values, uint8 (H, W).
    """
    if picture.mode not in ("P", "PA"):
        return {}
    colors = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
    used = np.unique(raw).tolist()
    return {v: "#{:02X}{:02X}{:02X}".format(*colors[v]) for v in used if v < len(colors)}


def read_values(source: image.ImageLike, label: str) -> np.ndarray:
    """The values in an encoded mask without colours, uint8 (H, W), as they are stored.

    Raises:
        InputError: unreadable, colours, or values above 255.
    """
    raw = read_raw_mask(source, label)
    if raw.ndim == 3:
        if (raw != raw[..., :1]).any():
            raise InputError(f"{label}: RGB pixels; expected one class value per pixel")
        raw = raw[..., 0]  # grey, saved as RGB
    return raw


def read_mask(path: Path, coding: MaskCoding) -> np.ndarray:
    """Class indices uint8 (H, W).

    Raises:
        InputError: unreadable, or a pixel that is no class, with the likely fix.
    """
    data = image.read_bytes(path)
    encoded = decoding.open_encoded(data, str(path))
    lossy = lossy_format(encoded, data)
    picture = image.open_image(encoded, str(path), values=True)
    raw = _raw_values(picture, str(path))
    used = used_colors(picture, raw) if coding.colors else {}
    if coding.void and used.get(IGNORE) not in coding.colors:
        used.pop(IGNORE, None)
    indices = coding.palette_table(used, str(path))[raw] if used else coding.to_indices(raw)
    if indices.max(initial=0) == 255 and unknown_pixels(raw, indices, coding).any():
        raise InputError(f"{path}: {explain_bad_values(raw, indices, coding)}")
    if lossy and coding.distance(raw.ndim) < APART:
        raise InputError(
            f"{path}: a mask saved as {lossy}, which turns classes into others where their values "
            "lie so close together; save it as PNG, from what it was before"
        )
    return indices


def unknown_pixels(raw: np.ndarray, indices: np.ndarray, coding: MaskCoding) -> np.ndarray:
    """bool (H, W): pixels that are no class and not void.

    A mask of 0 and 255 alone is most likely one of two classes, so there 255 must be declared.
    """
    unknown = (indices == IGNORE) & (len(coding.values) < 256)
    if coding.void and raw.ndim == 2 and raw[raw != IGNORE].any():
        unknown &= raw != IGNORE
    return unknown


def require_same_size(
    picture: tuple[int, int], mask: tuple[int, ...], label: str, turned: bool = False
) -> None:
    """InputError unless image and mask have the same (height, width).

    ``turned``: EXIF turns the image, and its mask would fit it as it is stored.
    """
    if turned:
        raise InputError(
            f"{label}: EXIF turns the image to {picture[0]} x {picture[1]} px (height x width), "
            "but its mask fits the image as it is stored; turn the mask, or remove the EXIF entry"
        )
    if tuple(picture) != tuple(mask):
        raise InputError(
            f"{label}: the image is {picture[0]} x {picture[1]} px (height x width) but its mask "
            f"{mask[0]} x {mask[1]}; they must be equal"
        )


def explain_bad_values(raw: np.ndarray, indices: np.ndarray, coding: MaskCoding) -> str:
    """One line on what is wrong with a mask and what would mend it."""
    bad = unknown_pixels(raw, indices, coding)
    count = len(coding.values)
    if raw.ndim == 3:
        return _explain_colors(raw[bad], bad.mean(), coding)
    values = np.unique(raw).tolist()
    unknown = np.unique(raw[bad]).tolist()
    shown = ", ".join(map(str, values))
    if len(values) > 8:
        known = len(values) - len(unknown)
        shown = ", ".join(map(str, unknown[:8])) + (", ..." if len(unknown) > 8 else "")
        shown += f" (beside {known} that are classes)" if known else ""
    if values == [0, 255]:
        fix = "a {0, 255} mask: give 255 a class, or 'void', by the column 'value' of classes.csv"
    elif values[0] == 1 and values[-1] == count:
        fix = "counted from 1: give the values in the column 'value' of classes.csv"
    elif set(values) - {255} <= set(coding.values):
        fix = "255 often means 'no class': list 'void', or a class, of that 'value' in classes.csv"
    elif _looks_like_luma(values, coding):
        fix = "palette colours saved as grey: save the palette indices (Pillow mode P) instead"
    elif len(values) > 4 * count:
        fix = f"many values: {INTERPOLATED}"
    else:
        fix = "name every value in classes.csv"
    return f"mask values {shown} for {count} classes; {fix}"


def _explain_colors(bad: np.ndarray, share: float, coding: MaskCoding) -> str:
    """For an RGB mask; ``bad``: the colours (N, 3) of its pixels that are no class."""
    if (bad[:, :1] == bad).all() and not coding.colors:
        return "grey values saved as RGB; save one channel (Pillow mode L or P)"
    if not coding.colors:
        return "an RGB mask; give each class its color in classes.csv, or save a palette PNG"
    colors, counts = np.unique(bad, axis=0, return_counts=True)
    color = "#{:02X}{:02X}{:02X}".format(*colors[counts.argmax()])
    fix = "list it in classes.csv"
    if len(colors) > 4 * len(coding.colors):
        fix = f"as do {len(colors) - 1:,} more: {INTERPOLATED}"
    return f"colour {color} belongs to no class ({share:.1%} of the pixels are unknown); {fix}"


def _looks_like_luma(values: Sequence[int], coding: MaskCoding) -> bool:
    """Whether the values are what a grey conversion makes of the class colours."""
    if not coding.colors:
        return False
    palette = np.array([[rgb(color) for color in coding.colors]], np.uint8)
    luma = {int(v) for v in image.to_array(image.open_image(palette), None, 1).ravel()}
    return set(values) <= luma
