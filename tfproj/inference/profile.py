"""Where a model spends its time: by kind of operator, as onnxruntime's profiler tells it."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.core.leftovers import scratch
from tfproj.inference import answers
from tfproj.inference.model_file import MAX_MODEL_BYTES, read_model
from tfproj.inference.session import CPU, open_session

LEAST_RUNS, MOST_RUNS = 40, 500  # each leaves a record of some kilobytes in memory
RUN = "SequentialExecutor::Execute"  # what onnxruntime calls the nodes of one run together


@dataclass(frozen=True)
class Operator:
    """What one kind of operator takes.

    Attributes:
        name: of ONNX, or of onnxruntime where it runs another in its place.
        nodes: of this kind in the graph as it is run.
        us: microseconds that they take together, the median of the runs.
    """

    name: str
    nodes: int
    us: float


def operators(model: Path, threads: int, seconds: float = 2.0) -> list[Operator]:
    """Time the operators for one image, in this process, the slowest kind first.

    The profiler takes some microseconds of each node: the sum is more than a run takes.

    Args:
        model: a file that ``tfproj export`` wrote.
        threads: for the arithmetic.
        seconds: how long to measure, at most; ``MOST_RUNS`` are enough for a median.

    Raises:
        InputError: not a usable file.
    """
    file = read_model(model, str(model), MAX_MODEL_BYTES)
    spec = file.spec
    pixels = np.random.default_rng(0).integers(0, 256, (1, *spec.size, spec.channels), np.uint8)
    with scratch() as folder:
        name, profile = str(model), folder / "run"
        session: Any = open_session(file.data, name, threads, [CPU], profile=profile)
        end, runs = time.perf_counter() + seconds, 0
        while runs < LEAST_RUNS or (runs < MOST_RUNS and time.perf_counter() < end):
            answers.run(session, spec, pixels)
            runs += 1
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    return _by_kind(events)


def _by_kind(events: list[dict[str, Any]]) -> list[Operator]:
    """Medians over the runs; the first half of them, which allocates, does not count."""
    runs: list[dict[str, list[int]]] = [defaultdict(list)]
    for event in sorted(events, key=lambda event: event["ts"] + event["dur"]):
        if event.get("cat") == "Node" and "op_name" in event["args"]:
            runs[-1][event["args"]["op_name"]].append(event["dur"])
        elif event["name"] == RUN:
            runs.append(defaultdict(list))
    warm = runs[len(runs) // 2 : -1]
    found = [
        Operator(name, len(warm[0][name]), float(np.median([sum(run[name]) for run in warm])))
        for name in warm[0]
    ]
    return sorted(found, key=lambda one: -one.us)
