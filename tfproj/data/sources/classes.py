"""The classes that a format names: which is the background, and which is void."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tfproj.data.masks import IGNORE, VOID_NAMES, void_value
from tfproj.errors import InputError

BACKGROUND = "background"
BACKGROUND_NAMES = {BACKGROUND, "_background_", "__background__"}


class Classes:
    """The classes of a set for segmentation, and what a mask holds for each of them.

    Attributes:
        names: in label order.
        values: mask value by the name that the format gives.
        background: the value of pixels that are of nothing else; 0 where no class is called so.
        notes: what became of void pixels.

    Args:
        given: the names, in label order.
        place: what error messages call them.
        drawn: regions are drawn, and so there is a background, first unless it is given.
    """

    def __init__(self, given: Iterable[str], place: str | Path, drawn: bool = False):
        self.notes: list[str] = []
        self.values: dict[str, int] = {}
        names = {own: BACKGROUND if own.lower() in BACKGROUND_NAMES else own for own in given}
        if drawn and BACKGROUND not in names.values():
            names = {BACKGROUND: BACKGROUND, **names}
        kept: list[str] = []
        for own, name in names.items():
            index = kept.index(name) if name in kept else len(kept)
            if name.lower() in VOID_NAMES:
                index = self.void(index, f"{name!r} is a class like any other")
            if index == len(kept):
                kept.append(name)
            self.values[own] = index
        if not 2 <= len(kept) <= IGNORE:
            raise InputError(f"{place}: {len(kept):,} class(es); a mask holds 2 to {IGNORE}")
        self.names = tuple(kept)
        self.background = kept.index(BACKGROUND) if BACKGROUND in kept else 0

    def void(self, instead: int, words: str) -> int:
        """The value of pixels that are not to be counted; ``words`` say what they count as now."""
        value = void_value(instead)
        note = f"no pixel is left out of training yet: {words}"
        if value != IGNORE and note not in self.notes:
            self.notes.append(note)
        return value
