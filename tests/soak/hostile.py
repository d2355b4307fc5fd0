"""Hostile input: damaged files of every kind, and requests, end in success or one line.

No traceback, signal, hang of more than 10 seconds, memory over its limit, file outside the
folder, other program or connection; for requests, no status 500, and no fault in the log. What
found something is kept in ``found/``, by kind; later runs damage it further.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from http_load import bad_requests, load

from . import ROOT
from .clients import MODEL, png
from .frame import Case, Counts, Trial
from .server import Server
from .watch import FAULTS, LIMIT, keep

MOST = 10_000  # of each kind
FOUND = Path(__file__).with_name("found")
KINDS = {
    "picture": 1, "onnx_bytes": 1, "onnx_graph": 1, "metadata": 1, "config": 1, "run_directory": 1,
    "command_line": 1, "annotations": 3, "masks": 2, "weights": 2, "init": 1,
    "idx": 0.3,
}  # fmt: skip


def inputs(kind: str, trial: Trial, ready: Any) -> Counts:
    """Processes that try one kind, the next where one has ended with a signal or a hang."""
    counts, end = Counts(), time.monotonic() + trial.seconds
    number = first = trial.rng.randrange(10**9) // 2 * 2
    while (
        number < first + MOST
        and counts.failed < FAULTS
        and (not counts.tried or time.monotonic() < end)
    ):
        folder, found = trial.folder / str(number), FOUND / kind
        folder.mkdir()
        left = (number, first + MOST - number, max(5.0, end - time.monotonic()), folder, found)
        command = [sys.executable, "-m", "tests.soak.inputs", kind, *map(str, left)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if done.returncode == 0:
            print(done.stderr[-4000:], file=sys.stderr, end="")
            some = Counts(**json.loads(done.stdout.splitlines()[-1]))
            number += some.tried
        else:
            trial.check((folder / "number").exists(), f"does not begin: {done.stderr[-400:]}")
            last = int((folder / "number").read_text())
            said = " ".join(done.stderr.split())[-300:]
            note = f"case {last}: exit code {done.returncode}: {said} {keep(folder, found)}"
            some, number = Counts(last + 1 - number, 1, [note]), last + 1
        counts.add(some)
    return counts


def requests(trial: Trial, ready: Any) -> Counts:
    """Damaged requests to a server."""
    counts, statuses, end = Counts(), Counter(), time.monotonic() + trial.seconds
    image = png(np.zeros((28, 28), np.uint8))
    make = bad_requests([MODEL], image, trial.rng.randrange(2**32))
    with Server([MODEL, "--timeout", "3"], trial.folder) as server:
        while counts.tried < MOST and (not counts.tried or time.monotonic() < end):
            _, seconds, found = load(server.port, [make() for _ in range(200)], 8, 200, False)
            counts.tried += 200
            counts.failed += sum(one > LIMIT for one in seconds) + found[500]
            statuses += found
        counts.failed += len(server.errors())
    said = ", ".join(f"{n:,} of {status}" for status, n in sorted(statuses.items()))
    counts.notes = [*server.errors()[:1], f"status {said} (0: closed)"]
    return counts


def _cases() -> Iterator[Case]:
    for kind, weight in KINDS.items():
        name = f"hostile: {kind.replace('_', ' ')}"
        yield Case(name, functools.partial(inputs, kind), most=1, weight=weight)
    yield Case("hostile: requests", requests, most=1)


CASES = list(_cases())
