"""How long a model file takes on this machine: each number of threads in a process of its own.

A new process shows what an application sees: the time from its start to its first answer, and the
memory of a predictor and nothing else. :func:`measure` starts it, :func:`main` is the other side.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tfproj.core import hardware
from tfproj.errors import TfprojError
from tfproj.inference.predictor import Predictor
from tfproj.inference.session import CPU

BATCHES = {"classify": 32, "segment": 4}  # images at once, for the throughput
WARM_UP = 3  # runs: the first ones allocate
LEAST_RUNS = 10
RUNS_OF_P99 = 200  # so that two runs are above it
BUSY = 0.5  # processes that run or wait for each CPU, from which on figures are doubtful
STATUS = Path("/proc/self/status")
START = "from tfproj.inference.timing import main; main()"


@dataclass(frozen=True)
class Timing:
    """What one number of threads gives.

    Attributes:
        threads: for the arithmetic.
        start_s: from the start of the process to its first answer, in seconds.
        p50_ms, p99_ms: latency of a batch of one image, in milliseconds; None for too few runs.
        runs: that the two are taken from.
        images_per_s: throughput at batches of ``batch`` images.
        batch: images at once, for the throughput.
        peak_mb: largest resident memory of the process, in 10^6 bytes; None where the system does
            not tell.
    """

    threads: int
    start_s: float
    p50_ms: float
    p99_ms: float | None
    runs: int
    images_per_s: float
    batch: int
    peak_mb: float | None


def measure(model: Path, threads: int, seconds: float = 2.0, provider: str = CPU) -> Timing:
    """Time a file in a new process, on images in memory: decoding files is not counted.

    Args:
        model: a file that ``tfproj export`` wrote.
        threads: for the arithmetic.
        seconds: how long to measure the latency, and as long again the throughput.
        provider: of onnxruntime.

    Raises:
        TfprojError: the process failed; says its last line.
    """
    request = {"model": str(model.resolve()), "threads": threads, "seconds": seconds}
    text = json.dumps({**request, "provider": provider, "begin": time.time()})
    # -P: a json.py in the working directory is not the one that is meant.
    command = [sys.executable, "-P", "-c", START]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise TfprojError(f"{model}: cannot be timed ({last[:200]})")
    return Timing(**json.loads(done.stdout))


def thread_counts() -> tuple[int, ...]:
    """1, 2, 4 ... and all CPUs that this process may use."""
    cpus = hardware.available_cpus()
    return tuple(sorted({min(2**k, cpus) for k in range(cpus.bit_length() + 1)}))


def busy() -> str | None:
    """What to say where other work slows this machine down; None where it does not tell."""
    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows has none
        return None
    cpus = hardware.available_cpus()
    if load <= BUSY * cpus:
        return None
    return f"the machine is busy (load {load:.1f} on {cpus} CPUs): it is faster than measured here"


def main() -> None:
    """The other side: reads a request from stdin, prints a Timing as JSON."""
    request = json.load(sys.stdin)
    try:
        print(json.dumps(asdict(_timing(**request))))
    except TfprojError as error:
        sys.exit(str(error))


def _timing(model: str, threads: int, seconds: float, provider: str, begin: float) -> Timing:
    predictor = Predictor(model, threads=threads, providers=[provider])
    spec = predictor.spec
    batch = BATCHES[spec.task]
    shape = (batch, *spec.size, spec.channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    predictor.predict(pixels[:1])
    start = time.time() - begin
    alone = _durations(predictor, pixels[:1], seconds)
    together = _durations(predictor, pixels, seconds)
    return Timing(
        threads=threads,
        start_s=start,
        p50_ms=1000 * float(np.median(alone)),
        p99_ms=1000 * float(np.quantile(alone, 0.99)) if len(alone) >= RUNS_OF_P99 else None,
        runs=len(alone),
        images_per_s=batch / float(np.median(together)),
        batch=batch,
        peak_mb=_peak(),
    )


def _durations(predictor: Predictor, pixels: np.ndarray, seconds: float) -> np.ndarray:
    """Seconds of each run of the model, float64 (N,)."""
    for _ in range(WARM_UP):
        predictor.run(pixels)
    found: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(found) < LEAST_RUNS:
        begin = time.perf_counter()
        predictor.run(pixels)
        found.append(time.perf_counter() - begin)
    return np.array(found)


def _peak() -> float | None:
    # Where Linux tells it: getrusage also counts the process that started this one.
    told = hardware.lines(STATUS).get("VmHWM", "").split()
    if told:
        return int(told[0]) * 1024 / 1e6
    try:
        import resource  # noqa: PLC0415 (Windows has none)
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
