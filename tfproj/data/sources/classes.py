"""The classes that a format names: which is the background, and which is void."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tfproj.data.masks import IGNORE, VOID_NAMES
from tfproj.errors import InputError

BACKGROUND = "background"
BACKGROUND_NAMES = {BACKGROUND, "_background_", "__background__"}


class Classes:
    """The classes of a set for segmentation, and what a mask holds for each of them.

    Attributes:
        names: in label order.
        values: mask value by the name that the format gives.
        background: the value of pixels that are of nothing else; 0 where no class is called so.
        void: whether pixels may be void: :data:`IGNORE` in a mask.

    Args:
        given: the names, in label order.
        place: what error messages call them.
        drawn: regions are drawn, and so there is a background, first unless it is given.
        spelled: names stay as they are, also where another means the same.
    """

    def __init__(
        self,
        given: Iterable[str],
        place: str | Path,
        drawn: bool = False,
        spelled: bool = False,
    ):
        backgrounds = set() if spelled else BACKGROUND_NAMES
        names = {own: BACKGROUND if own.lower() in backgrounds else own for own in given}
        if drawn and BACKGROUND not in names.values():
            names = {BACKGROUND: BACKGROUND, **names}
        counted = (name for name in names.values() if name.lower() not in VOID_NAMES)
        kept = [*dict.fromkeys(counted)]
        if not 2 <= len(kept) <= IGNORE:
            raise InputError(f"{place}: {len(kept):,} class(es); a mask holds 2 to {IGNORE}")
        self.names = tuple(kept)
        self.values = {own: kept.index(n) if n in kept else IGNORE for own, n in names.items()}
        self.background = kept.index(BACKGROUND) if BACKGROUND in kept else 0
        self.void = IGNORE in self.values.values()
