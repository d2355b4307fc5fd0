"""How quantities are put into words, and names compared."""

from __future__ import annotations

import re
import unicodedata

from tfproj.core.spec import is_text


def nfc(name: str) -> str:
    """The name in one spelling: an accented letter is one character on Linux, two on macOS."""
    return unicodedata.normalize("NFC", name)


def printable(text: str) -> str:
    """One line without control characters: names of files may hold any."""
    return "".join(c if is_text(c) else ascii(c)[1:-1] for c in text)


def without_password(text: str) -> str:
    """The text whose URLs say neither a user nor a password; one may hold any sign but a space."""
    return re.sub(r"(?<=://)[^:/@\s]*(:\S*)?@|(?<=[?&]password=)[^&#\s]*", "", text)


def is_number(text: str) -> bool:
    """Whether it is digits, and not more than ``int`` takes."""
    return text.isdecimal() and len(text) < 20


def plural(number: int, noun: str) -> str:
    """``1 image``, ``2 images``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def duration(seconds: float) -> str:
    """``4.25`` -> ``4.2 s``, ``75`` -> ``1 min 15 s``, ``4000`` -> ``1 h 06 min``."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole % 3600 // 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    if minutes:
        return f"{minutes} min {whole % 60:02d} s"
    return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
