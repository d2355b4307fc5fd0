"""What is wrong with a data set, as values; text is made of them where they are shown."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfproj.core.words import printable
from tfproj.errors import InputError


@dataclass(frozen=True)
class Finding:
    """One fault of a data set.

    Attributes:
        path: the file, folder or example it is about; empty for the data set as a whole.
        code: what the same faults have in common, such as ``unpaired``.
        message: what is wrong and what to do, in one line.
        severity: ``error``: training would fail or be meaningless; else ``warning``.
    """

    path: str
    code: str
    message: str
    severity: str = "error"

    def __str__(self) -> str:
        return printable(f"{self.path}: {self.message}" if self.path else self.message)


@dataclass(frozen=True)
class Suspicion(Finding):
    """What the pictures make probable; eyes decide. Always a warning.

    Attributes:
        images: (split, index) of each picture that it is about.
        facts: the names and numbers of the message, for JSON.
    """

    severity: str = "warning"
    images: tuple[tuple[str, int], ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)


class Findings(list[Finding]):
    """Findings in the order in which they were made."""

    def error(self, path: str | Path, code: str, message: str) -> None:
        self.append(Finding(str(path), code, message))

    def warn(self, path: str | Path, code: str, message: str) -> None:
        self.append(Finding(str(path), code, message, "warning"))

    @contextlib.contextmanager
    def catch(self, path: str | Path, code: str) -> Iterator[None]:
        """Take an InputError from inside the block, which is about ``path``."""
        try:
            yield
        except InputError as error:
            self.error(path, code, str(error).removeprefix(f"{path}: "))
