"""A TensorFlow Lite file.

It takes ``image``, uint8 (1, H, W, C), and gives ``probabilities`` and ``scores``, float32. Beside
it lie its record, with golden vectors, and its classes, one a line.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.lite.tools import flatbuffer_utils

from tfproj.core.spec import INPUT_NAME, PROBABILITIES_NAME, SCORES_NAME, ModelSpec
from tfproj.errors import TfprojError, first_line
from tfproj.export.build import measured_before
from tfproj.export.job import Job
from tfproj.export.quantize import CALIBRATION_IMAGES
from tfproj.export.runtimes import beside
from tfproj.export.samples import calibration_images
from tfproj.models.folding import fold_norms


class LiteMaker:
    """See :class:`tfproj.export.others.Maker`; it takes one image at a time."""

    batch_sizes = (1,)
    graph: dict[str, Any] = {}

    def __init__(self, job: Job, model: Any):
        self._job, self._spec = job, job.spec
        self._folded = fold_norms(model, job.spec, job.planned.config.model_options)
        self.parameters, self.measured = self._folded.count_params(), measured_before(job, model)

    def plain(self) -> bytes:
        print("converting to TensorFlow Lite ...", file=sys.stderr)
        return convert(self._folded, self._spec)

    def int8(self) -> tuple[bytes, dict[str, Any]]:
        images = calibration_images(self._job.planned, CALIBRATION_IMAGES[self._spec.task])
        return convert(self._folded, self._spec, images), {
            "method": "MinMax",
            "format": "static, per channel, activations and weights int8, image uint8",
            "excluded": [],
            "calibration_images": len(images),
        }

    def finished(self, data: bytes, record: dict[str, Any]) -> bytes:
        return data  # it has no place for a record

    def beside(self, record: dict[str, Any]) -> dict[Path, bytes]:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n"
        labels = "".join(f"{' '.join(c.split())}\n" for c in self._spec.classes)
        places = beside(self._job.path, "tflite")
        return dict(zip(places, (text.encode(), labels.encode()), strict=True))


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
        # Keras lists every weight; TensorFlow misses statistics that only another way needs.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Statistics for quantized inputs")
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
