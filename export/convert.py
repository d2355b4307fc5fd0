"""Convert the best weights of a run to ONNX and write the file once it is verified."""

from __future__ import annotations

import importlib.util
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from tfproj import backend
from tfproj.core.files import replacing
from tfproj.core.softmax import softmax
from tfproj.core.spec import INPUT_NAME, PROBABILITIES_NAME, SCORES_NAME, ModelSpec
from tfproj.errors import InputError, TfprojError, first_line, missing_extra
from tfproj.evaluation.evaluate import predict_split
from tfproj.experiment.plan import Plan, plan_evaluation, plan_without_data
from tfproj.inference.predictor import Predictor
from tfproj.models.checkpoint import load_model
from tfproj.models.folding import fold_norms
from tfproj.runs.run import Run

# uint8 images (B, H, W, C) -> scores float32, by Keras.
Answers = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Options:
    """What a user may say about an export.

    Attributes:
        opset: ONNX operator set; None: the newest that ``target_ort`` reads.
        target_ort: oldest onnxruntime that must load the file; None: any since 1.14.
        dynamic_size: leave height and width free.
        half: keep the weights in 16 bits; the arithmetic stays in float32.
        keep: write a file that failed its verification as ``NAME.rejected``.
        data: a data set to take instead of the run's own, or where that lies now.
        no_data: verify on generated images, and leave out what only data can tell.
    """

    opset: int | None = None
    target_ort: str | None = None
    dynamic_size: bool = False
    half: bool = False
    keep: bool = False
    data: str | None = None
    no_data: bool = False


@dataclass(frozen=True)
class Exported:
    """A verified model, not yet written.

    Attributes:
        planned: the run's configuration and data.
        spec: of the file.
        proto: the graph, an ``onnx.ModelProto``.
        record: the metadata, with the verification.
        data: the file.
        parameters: number of weights in the graph.
    """

    planned: Plan
    spec: ModelSpec
    proto: Any
    record: dict[str, Any]
    data: bytes
    parameters: int


def export_onnx(
    run: Run, output: str | Path | None = None, options: Options | None = None
) -> dict[str, Any]:
    """Write ``model.onnx`` for a run; nothing is written unless it gives Keras' answers.

    The graph takes ``image`` uint8 (N, H, W, C) with 0..255 and gives ``scores`` and
    ``probabilities`` float32; N is free. Batch norm is folded into the convolutions.

    Args:
        run: a trained run whose data set is at hand, but with ``data`` or ``no_data``.
        output: file to write; None: ``model.onnx`` in the run directory.
        options: see :class:`Options`.

    Returns:
        ``path``, ``bytes``, ``parameters``, the ``verification`` figures, and ``calibration`` and
        ``half`` as in the file's metadata, or None.

    Raises:
        InputError: files missing, or the output can't be written.
        TfprojError: conversion failed, or the answers differ from Keras.
    """
    path = check_output(run, output)
    exported = build(run, options or Options(), path)
    write(path, exported.data)
    return {
        "path": str(path),
        "bytes": len(exported.data),
        "parameters": exported.parameters,
        "verification": exported.record["verification"],
        "calibration": exported.record.get("calibration"),
        "half": exported.record.get("half"),
    }


