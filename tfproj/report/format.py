"""How numbers and names are put into words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tfproj.core import words

NONE = "–"


def _known(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def percent(value: float | None, digits: int = 1) -> str:
    """``0.9037`` -> ``90.4%``; a dash for None and NaN.

    What is not quite none or all does not look so: ``<0.1%``, ``>99.9%``.
    """
    if not _known(value):
        return NONE
    step = 10**-digits
    none, some, everything = (f"{v:.{digits}f}%" for v in (0, 100 * value, 100))
    if some == none and value > 0:
        return f"<{step:.{digits}f}%"
    if some == everything and value < 1:
        return f">{100 - step:.{digits}f}%"
    return some


def decimal(value: float | None, digits: int = 3) -> str:
    """``0.47412`` -> ``0.474``; a dash for None and NaN."""
    return f"{value:.{digits}f}" if _known(value) else NONE


def count(value: float | None) -> str:
    """``70000`` -> ``70,000``."""
    return f"{value:,.0f}" if _known(value) else NONE


def signed(value: float, digits: int = 1, scale: float = 100) -> str:
    """A difference with its sign, by default in percentage points; ``±0.0`` where it rounds so."""
    text = f"{scale * value:+.{digits}f}".replace("-", "−")
    return f"±{text[1:]}" if not text[1:].strip("0.") else text


def significant(value: float | None) -> str:
    """Four digits for a number of unknown size."""
    return f"{value:.4g}".replace("-", "−") if _known(value) else NONE


def duration(seconds: float | None) -> str:
    """``75`` -> ``1 min 15 s``; a dash for None and NaN."""
    return words.duration(seconds) if _known(seconds) else NONE


def listed(items: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    items = list(items)
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def numbered(name: str) -> str:
    """The name of an example: ``no. 17`` where it is only an index."""
    return f"no. {name}" if name.isdigit() else name


def quoted(name: str) -> str:
    """A class name within a sentence."""
    return f"“{name}”"


def short(name: str, length: int = 22) -> str:
    """A name for a figure: one line, printable, not too long, no mathematics in ``$``.

    matplotlib reads ``$...$`` as TeX, and XML knows no control characters.
    """
    line = "".join(c if c.isprintable() else " " for c in name)
    line = line if len(line) <= length else line[: length - 1] + "…"
    # matplotlib leaves a label out of the legend that begins with "_": a space of no width.
    return ("\u200b" if line.startswith("_") else "") + line.replace("$", r"\$")
