"""The best file that fits a budget of time and bytes on the machine at hand."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tfproj.core.files import write_bytes
from tfproj.core.leftovers import scratch
from tfproj.errors import InputError, TfprojError
from tfproj.export.job import Job, Options, prepare
from tfproj.export.onnx_file import also_written, export_onnx
from tfproj.inference.timing import busy, measure, thread_counts
from tfproj.models.registry import nearest_size
from tfproj.runs.run import Run

KINDS = ("float32", "half", "int8")  # in the order of what they may cost
SIZES = (1.0, 0.75, 0.5)  # of the sides of the training
SECONDS = 1.0  # of each measurement


@dataclass(frozen=True)
class Budget:
    """What a file may take.

    Attributes:
        max_ms: median latency of one image in milliseconds; None: any.
        max_mb: size of the file in 10^6 bytes; None: any.
    """

    max_ms: float | None = None
    max_mb: float | None = None

    def __str__(self) -> str:
        parts = [(self.max_ms, "ms an image"), (self.max_mb, "MB")]
        return " and ".join(f"{limit:g} {unit}" for limit, unit in parts if limit is not None)


@dataclass
class Candidate:
    """One way to export, and what was found.

    Attributes:
        kind: ``float32``, ``half`` or ``int8``.
        size: (height, width) of the input.
        mb: size of the file in 10^6 bytes; None where it was not written.
        p50_ms: median latency by the number of threads.
        threads: the least number that fits; None where none does.
        metrics: as in the file's metadata, on validation images.
        reason: why it is not taken; None where it is.
    """

    kind: str
    size: tuple[int, int]
    mb: float | None = None
    p50_ms: dict[int, float] | None = None
    threads: int | None = None
    metrics: dict[str, Any] | None = None
    reason: str | None = None

    @property
    def large(self) -> bool:
        """Whether it has too many bytes: it is then not timed."""
        return self.mb is not None and self.p50_ms is None

    @property
    def slow(self) -> bool:
        return self.p50_ms is not None and self.threads is None


def export_within(
    run: Run, output: str | Path | None, options: Options, budget: Budget
) -> dict[str, Any]:
    """Write the first file that fits: full size before smaller ones, float32 before half and int8.

    Each candidate is exported and verified as any file, and timed with 1, 2, 4 ... threads.

    Arguments as for :func:`tfproj.export.onnx_file.export_onnx`; ``half``, ``int8`` and
    ``image_size`` leave nothing else to choose from.

    Returns:
        As ``export_onnx``, with ``budget``: the limits, ``chosen`` and ``tried``, a record of
        :class:`Candidate` each, and ``busy``, a warning or None.

    Raises:
        InputError: as for ``export_onnx``, or an option that a choice has no use for.
        TfprojError: nothing fits; says what comes closest.
    """
    if options.format != "onnx":
        raise InputError("--max-ms and --max-mb are for --format onnx")
    if options.keep:
        raise InputError("--keep-rejected is for one file, not for --max-ms and --max-mb")
    job = prepare(run, output, options)
    note = busy()
    if note and budget.max_ms is not None:
        print(f"note: {note}", file=sys.stderr)
    tried: list[Candidate] = []
    with scratch() as folder:
        file = folder / "candidate.onnx"
        for candidate in _candidates(job, tried):
            tried.append(candidate)
            result = _try(run, job, candidate, budget, file)
            if result is not None:
                break
        else:
            raise TfprojError(f"nothing fits {budget}: {_closest(tried)}; no file was written")
        write_bytes(job.path, file.read_bytes())
    record = {**vars(budget), "chosen": vars(candidate), "tried": [vars(c) for c in tried]}
    result |= {"path": str(job.path), "budget": {**record, "busy": note}}
    return result | also_written(job.path, options, job.name)


def _candidates(job: Job, tried: list[Candidate]) -> Iterator[Candidate]:
    """What is still worth a try after ``tried``, the best first."""
    given = job.options
    kinds = [kind for kind in KINDS if getattr(given, kind, False)] or list(KINDS)
    if given.no_data:  # int8 and half need data
        kinds = [kind for kind in kinds if kind == "float32"]
    model, options = job.spec.model, job.planned.config.model_options
    factors = SIZES[:1] if given.image_size or given.dynamic_size else SIZES
    for factor in factors:
        height, width = (side * factor for side in job.spec.size)
        size = nearest_size(model, (round(height), round(width)), options)
        if any(size == done.size for done in tried):
            continue
        for kind in kinds:
            # Half the bytes at the same speed; and the bytes don't depend on the image's size.
            slow = any(done.slow and done.size == size for done in tried)
            large = any(done.large and done.kind == kind for done in tried)
            if not (large or (kind == "half" and slow)):
                yield Candidate(kind, size)


def _try(
    run: Run, job: Job, candidate: Candidate, budget: Budget, file: Path
) -> dict[str, Any] | None:
    """Export and time a candidate into ``file``; its result where it fits, else the reason."""
    size = "x".join(map(str, candidate.size))
    print(f"trying {candidate.kind} at {size} ...", file=sys.stderr)
    kind = {name: candidate.kind == name for name in ("half", "int8")}
    other = None if candidate.size == job.spec.size else candidate.size
    options = replace(job.options, **kind, triton=None, web=None, single_file=False, keep=False)
    options = replace(options, image_size=job.options.image_size or other)
    try:
        result = export_onnx(run, file, options)
    except TfprojError as error:
        candidate.reason = str(error).removesuffix("; no file was written")
        return None
    candidate.mb = result["bytes"] / 1e6
    facts = result.get("quantization") or result.get("half") or result["verification"]
    candidate.metrics = facts["metrics"]
    if budget.max_mb is not None and candidate.mb > budget.max_mb:
        candidate.reason = f"{candidate.mb:.2f} MB"
        return None
    candidate.p50_ms = {}
    for threads in thread_counts():
        timing = measure(file, threads, SECONDS)
        candidate.p50_ms[threads] = timing.p50_ms
        if budget.max_ms is None or timing.p50_ms <= budget.max_ms:
            candidate.threads = threads
            return result
    candidate.reason = f"{min(candidate.p50_ms.values()):.2f} ms"
    return None


def _closest(tried: list[Candidate]) -> str:
    """The smallest and the fastest of what was tried, in words."""
    written = [c for c in tried if c.mb is not None]
    if not written:
        return tried[0].reason or ""  # a smaller size may fail for another, that nobody asked about
    smallest = min(written, key=lambda c: c.mb or 0)
    words = [f"the smallest is {smallest.kind} with {smallest.mb:.2f} MB"]
    timed = [(min(c.p50_ms.values()), c) for c in written if c.p50_ms]
    if timed:
        ms, fastest = min(timed, key=lambda pair: pair[0])
        words.append(
            f"the fastest {fastest.kind} at {'x'.join(map(str, fastest.size))} with {ms:.2f} ms"
        )
    return ", ".join(words)
