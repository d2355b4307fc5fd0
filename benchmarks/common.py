"""What the benchmarks share: arguments, rounds in turn, workers, tables and JSON.

Contenders are measured in rounds, each once a round, so that whatever else the machine does meets
all of them alike. A ratio is the median of the rounds' ratios, not the ratio of two medians.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tfproj.errors import TfprojError, first_line
from tfproj.runs import environment

MISSING = "not installed: make bench-setup"
PEERS = ("torch", "openvino", "ai-edge-litert")

Row = dict[str, Any]
# ("at least", 0.98): of the ratio where there is one, else of the median.
Goal = tuple[str, float]


class Unavailable(Exception):
    """A contender that can't be measured here; the text goes into its row."""


# --- arguments ---------------------------------------------------------------------------------


def parser(doc: str) -> argparse.ArgumentParser:
    """``--quick``, ``--rounds``, ``--json`` and, for the script's own processes, ``--worker``."""
    made = argparse.ArgumentParser(description=doc.splitlines()[0])
    made.add_argument("--quick", action="store_true", help="toy sizes, to see that it works")
    made.add_argument("--rounds", type=positive, help="how often each contender is measured")
    add_json(made)
    made.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    return made


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def add_json(to: argparse.ArgumentParser) -> None:
    to.add_argument("--json", type=_file, metavar="FILE", help="write the figures there")


def _file(text: str) -> Path:
    # Looked at before the measurement, which may take an hour.
    if not Path(text).absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{Path(text).parent}: no such directory")
    if Path(text).is_dir():
        raise argparse.ArgumentTypeError(f"{text}: is a directory")
    return Path(text)


def start(main: Callable[[], None]) -> None:
    """Run a script; expected errors end as one line."""
    try:
        main()
    except (TfprojError, Unavailable) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 1))
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(1)


