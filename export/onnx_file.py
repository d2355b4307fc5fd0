"""Write the best weights of a run as one ONNX file, or as another format, once it is verified."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tfproj import backend
from tfproj.core.files import write_bytes, write_together
from tfproj.errors import missing_extra
from tfproj.export.job import Job, Options, Rejected, prepare
from tfproj.export.runtimes import parts
from tfproj.export.triton import write_repository
from tfproj.export.web import write_page
from tfproj.inference.predictor import Predictor
from tfproj.runs.run import Run


def export_onnx(
    run: Run, output: str | Path | None = None, options: Options | None = None
) -> dict[str, Any]:
    """Write ``model.onnx`` for a run; nothing is written unless it gives Keras' answers.

    The graph takes ``image`` uint8 (N, H, W, C) with 0..255 and gives ``scores`` and
    ``probabilities`` float32; N is free. Batch norm is folded into the convolutions.

    Arguments, and errors of a wrong request, as for :func:`tfproj.export.job.prepare`.

    Returns:
        ``path``, ``bytes``, ``parameters``, and as in the file's metadata ``verification``,
        ``calibration``, ``thresholds`` and ``half`` (or None) or, of an int8 file,
        ``quantization``; ``triton`` and ``web`` where a repository or a page was written.

    Raises:
        Rejected: the answers differ from Keras; for int8, it is too inaccurate or not faster.
        TfprojError: conversion failed, or the file does not reproduce its golden vectors.
    """
    return write(prepare(run, output, options or Options()))


def write(job: Job) -> dict[str, Any]:
    """As :func:`export_onnx`, once the job is checked."""
    built = _made(job, _built)
    if job.options.format == "onnx":
        Predictor(built.data).selftest()  # reads the very bytes that are written
    files = parts(job.path, built.data)
    write_together({**files, **built.beside})
    kind = "quantization" if job.options.int8 else "half"
    result = {
        "path": str(job.path),
        "bytes": sum(map(len, files.values())),
        "parameters": built.parameters,
        "verification": built.measured.verification,
        "calibration": built.measured.calibration,
        "thresholds": built.measured.thresholds,
        kind: getattr(built.measured, kind),
    }
    return result | also_written(job.path, job.options, job.name)


def also_written(file: Path, options: Options, name: str) -> dict[str, str]:
    """What a user wants beside the file: ``triton`` and ``web``, the places of each."""
    found = {}
    if options.triton is not None:
        found["triton"] = str(write_repository(file, options.triton, name))
    if options.web is not None:
        found["web"] = str(write_page(file, options.web, options.single_file))
    return found


def _made(job: Job, make: Callable[[Job], Any]) -> Any:
    """What ``make`` gives, which loads TensorFlow; a rejected file is kept on demand."""
    backend.setup()  # quietly, and not before a mistake was reported
    try:
        return make(job)
    except ModuleNotFoundError as error:
        raise missing_extra(error.name or "onnx", "train") from None
    except Rejected as error:
        if job.options.keep:
            for path, data in parts(job.path, error.data).items():
                rejected = path.with_name(f"{path.name}.rejected")
                write_bytes(rejected, data)
                print(f"kept for inspection: {rejected}", file=sys.stderr)
        raise


def _built(job: Job) -> Any:
    """The :class:`tfproj.export.build.Built` to write."""
    from tfproj.export.build import build  # noqa: PLC0415 (it loads TensorFlow)
    from tfproj.export.quantize import quantize  # noqa: PLC0415 (as this)

    if job.options.format != "onnx":
        from tfproj.export.others import build_other  # noqa: PLC0415 (as this, of TensorFlow Lite)

        return build_other(job)
    built = build(job)
    return quantize(job, built) if job.options.int8 else built
