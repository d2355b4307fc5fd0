"""What is wrong with a data set: raised at the first fault, or collected by ``data check``.

Code that reads a layout takes ``problems``, which is None everywhere but in the check.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tfproj.errors import InputError


@dataclass(frozen=True)
class Problem:
    """One fault.

    Attributes:
        severity: ``error``: training would fail or be meaningless; else ``warning``.
        file: the file, folder or example it is about; empty for the data set as a whole.
        message: what is wrong and what to do, in one line.
        kind: what the same faults have in common, such as ``unpaired``.
    """

    severity: str
    file: str
    message: str
    kind: str

    def __str__(self) -> str:
        return f"{self.file}: {self.message}" if self.file else self.message


def complain(problems: list[Problem] | None, kind: str, file: str | Path, message: str) -> None:
    """Note an error; where nobody collects them, raise it as an InputError."""
    problem = Problem("error", str(file), message, kind)
    if problems is None:
        raise InputError(str(problem))
    problems.append(problem)


def warn(problems: list[Problem] | None, kind: str, file: str | Path, message: str) -> None:
    """Note a warning, where somebody collects them."""
    if problems is not None:
        problems.append(Problem("warning", str(file), message, kind))


@contextlib.contextmanager
def noting(problems: list[Problem] | None, kind: str) -> Iterator[None]:
    """Note an InputError from inside the block; where nobody collects them, let it pass."""
    try:
        yield
    except InputError as error:
        if problems is None:
            raise
        # Errors about a file begin with its name.
        file, separator, message = str(error).partition(": ")
        if not separator:
            file, message = "", str(error)
        problems.append(Problem("error", file, message, kind))
