"""A TensorFlow Lite file of a run, proved by LiteRT in a process without TensorFlow.

It takes ``image``, uint8 (1, H, W, C), and gives ``probabilities`` and ``scores``, float32. Beside
it lie its record, with golden vectors, and its classes, one a line.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from tensorflow.lite.tools import flatbuffer_utils

from tfproj.core.files import write_bytes, write_text
from tfproj.core.leftovers import scratch
from tfproj.core.probabilities import probabilities_of
from tfproj.core.spec import INPUT_NAME, PROBABILITIES_NAME, SCORES_NAME, ModelSpec
from tfproj.errors import TfprojError, first_line
from tfproj.export.build import answers_of, measured_before, network
from tfproj.export.golden import GOLDEN_TOLERANCE, golden_vectors
from tfproj.export.isolated import Pass, predict_isolated
from tfproj.export.job import Job, Rejected
from tfproj.export.metadata import Measured, describe
from tfproj.export.quantize import CALIBRATION_IMAGES, EXAMPLES, TOLERANCE
from tfproj.export.samples import calibration_images, draw
from tfproj.export.verify import Answers, comparison_samples, verify
from tfproj.models.folding import fold_norms


def write_tflite(job: Job) -> dict[str, Any]:
    """Write the file and what belongs to it; result and errors as of ``export_onnx``."""
    with scratch() as folder:
        data, parameters, measured = _built(job, folder)
    write_bytes(job.path, data)
    record = json.dumps(_record(job, measured), ensure_ascii=False, allow_nan=False)
    write_text(job.path.with_name(f"{job.path.name}.json"), record + "\n")
    lines = "".join(f"{' '.join(c.split())}\n" for c in job.spec.classes)
    write_text(job.path.with_suffix(".labels.txt"), lines)
    kind = "quantization" if job.options.int8 else "half"
    return {
        "path": str(job.path),
        "bytes": len(data),
        "parameters": parameters,
        "verification": measured.verification,
        "calibration": measured.calibration,
        "thresholds": measured.thresholds,
        kind: getattr(measured, kind),
    }


def _built(job: Job, folder: Path) -> tuple[bytes, int, Measured]:
    """(file, number of weights, what was measured); Rejected where it is not good enough."""
    model, spec = network(job), job.spec
    folded = fold_norms(model, spec, job.planned.config.model_options)
    print("converting to TensorFlow Lite ...", file=sys.stderr)
    data, answer = convert(folded, spec), answers_of(model)
    print("comparing with Keras in a process without TensorFlow ...", file=sys.stderr)
    samples = comparison_samples(job.planned, folder)
    checked = verify(data, spec, answer, samples, job.multiple, batch_sizes=(1,), format="tflite")
    if checked.complaint is not None:
        raise Rejected(checked.complaint, data)
    figures = checked.to_dict()
    if job.planned.dataset.splits and not job.planned.own_data:
        figures["data"] = Path(job.planned.dataset.name).name
    measured = replace(measured_before(job, model), verification=figures)
    if job.options.int8:
        data, facts = _quantized(job, folded, data, folder)
        measured = replace(measured, quantization=facts)
        golden = golden_vectors(spec, _by_litert(data, spec, folder), TOLERANCE)
    else:
        golden = golden_vectors(spec, _proved(answer, data, spec, folder), GOLDEN_TOLERANCE)
    return data, folded.count_params(), replace(measured, golden=golden)


def convert(model: Any, spec: ModelSpec, images: np.ndarray | None = None) -> bytes:
    """The file of a Keras model from uint8 images to scores.

    Args:
        images: uint8 (N, H, W, C) to calibrate with, for a file of 8-bit integers throughout.

    Raises:
        TfprojError: it needs operators beyond TensorFlow Lite's own.
    """
    shape = (*spec.size, spec.channels)
    # The converter turns a float image into bytes itself, and then scales in integers.
    kind = "uint8" if images is None else "float32"
    whole = _with_both(
        model, keras.Input(batch_shape=(1, *shape), dtype=kind, name=INPUT_NAME), spec
    )
    converter = tf.lite.TFLiteConverter.from_keras_model(whole)
    if images is not None:
        ends = np.uint8([0, 255])  # so that the image's own values are its codes
        extremes = np.broadcast_to(ends[:, None, None, None], (2, *shape))
        converter.representative_dataset = lambda: (
            [np.float32(one[None])] for one in (*extremes, *images)
        )
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # Keras lists every weight
            return _probabilities_first(converter.convert())
    except Exception as error:  # the converter raises many kinds
        raise TfprojError(f"conversion to TensorFlow Lite failed: {first_line(error)}") from None


def _probabilities_first(data: bytes) -> bytes:
    """The same file with its outputs in this order, which clients without names go by."""
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(data))
    named = {entry.name.decode(): entry.tensorIndex for entry in model.signatureDefs[0].outputs}
    model.subgraphs[0].outputs = [named[PROBABILITIES_NAME], named[SCORES_NAME]]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _with_both(model: Any, image: Any, spec: ModelSpec) -> Any:
    """A copy that takes ``image`` and gives both answers."""
    copy = keras.models.clone_model(model, input_tensors=image)
    copy.set_weights(model.get_weights())
    (scores,) = copy.outputs
    activation = keras.ops.sigmoid if spec.multi_label else keras.ops.softmax
    return keras.Model(image, {PROBABILITIES_NAME: activation(scores), SCORES_NAME: scores})


def _quantized(job: Job, model: Any, plain: bytes, folder: Path) -> tuple[bytes, dict[str, Any]]:
    """The int8 file and what it costs; Rejected where that is too much."""
    spec, task = job.spec, job.spec.task
    images = calibration_images(job.planned, CALIBRATION_IMAGES[task])
    data = convert(model, spec, images)
    samples = draw(job.planned, EXAMPLES[task], folder)
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
        "method": "MinMax",
        "format": "static, per channel, activations and weights int8, image uint8",
        "excluded": [],
        "calibration_images": len(images),
        "images": len(samples.files),
        "metrics": {name: {"float32": old[name], "int8": new[name]} for name in old},
        "mean_difference": float(np.abs(changes).mean()),
    }


def _by_litert(data: bytes, spec: ModelSpec, folder: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Probabilities of uint8 (B, H, W, C), by a process without TensorFlow."""

    def answer(pixels: np.ndarray) -> np.ndarray:
        files = [folder / f"golden{i}.png" for i in range(len(pixels))]
        for file, picture in zip(files, pixels, strict=True):
            Image.fromarray(picture[..., 0] if spec.channels == 1 else picture).save(file)
        return predict_isolated(data, files, [Pass(1)], folder, spec)[0][PROBABILITIES_NAME]

    return answer


def _proved(
    keras_answer: Answers, data: bytes, spec: ModelSpec, folder: Path
) -> Callable[[np.ndarray], np.ndarray]:
    """Keras' probabilities; TfprojError where LiteRT's are others."""
    ours = _by_litert(data, spec, folder)

    def answer(pixels: np.ndarray) -> np.ndarray:
        expected = probabilities_of(keras_answer(pixels)[SCORES_NAME], spec.kind)
        worst = float(np.abs(ours(pixels) - expected).max())
        if not worst <= GOLDEN_TOLERANCE:
            raise TfprojError(f"a golden vector differs by {worst:.2g}; no file was written")
        return expected

    return answer


def _record(job: Job, measured: Measured) -> dict[str, Any]:
    """As inside an ONNX file, of one image at a time."""
    record = {**describe(job, measured), "graph": {"format": "tflite"}}
    for part in (record["input"], *record["outputs"].values()):
        part["shape"] = [1, *part["shape"][1:]]
    return record
