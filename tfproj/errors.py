"""The errors a user may see, each with the exit code that the command line returns for it."""

from __future__ import annotations

from collections.abc import Iterable


class TfprojError(Exception):
    """A run failed for a reason that one line can explain (exit code 1)."""

    exit_code = 1


class InputError(TfprojError, ValueError):
    """The usage or the input is wrong: an option, a name, a file (exit code 2)."""

    exit_code = 2


class NotWritten(TfprojError):
    """A disk failed, or is full."""


class NotWritable(NotWritten, InputError):
    """One may not write there."""


class TooLargeError(InputError):
    """The input is above a limit: of pixels, bytes, images."""


MANY_NAMES = 12  # are not listed where one of them is close


def unknown_name(problem: str, name: str, known: Iterable[str], catalog: str = "") -> InputError:
    """The error for a name that is not in a registry.

    Args:
        problem: what to say before the name, such as "unknown preset".
        name: what was given.
        known: the names there are; the closest is offered.
        catalog: where to look them up, if they are too many to be listed.
    """
    # Here, since the predictor's start waits for this module.
    import difflib  # noqa: PLC0415

    known = sorted(known)
    close = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hints = [f"did you mean {close[0]!r}?"] if close else []
    if catalog:
        hints.append(f"the list: {catalog}")
    elif not close or len(known) <= MANY_NAMES:
        hints.append(f"known: {', '.join(known)}" if known else "there are none")
    return InputError(f"{problem} {name!r}; {' '.join(hints)}")


def missing_extra(module: str, extra: str) -> TfprojError:
    """The error for an optional dependency that is not installed."""
    return InputError(f"this needs the package {module!r}: pip install 'tfproj[{extra}]'")


def first_line(error: BaseException) -> str:
    """What a library's error says, cut to one line of at most 160 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:160]
