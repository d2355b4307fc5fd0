"""What the commands share: --json and --debug, groups that suggest names, printing results."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from tfproj.core.files import expand_home
from tfproj.core.hardware import parse_device
from tfproj.errors import unknown_name
from tfproj.runs import DEFAULT_ROOT

if TYPE_CHECKING:
    from tfproj.data.dataset import Dataset


SHOWN_WARNINGS = 10


class SuggestingGroup(click.Group):
    """A group that answers a mistyped command with the closest one."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            known = self.list_commands(ctx)
            message = str(unknown_name("unknown command", args[0], known))
            raise click.UsageError(message, error.ctx) from None


SIZE_FLAGS = ("--image-size", "--crop")


def image_size(default: str) -> Callable[[Callable], Callable]:
    """Add --image-size, for a :class:`SizedCommand`: (height, width), or None.

    Args:
        default: what to say of it.
    """
    return size("--image-size", f"Of the model's input in px; one number: a square. {default}")


def size(flag: str, text: str) -> Callable[[Callable], Callable]:
    """Add a flag of ``SIZE_FLAGS`` with its help."""
    return click.option(flag, type=(int, int), metavar="HEIGHT [WIDTH]", help=text)


class SizedCommand(click.Command):
    """A command whose ``SIZE_FLAGS`` take one or two numbers, while click's take so many."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for place in [i for i, arg in enumerate(args) if arg.split("=")[0] in SIZE_FLAGS][::-1]:
            at = place if "=" in args[place] else place + 1
            if at < len(args) and not "".join(args[at + 1 : at + 2]).isdecimal():
                args = [*args[: at + 1], args[at].split("=")[-1], *args[at + 1 :]]
        return super().parse_args(ctx, args)


def common(command: Callable) -> Callable:
    """Add --json and --debug. The command gets ``as_json``; --debug is read by ``main``.

    A leading ``~`` is the home directory, also where the shell leaves it, as in ``--data=~/roads``.
    """

    @click.option("--json", "as_json", is_flag=True, help="Print the result as JSON on stdout.")
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(command)
    def wrapped(*args: Any, debug: bool, **kwargs: Any) -> Any:
        return command(*args, **{name: _expanded(value) for name, value in kwargs.items()})

    return wrapped


def _expanded(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_expanded, value))
    return expand_home(value) if isinstance(value, str) else value


def device(command: Callable) -> Callable:
    """Add --device, what TensorFlow computes on; ``backend.use_device`` takes it."""
    return click.option(
        "--device",
        metavar="cpu|gpu|N",
        callback=_checked_device,
        help="What to compute on; N: numbers of GPUs, as in 0,1. [default: a GPU if there is one]",
    )(command)


def _checked_device(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    parse_device(value)
    return value


def runs_dir(command: Callable) -> Callable:
    """Add --runs-dir, the folder that holds the runs."""
    return click.option(
        "--runs-dir",
        default=DEFAULT_ROOT,
        show_default=True,
        metavar="DIR",
        help="Directory of the runs.",
    )(command)


def say_notes(dataset: Dataset) -> None:
    """What one should know of the data, on stderr."""
    for note in dataset.notes:
        click.echo(f"note: {dataset.name}: {note}", err=True)


def say_warnings(dataset: Dataset) -> None:
    """What the check of the data warned of, as far as it looked, on stderr."""
    warnings = [finding for finding in dataset.findings if finding.severity == "warning"]
    for finding in warnings[:SHOWN_WARNINGS]:
        click.echo(f"warning: {finding}", err=True)
    if len(warnings) > SHOWN_WARNINGS:
        more = len(warnings) - SHOWN_WARNINGS
        command = f"tfproj data check {shlex.quote(dataset.name)}"
        click.echo(f"warning: ... and {more:,} more: {command}", err=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout; what is not a number is written as null."""
    click.echo(json.dumps(_finite(value), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float) and value not in (float("inf"), float("-inf")) and value == value:
        return value
    return None if isinstance(value, float) else value


def table(rows: list[list[str]], header: list[str]) -> str:
    """Columns aligned: the first to the left, the others to the right."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def number(value: float | None, digits: int = 4) -> str:
    """A figure for a table; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
