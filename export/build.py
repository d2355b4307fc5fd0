"""The float32 file of a run, proved against Keras."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.core.leftovers import scratch
from tfproj.core.probabilities import probabilities_of
from tfproj.core.spec import SCORES_NAME, UNKNOWN_THRESHOLD
from tfproj.errors import InputError, TfprojError
from tfproj.evaluation.evaluate import choose_thresholds
from tfproj.evaluation.labels import DEFAULT
from tfproj.evaluation.prediction import predict_split
from tfproj.experiment.plan import Plan
from tfproj.export import half, simplify
from tfproj.export.convert import free_size, simple_graph
from tfproj.export.golden import GOLDEN_TOLERANCE, golden_vectors
from tfproj.export.job import Job, Rejected
from tfproj.export.metadata import Measured, attach, describe
from tfproj.export.opset import IR_VERSION
from tfproj.export.temperature import measure_temperature
from tfproj.export.unknown import Surroundings, extended, features_of, survey
from tfproj.export.verify import (
    Answers,
    Verification,
    comparison_samples,
    keras_outputs,
    verify,
)
from tfproj.models.checkpoint import load_model
from tfproj.models.registry import build_model


@dataclass(frozen=True)
class Built:
    """A verified model, not yet written.

    Attributes:
        proto: the graph, an ``onnx.ModelProto``; None of another format.
        parameters: number of weights in it.
        measured: what its metadata says beside the job.
        data: the file.
        found: where training images lie, for a score of unknown ones.
        beside: other files that belong to it, by path.
    """

    proto: Any
    parameters: int
    measured: Measured
    data: bytes
    found: Surroundings | None = None
    beside: dict[Path, bytes] = field(default_factory=dict)


def build(job: Job) -> Built:
    """Convert and verify.

    With ``half`` Keras computes with the rounded weights, too, and what rounding costs is a test
    of its own.

    Raises:
        Rejected: the answers differ from Keras, or rounded weights cost too much.
        TfprojError: conversion failed.
    """
    planned, spec = job.planned, job.spec
    exact = trained = network(job)
    if job.options.half:
        trained = half.halved(exact, planned)
    print("converting to ONNX ...", file=sys.stderr)
    found = _surroundings(trained, job)
    options = planned.config.model_options
    proto, parameters = simple_graph(
        trained, spec, options, job.opset, found, job.options.converter
    )
    if job.options.half:
        half.store_half(proto)
    proto.ir_version = IR_VERSION
    simplify.check(proto, tidied=job.model is None)
    complete = extended(free_size(trained, spec), spec, found)
    answer = answers_of(complete)
    outputs = getattr(complete, "output", None)
    outputs = outputs if isinstance(outputs, dict) else {}
    golden = golden_vectors(
        spec, lambda p: probabilities_of(answer(p)[SCORES_NAME], spec.kind), GOLDEN_TOLERANCE
    )
    measured = replace(
        measured_before(job, trained, found),
        golden=golden,
        outputs={name: list(output.shape[1:]) for name, output in outputs.items()},
    )
    print("comparing with Keras in a process without TensorFlow ...", file=sys.stderr)
    measured = _prove(job, proto, measured, answer, answers_of(exact))
    return Built(proto, parameters, measured, attach(proto, describe(job, measured)), found)


def _loaded(job: Job):
    """The trained model, at the size of the file."""
    model, spec = load_model(job.run), job.planned.spec
    if model.input_shape[1:3] == spec.size:
        return model
    other = build_model(spec, job.planned.config.model_options)
    try:
        other.set_weights(model.get_weights())
    except ValueError:  # shapes that differ
        size = " x ".join(map(str, model.input_shape[1:3]))
        message = f"model {spec.model!r} has weights for images of {size} px alone"
        raise InputError(f"{message}; leave --image-size out") from None
    return other


def _prove(job: Job, proto: Any, measured: Measured, answer: Answers, exact: Answers) -> Measured:
    """The measurements with those that prove the file; errors as for :func:`build`.

    Args:
        answer, exact: Keras with the weights of the file, and with those that were trained.
    """
    with scratch() as folder:
        samples = comparison_samples(job.planned, folder)
        try:
            data = attach(proto, describe(job, measured))
            verification = verify(data, job.spec, answer, samples, job.multiple)
        except TfprojError as error:
            failed = replace(measured, verification={"error": str(error)})
            raise Rejected(str(error), attach(proto, describe(job, failed))) from error
        measured = replace(measured, verification=figures_of(job, verification))
        complaint = verification.complaint
        if complaint is None and job.options.half:
            outputs = (keras_outputs(a, samples.files, job.spec) for a in (exact, answer))
            figures, loss = half.rounding(*(o[SCORES_NAME] for o in outputs), samples)
            measured = replace(measured, half=figures)
            if not loss.acceptable:
                complaint = f"weights of 16 bits cost {loss}; leave out --half"
    if complaint is not None:
        raise Rejected(complaint, attach(proto, describe(job, measured)))
    return measured


def figures_of(job: Job, verification: Verification) -> dict[str, Any]:
    """``verification`` of the metadata, which says on what data it was, if not on the run's own."""
    figures = verification.to_dict()
    if job.planned.dataset.splits and not job.planned.own_data:
        figures["data"] = Path(job.planned.dataset.name).name
        figures |= {"split": "given"} if job.model is not None else {}
    return figures


def measured_before(job: Job, model: Any, found: Surroundings | None = None) -> Measured:
    """What the Keras model tells: its temperature, its thresholds."""
    thresholds = _thresholds(job, model) if job.spec.multi_label else {}
    return Measured(calibration=_calibration(model, job.planned, found), **thresholds)


def network(job: Job):
    """The Keras model; TfprojError where a weight is not finite: the training had diverged."""
    model = _loaded(job) if job.model is None else job.model
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        raise TfprojError(
            f"{job.title}: holds weights that are not numbers; train again with a smaller "
            "--learning-rate"
        )
    return model


def answers_of(model) -> Answers:
    """A Keras model as a function from uint8 (B, H, W, C) to outputs float32 by name."""

    def answer(pixels: np.ndarray) -> dict[str, np.ndarray]:
        found = model(pixels, training=False)
        found = found if isinstance(found, dict) else {SCORES_NAME: found}
        return {name: value.numpy() for name, value in found.items()}

    return answer


def _surroundings(model, job: Job) -> Surroundings | None:
    """Where training images lie; None for what has no such score, and without enough data."""
    if job.spec.kind != "classify" or job.model is not None or job.options.format != "onnx":
        return None
    found = survey(job.planned, features_of(model), job.options.half)
    if isinstance(found, str):
        print(f"note: no score of unknown images: {found}", file=sys.stderr)
        return None
    return found


def _thresholds(job: Job, model) -> dict[str, Any]:
    """``thresholds`` and ``threshold_choice``: the default, where there is no run to choose for."""
    if job.model is None:
        return choose_thresholds(model, job.planned, job.run)
    choice = {"by": "F1", "examples": 0, "default": list(job.spec.classes)}
    return {"thresholds": [DEFAULT] * len(job.spec.classes), "threshold_choice": choice}


def _calibration(model, planned: Plan, found: Surroundings | None) -> dict[str, Any] | None:
    """``calibration`` by the validation split; None where it has no labels to do it with."""
    val = planned.dataset.splits.get("val")
    if planned.spec.kind != "classify" or val is None or val.labels is None:
        return None
    batches = list(predict_split(model, planned, "val"))
    scores, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    threshold = {} if found is None else {UNKNOWN_THRESHOLD: found.threshold}
    return {**measure_temperature(scores, labels).to_dict(), **threshold}