def build(run: Run, options: Options, path: Path) -> Exported:
    """Convert and verify; arguments and errors as for :func:`export_onnx`, ``path`` as settled.

    With ``half`` Keras computes with the rounded weights, too, and what rounding costs is a test
    of its own.
    """
    _require_onnx()
    from tfproj.export.golden import GOLDEN_TOLERANCE, golden_vectors
    from tfproj.export.metadata import attach, describe
    from tfproj.export.opset import choose_opset
    from tfproj.export.simplify import store_half
    from tfproj.export.verify import rounding

    opset, ir_version = choose_opset(options.opset, options.target_ort)
    planned = _plan(run, options)
    spec = file_spec(planned, options.dynamic_size)
    backend.setup()
    digest = run.weights_digest()  # before they are read: a training may replace them
    exact = trained = load_model(run)
    require_finite(trained, run)
    if options.half:
        trained = halved(exact, planned)
    print("converting to ONNX ...", file=sys.stderr)
    proto, parameters = _graph(trained, planned, spec, opset)
    if options.half:
        store_half(proto)
    proto.ir_version = ir_version
    answer = answers_of(free_size(trained, spec))
    record = describe(run, planned, spec, opset, ir_version)
    record["training"]["weights_sha256"] = digest
    record |= calibrate(trained, planned)
    record["golden"] = golden_vectors(
        spec, lambda pixels: softmax(answer(pixels)), GOLDEN_TOLERANCE
    )
    print("comparing with Keras in a process without TensorFlow ...", file=sys.stderr)
    try:
        _verify(proto, record, answer, planned)
        if options.half:
            record["half"] = rounding(answers_of(exact), answers_of(trained), planned)
    except TfprojError:
        if options.keep:
            keep(path, attach(proto, record))
        raise
    return Exported(planned, spec, proto, record, attach(proto, record), parameters)


def _plan(run: Run, options: Options) -> Plan:
    """On the run's own data, on others, or on none."""
    if not options.no_data:
        planned = plan_evaluation(run, data=options.data)
        for note in () if planned.own_data else planned.dataset.notes:
            print(f"note: {planned.dataset.name}: {note}", file=sys.stderr)
        return planned
    if options.data is not None:
        raise InputError("--data and --no-data exclude each other")
    if options.half:
        raise InputError("--half needs data, to measure what the rounding costs: --data DIR")
    return plan_without_data(run)


def require_finite(model, run: Run) -> None:
    """TfprojError where a weight is not a number or infinite: the training had diverged."""
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        raise TfprojError(
            f"{run.best_weights}: holds weights that are not numbers; train again with a smaller "
            "--learning-rate"
        )


def halved(model, planned: Plan):
    """A copy without norms whose weights are rounded to float16: what a halved file computes.

    Raises:
        TfprojError: a weight is beyond what float16 can hold.
    """
    import keras

    folded = fold_norms(model, planned.spec, planned.config.model_options)
    copy = keras.models.clone_model(folded)
    with np.errstate(over="ignore"):
        rounded = [w.astype(np.float16).astype(np.float32) for w in folded.get_weights()]
    if not all(np.isfinite(weight).all() for weight in rounded):
        raise TfprojError("a weight is too large for 16 bits; leave out --half")
    copy.set_weights(rounded)
    return copy


def _graph(trained, planned: Plan, spec: ModelSpec, opset: int) -> tuple[Any, int]:
    """(``onnx.ModelProto``, number of weights) of a trained model."""
    from tfproj.export.simplify import tidy

    model = fold_norms(trained, planned.spec, planned.config.model_options)
    layers = [layer.name for layer in model.layers]
    return tidy(convert(model, opset), layers, spec.dynamic_size), model.count_params()


def _verify(proto: Any, record: dict[str, Any], answer: Answers, planned: Plan) -> None:
    """Add ``verification`` to the record, also where it fails; errors as for ``verify``."""
    from tfproj.export.metadata import attach
    from tfproj.export.verify import verify

    spec = ModelSpec.from_dict(record)
    try:
        record["verification"] = verify(attach(proto, record), spec, answer, planned)
    except TfprojError as error:
        record["verification"] = getattr(error, "verification", {"error": str(error)})
        raise


def write(path: Path, data: bytes) -> None:
    """Write a verified file, once the predictor has read these very bytes and its golden vectors.

    Raises:
        TfprojError: it does not reproduce them.
    """
    Predictor(data).selftest()
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def _require_onnx() -> None:
    # Not imported here: tf2onnx imports TensorFlow, which only backend.setup keeps quiet.
    for package in ("onnx", "tf2onnx"):
        if importlib.util.find_spec(package) is None:
            raise missing_extra(package, "train")