def progress(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- rounds and workers ------------------------------------------------------------------------


def interleave(
    contenders: Mapping[str, Callable[[], Any]], rounds: int, warmup: int = 1
) -> tuple[dict[str, list[Any]], dict[str, str]]:
    """Ask every contender once a round, each time starting with another one.

    Args:
        contenders: name -> function that measures once; it may raise :class:`Unavailable`.
        rounds, warmup: rounds that count, and those before them that do not.

    Returns:
        (name -> one answer for each round, name -> why it could not be measured).
    """
    answers: dict[str, list[Any]] = {name: [] for name in contenders}
    notes: dict[str, str] = {}
    names = list(contenders)
    for number in range(-warmup, rounds):
        progress(f"round {number + 1} of {rounds}" if number >= 0 else "warm-up round")
        shift = number % len(names)
        for name in names[shift:] + names[:shift]:
            if name in notes:
                continue
            try:
                answer = contenders[name]()
            except Unavailable as error:
                notes[name] = str(error)
                progress(f"{name}: {error}")
                continue
            if number >= 0:
                answers[name].append(answer)
    return {name: values for name, values in answers.items() if name not in notes}, notes


class Worker:
    """A process of the running script for one framework; it waits between its turns.

    Frameworks bring their own thread pools, some the same library in two versions: each gets a
    process to itself.
    """

    def __init__(self, *arguments: Any):
        self._process = subprocess.Popen(
            [sys.executable, sys.argv[0], "--worker", json.dumps(arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )  # fmt: skip

    def ask(self, *request: Any) -> Any:
        """The worker's answer to a request of plain JSON types.

        Raises:
            Unavailable: a package is missing, or the worker failed.
        """
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            raise Unavailable(f"failed: its process ended with code {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise Unavailable(answer["error"])
        return answer["value"]

    def close(self) -> None:
        with suppress(BrokenPipeError):  # it ended before
            self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


@contextmanager
def workers(arguments: Mapping[str, Sequence[Any]]):
    """A :class:`Worker` under each name, ended after the block."""
    started = {name: Worker(*values) for name, values in arguments.items()}
    try:
        yield started
    finally:
        for worker in started.values():
            worker.close()


def serve(make: Callable[[], Callable[..., Any]]) -> None:
    """The worker's side: answer requests from stdin on stdout until it is closed.

    Args:
        make: gives the function that answers, when the first request comes.
    """
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what frameworks print must not get between the answers
    answer = None
    for line in sys.stdin:
        try:
            answer = answer or make()
            message = {"value": answer(*json.loads(line))}
        except ImportError as error:
            known = (error.name or "").split(".")[0] in ("torch", "openvino", "ai_edge_litert")
            message = {"error": MISSING if known else f"failed: {first_line(error)}"}
        except (TfprojError, ValueError) as error:
            message = {"error": first_line(error)}
        except Exception as error:  # frameworks raise many kinds; the table must go on
            message = {"error": f"failed: {type(error).__name__}: {first_line(error)}"[:160]}
        channel.write(json.dumps(message) + "\n")
        channel.flush()


def seconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def durations(call: Callable[[], Any], enough: float, least: int = 1) -> list[float]:
    """Seconds of each call, for ``enough`` seconds and at least ``least`` calls."""
    found: list[float] = []
    end = time.perf_counter() + enough
    while len(found) < least or time.perf_counter() < end:
        found.append(seconds(call))
    return found


def per_second(answers: Iterable[Sequence[float]], count: int) -> list[float]:
    """Images per second of each round from the seconds of its calls of ``count`` images."""
    return [count * len(calls) / sum(calls) for calls in answers]


def epoch_clock():
    """A Keras callback: seconds of each epoch, what comes between two belonging to the first."""
    import keras

    class Clock(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.marks = []

        def on_epoch_begin(self, epoch, logs=None):
            self.marks.append(time.perf_counter())

        def on_train_end(self, logs=None):
            self.marks.append(time.perf_counter())

        def seconds(self) -> list[float]:
            return [later - mark for mark, later in itertools.pairwise(self.marks)]

    return Clock()


# --- rows, tables, JSON ------------------------------------------------------------------------


def row(
    case: str,
    contender: str,
    unit: str,
    values: Sequence[float],
    reference: Sequence[float] | None = None,
    to: str = "",
    goal: Goal | None = None,
    **more: Any,
) -> Row:
    """One line of a table.

    Args:
        case: what is measured; rows of one case are a table.
        values: one for each round; ``reference``: those of the contender ``to``, same rounds.
        more: further columns.
    """
    made: Row = {"case": case, "contender": contender, "unit": unit, "values": list(values)}
    made |= {"median": statistics.median(values), "low": min(values), "high": max(values)}
    if reference is not None and contender != to:
        pairs = list(zip(values, reference, strict=False))
        made |= {"ratio": statistics.median(a / b for a, b in pairs), "to": to}
    if goal is not None:
        value = made.get("ratio", made["median"])
        met = value >= goal[1] if goal[0] == "at least" else value <= goal[1]
        made |= {"goal": f"{goal[0]} {goal[1]:g}", "met": bool(met)}
    return made | more


def note(case: str, contender: str, text: str) -> Row:
    """The line of a contender that could not be measured."""
    return {"case": case, "contender": contender, "note": text}


def markdown(rows: Sequence[Row]) -> str:
    """A table for each case: median, smallest and largest, ratio, goal and what else there is."""
    known = {"case", "contender", "unit", "values", "median", "low", "high", "ratio", "to",
             "goal", "met", "note", "runs"}  # fmt: skip
    tables = []
    for case in dict.fromkeys(line["case"] for line in rows):
        lines = [line for line in rows if line["case"] == case]
        more = list(dict.fromkeys(key for line in lines for key in line if key not in known))
        head = [case, "median", "min - max", "ratio", "goal", *more]
        table = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for line in lines:
            table.append("| " + " | ".join([line["contender"], *_cells(line, more)]) + " |")
        tables.append("\n".join(table))
    return "\n\n".join(tables)


def _cells(line: Row, more: Sequence[str]) -> list[str]:
    extra = [number(line.get(key, "")) for key in more]
    if "note" in line:
        return [line["note"], "", "", "", *extra]
    ratio = f"{line['ratio']:.2f} x {line['to']}" if "ratio" in line else ""
    goal = f"{line['goal']}: {'met' if line['met'] else 'missed'}" if "goal" in line else ""
    spread = f"{number(line['low'])} - {number(line['high'])}"
    return [f"{number(line['median'])} {line['unit']}", spread, ratio, goal, *extra]


def number(value: Any) -> str:
    """Three digits that count."""
    if not isinstance(value, float):
        return str(value)
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    if abs(value) < 0.001:
        return f"{value:.1e}"
    places = 2 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(places, 0)}f}"


def finish(options: argparse.Namespace, rows: Sequence[Row], **facts: Any) -> None:
    """Print the tables; write them, the machine and the ``facts`` as JSON where asked."""
    if options.quick:  # nobody shall read a verdict into it
        rows = [{k: v for k, v in line.items() if k not in ("goal", "met")} for line in rows]
        print("Toy sizes: only shows that the script works.\n")
    print(markdown(rows))
    if options.json:
        write(options.json, {"quick": options.quick, **facts, "rows": list(rows)})


def write(path: Path, report: Mapping[str, Any]) -> None:
    """The report as JSON, with the machine, the versions, the load and the command."""
    described = environment.describe("")
    described["command"] = sys.argv
    described["versions"] |= _peer_versions()
    described["load"] = os.getloadavg()  # other work on the machine shows here
    path.write_text(json.dumps({"machine": described, **report}, indent=2) + "\n")


def _peer_versions() -> dict[str, str]:
    import onnxruntime

    # The one that is imported: PYTHONPATH may hold another than the one that is installed.
    found = {"onnxruntime": onnxruntime.__version__}
    for name in PEERS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
