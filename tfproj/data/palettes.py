"""Palettes of mask files against ``classes.csv``: which of two statements says the class."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from tfproj.errors import InputError

if TYPE_CHECKING:
    from tfproj.data.masks import MaskCoding


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


def palette_table(used: dict[int, str], coding: MaskCoding, label: str) -> np.ndarray:
    """uint8 (256,): file value -> class index, 255 for none.

    Tools write palettes in an order of their own. So where every color that a file uses is one of
    ``classes.csv``, the colors decide; where none of them says otherwise, the values do.

    Raises:
        InputError: colors and values contradict each other, and neither can be preferred.
    """
    table = coding.table()
    by_color = {v: coding.colors.index(c) for v, c in used.items() if c in coding.colors}
    against = [value for value, index in by_color.items() if table[value] != index]
    if against and (coding.stated or len(by_color) < len(used)):
        value = against[0]
        fix = "leave out the column 'value' or 'color' in classes.csv"
        if len(by_color) < len(used):
            other = next(color for value, color in used.items() if value not in by_color)
            fix = f"list its other colors too, such as {other}, or leave out the column 'color'"
        raise InputError(
            f"{label}: its palette gives the value {value} the color {used[value]}, which "
            f"classes.csv gives to the class of value {coding.values[by_color[value]]}; {fix}"
        )
    for value in against:
        table[value] = by_color[value]
    return table