def keep(path: Path, data: bytes) -> None:
    """Write a rejected file beside where the good one would have been."""
    rejected = path.with_name(path.name + ".rejected")
    with replacing(rejected) as temporary:
        temporary.write_bytes(data)
    print(f"kept for inspection: {rejected}", file=sys.stderr)


def file_spec(planned: Plan, dynamic_size: bool) -> ModelSpec:
    """The run's spec as the file will carry it; InputError where a free size is impossible."""
    if dynamic_size and planned.spec.task != "segment":
        raise InputError(
            f"--dynamic-size is for segmentation; model {planned.spec.model!r} classifies images "
            "of one size"
        )
    return replace(planned.spec, dynamic_size=dynamic_size)


def free_size(model, spec: ModelSpec):
    """The same model and weights for any height and width, where the spec wants that."""
    if not spec.dynamic_size:
        return model
    import keras

    inputs = keras.Input((None, None, spec.channels), dtype="uint8", name=INPUT_NAME)
    free = keras.models.clone_model(model, input_tensors=inputs)
    free.set_weights(model.get_weights())
    return free


def answers_of(model) -> Answers:
    """A Keras model as a function from uint8 (B, H, W, C) to scores float32."""
    return lambda pixels: model(pixels, training=False).numpy()


def calibrate(model, planned: Plan) -> dict[str, Any]:
    """``calibration`` by the validation split; nothing for segmentation or without that split."""
    if planned.spec.task != "classify" or "val" not in planned.dataset.splits:
        return {}
    from tfproj.export.temperature import fit_temperature, unknown_threshold

    batches = list(predict_split(model, planned, "val"))
    scores, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    fit = fit_temperature(scores, labels)
    threshold = unknown_threshold(scores, labels, fit["temperature"])
    if threshold is not None:
        fit["unknown_threshold"] = threshold
    return {"calibration": fit}


def check_output(run: Run, output: str | Path | None) -> Path:
    """Where the file will go; InputError where that is no place for it."""
    path = Path(output) if output is not None else run.onnx_file
    if path.suffix != ".onnx":
        raise InputError(f"{path}: the output must end in .onnx")
    if path.is_dir():
        raise InputError(f"{path}: is a directory; name a file")
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such directory")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"{path}: cannot be written (no permission in {path.parent})")
    return path


def convert(model, opset: int):
    """A Keras model from images to scores as an ``onnx.ModelProto`` with both outputs.

    Height and width are static, the batch is free.

    Raises:
        TfprojError: tf2onnx failed, or only warned that one of its passes failed.
    """
    import tensorflow as tf
    import tf2onnx

    signature = tf.TensorSpec((None, *model.input_shape[1:]), tf.uint8, name=INPUT_NAME)

    @tf.function(input_signature=[signature])
    def graph(image):
        scores = model(image, training=False)
        return {
            SCORES_NAME: tf.identity(scores, SCORES_NAME),
            PROBABILITIES_NAME: tf.nn.softmax(scores, name=PROBABILITIES_NAME),
        }

    warnings = _Warnings()
    logging.getLogger("tf2onnx").addHandler(warnings)
    try:
        proto, _ = tf2onnx.convert.from_function(graph, [signature], opset=opset)
    except (ValueError, RuntimeError, TypeError, NotImplementedError) as error:
        raise TfprojError(f"conversion failed: {first_line(error)}") from error
    finally:
        logging.getLogger("tf2onnx").removeHandler(warnings)
    if warnings.messages:
        raise TfprojError(f"conversion is not to be trusted, tf2onnx says: {warnings.messages[0]}")
    return proto


class _Warnings(logging.Handler):
    """Collects warnings: tf2onnx goes on after a failed pass and only logs it."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
