"""``tfproj``: the group of commands and the one place where errors become exit codes."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import signal
import sys

import click

from tfproj._version import __version__
from tfproj.cli.options import SuggestingGroup
from tfproj.core.words import printable
from tfproj.errors import first_line

# name -> (module in tfproj.cli, function, one line for --help). Modules are imported when their
# command is used, so that --help stays fast.
COMMANDS = {
    "train": ("train", "train", "Train a classifier or a segmenter."),
    "tune": ("tune", "tune", "Search for better settings of a training."),
    "evaluate": ("evaluate", "evaluate", "Measure a run on its splits."),
    "report": ("report", "report", "Write what a run learned as one HTML file."),
    "card": ("card", "card", "Write a run's model card as Markdown."),
    "export": ("export", "export", "Write a run, or any Keras model, as a verified ONNX file."),
    "predict": ("predict", "predict", "Predict images with an ONNX file; no TensorFlow."),
    "serve": ("serve", "serve", "Answer images over HTTP with ONNX files; no TensorFlow."),
    "benchmark": ("benchmark", "benchmark", "Time an ONNX file on this machine."),
    "data": ("data", "data", "List, check and prepare data sets."),
    "runs": ("runs", "runs", "List runs, sort and filter them, remove some."),
    "models": ("models", "models", "List models, or print the layers of one."),
    "demo": ("demo", "demo", "The whole job in a few minutes."),
}

# What other tools call a command.
OTHER_NAMES = {"val": "evaluate"}

EPILOG = """\b
Exit codes: 0 success; 1 the run failed, or some of the inputs did; 2 wrong usage or input.
RUN is a path, TASK/NAME or NAME; left out, it is the newest run.
Results go to stdout, everything else to stderr."""


class LazyGroup(SuggestingGroup):
    """Imports the module of a command when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        name = OTHER_NAMES.get(name, name)
        if name not in COMMANDS:
            return None
        module, function, _ = COMMANDS[name]
        return getattr(importlib.import_module(f"tfproj.cli.{module}"), function)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[2]) for name, entry in COMMANDS.items()])


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tfproj")
def cli() -> None:
    """Train small vision models, prove their ONNX export, run them without TensorFlow."""


def main(args: list[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    Every expected error ends as one line on stderr. With ``--debug`` the traceback is shown. Where
    the reader of our output is gone, as in ``tfproj ... | head``, click ends the process with 1.
    """
    args = sys.argv[1:] if args is None else args
    for name in ("SIGTERM", "SIGBREAK"):  # the second is Ctrl-Break, of Windows alone
        with contextlib.suppress(ValueError):  # only the main thread may
            if hasattr(signal, name):
                signal.signal(getattr(signal, name), _interrupt)
    try:
        # With arguments click expands no patterns on Windows: predict does, on every system.
        return cli.main(args, prog_name="tfproj", standalone_mode=False) or 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f" (see '{context.command_path} --help')" if context else ""
        return _fail(error.format_message() + hint, 2)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", 1)
    except Exception as error:
        if "--debug" in args:
            raise
        return _fail(*_explain(error))


def _explain(error: Exception) -> tuple[str, int]:
    code = getattr(error, "exit_code", 1)
    if hasattr(error, "exit_code"):
        return str(error), code
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}", code
    if isinstance(error, MemoryError):
        return "out of memory; try a smaller --batch-size or --image-size", code
    return f"{first_line(error)} (unexpected {type(error).__name__}; --debug shows where)", code


def _fail(message: str, code: int) -> int:
    message = printable(" ".join(message.split()))  # one line, whatever a library said
    color = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    prefix = click.style("error:", fg="red", bold=True) if color else "error:"
    click.echo(f"{prefix} {message}", err=True, color=color)
    return code


def _interrupt(signum: int, frame: object) -> None:
    """SIGTERM ends a training as Ctrl-C does: with a run that can be resumed."""
    raise KeyboardInterrupt


def run() -> None:
    """The console script."""
    # Windows writes to files and pipes in an old code page, which can't spell every file's name.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main())
