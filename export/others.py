"""A file of another format than ONNX, proved by its own runtime in a process without TensorFlow."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tfproj.core.leftovers import scratch
from tfproj.core.probabilities import probabilities_of
from tfproj.core.spec import PROBABILITIES_NAME, SCORES_NAME
from tfproj.errors import TfprojError
from tfproj.export.build import Built, answers_of, figures_of, network
from tfproj.export.golden import GOLDEN_TOLERANCE, golden_images, golden_vectors
from tfproj.export.isolated import Pass, predict_isolated
from tfproj.export.job import Job, Rejected
from tfproj.export.metadata import Measured, describe
from tfproj.export.openvino_ir import GraphMaker
from tfproj.export.quantize import EXAMPLES, TOLERANCE, with_room
from tfproj.export.samples import draw
from tfproj.export.tflite import LiteMaker
from tfproj.export.verify import Answers, comparison_samples, verify
from tfproj.inference.selftest import replay


class Maker(Protocol):
    """What makes the files of one format."""

    batch_sizes: tuple[int, ...]  # that a file takes, and is compared at
    graph: dict[str, Any]  # what the record says of it
    parameters: int
    measured: Measured  # before a file is compared

    def plain(self) -> bytes:
        """The float32 file."""

    def int8(self) -> tuple[bytes, dict[str, Any]]:
        """The int8 file, and how it was made."""

    def finished(self, data: bytes, record: dict[str, Any]) -> bytes:
        """The file with its record, where it has a place for that."""

    def beside(self, record: dict[str, Any]) -> dict[Path, bytes]:
        """Other files that belong to it."""


MAKERS: dict[str, Any] = {"tflite": LiteMaker, "openvino": GraphMaker}


def build_other(job: Job) -> Built:
    """The file and what belongs to it; errors as of ``export_onnx``."""
    model = network(job)
    maker: Maker = MAKERS[job.options.format](job, model)
    with scratch() as folder:
        data, measured = _compared(job, maker, answers_of(model), folder)
        record = _record(job, maker, measured)
        data = maker.finished(data, record)
        replay(record, _golden_answers(job, data, folder).__getitem__)  # the bytes to be written
    return Built(None, maker.parameters, measured, data, beside=maker.beside(record))


def _compared(job: Job, maker: Maker, answer: Answers, folder: Path) -> tuple[bytes, Measured]:
    """(file, what was measured), with golden answers; Rejected where it is not good enough."""
    spec, format, data = job.spec, job.options.format, maker.plain()
    print("comparing with Keras in a process without TensorFlow ...", file=sys.stderr)
    samples = comparison_samples(job.planned, folder)
    sizes = maker.batch_sizes
    try:
        checked = verify(data, spec, answer, samples, job.multiple, sizes, format)
    except TfprojError as error:
        raise Rejected(str(error), data) from error
    if checked.complaint is not None:
        raise Rejected(checked.complaint, data)
    measured = replace(maker.measured, verification=figures_of(job, checked))
    if job.options.int8:
        data, facts = _quantized(job, maker, data, folder)
        measured = replace(measured, quantization=facts)
        own = np.stack([*_golden_answers(job, data, folder).values()])
        golden = golden_vectors(spec, lambda _: own, TOLERANCE)
    else:
        golden = golden_vectors(
            spec, lambda p: probabilities_of(answer(p)[SCORES_NAME], spec.kind), GOLDEN_TOLERANCE
        )
    return data, replace(measured, golden=golden)


def _quantized(job: Job, maker: Maker, plain: bytes, folder: Path) -> tuple[bytes, dict[str, Any]]:
    """The int8 file and what it costs; Rejected where that is too much."""
    spec = job.spec
    data, facts = maker.int8()
    samples = draw(job.planned, with_room(spec, EXAMPLES[spec.task]), folder)
    plain_answers, answers = (
        predict_isolated(file, samples.files, [Pass(1)], folder, spec)[0] for file in (plain, data)
    )
    before, after = plain_answers[SCORES_NAME], answers[SCORES_NAME]
    changes = answers[PROBABILITIES_NAME] - plain_answers[PROBABILITIES_NAME]
    if samples.targets is None:
        samples = replace(samples, targets=samples.answers(before), agreement=True)
    old, new = samples.measure(before), samples.measure(after)
    loss = samples.loss(old, new)
    if not loss.acceptable:
        raise Rejected(f"int8 loses {loss}", data)
    return data, {
        **facts,
        "images": len(samples.files),
        "metrics": {name: {"float32": old[name], "int8": new[name]} for name in old},
        "mean_difference": float(np.abs(changes).mean()),
    }


def _golden_answers(job: Job, data: bytes, folder: Path) -> dict[bytes, np.ndarray]:
    """The file's probabilities for the golden images, by its runtime."""
    pictures = [*golden_images(job.spec).values()]
    files = [folder / f"golden{i}.png" for i in range(len(pictures))]
    for file, picture in zip(files, pictures, strict=True):
        file.write_bytes(picture)
    answers = predict_isolated(data, files, [Pass(1)], folder, job.spec)[0]
    return dict(zip(pictures, answers[PROBABILITIES_NAME], strict=True))


def _record(job: Job, maker: Maker, measured: Measured) -> dict[str, Any]:
    """As inside an ONNX file, but for the graph, and for a file that takes one image at a time."""
    record = describe(job, measured)
    record["graph"] = {"format": job.options.format, **maker.graph}
    if maker.batch_sizes == (1,):
        for part in (record["input"], *record["outputs"].values()):
            part["shape"] = [1, *part["shape"][1:]]
    return record
