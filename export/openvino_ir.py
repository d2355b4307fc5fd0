"""OpenVINO's graph and weights, made of a verified ONNX file with channels first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx

from tfproj.core.leftovers import scratch
from tfproj.core.spec import METADATA_KEY, PROBABILITIES_NAME, SCORES_NAME, ModelSpec
from tfproj.errors import TfprojError, first_line
from tfproj.export.build import build
from tfproj.export.job import Job
from tfproj.export.metadata import as_text, model_info
from tfproj.export.quantize import CALIBRATION_IMAGES, choose
from tfproj.export.runtimes import END
from tfproj.export.samples import calibration_images
from tfproj.export.verify import BATCH_SIZES

# Model API takes masks of a graph with one output, and with features, which it hands on.
FEATURES = "feature_vector"


class GraphMaker:
    """See :class:`tfproj.export.others.Maker`."""

    batch_sizes = BATCH_SIZES

    def __init__(self, job: Job, model: Any):
        self._job, self._built = job, build(job)
        self.parameters = self._built.parameters
        self.measured = replace(self._built.measured, outputs=None)
        self.graph = {"opset": job.opset, "inference_precision": "f32"}

    def plain(self) -> bytes:
        return convert(self._built.data, self._job.spec)

    def int8(self) -> tuple[bytes, dict[str, Any]]:
        images = calibration_images(self._job.planned, CALIBRATION_IMAGES[self._job.spec.task])
        trial, facts = choose(self._job, self._built, images)
        return convert(trial.data, self._job.spec), facts

    def finished(self, data: bytes, record: dict[str, Any]) -> bytes:
        import openvino  # noqa: PLC0415 (an extra)

        graph, _, weights = data.partition(END)
        model = openvino.Core().read_model(graph, weights)
        model.set_rt_info(as_text(record), [METADATA_KEY])
        return _serialized(model)

    def beside(self, record: dict[str, Any]) -> dict[Path, bytes]:
        return {}  # the graph holds it


def convert(data: bytes, spec: ModelSpec) -> bytes:
    """Graph and weights, in float32, of an ONNX file; outputs: probabilities, then scores.

    Raises:
        TfprojError: OpenVINO can't read it.
    """
    import openvino  # noqa: PLC0415 (an extra)

    proto = onnx.load_from_string(data)
    del proto.metadata_props[:]  # it would become ours in another place
    try:
        whole = openvino.Core().read_model(proto.SerializeToString())
        named = {result.output(0).any_name: result for result in whole.get_results()}
        results = [named[PROBABILITIES_NAME], named[SCORES_NAME]]
        model = openvino.Model(results, whole.get_parameters(), proto.producer_name)
        model.inputs[0].node.layout = openvino.Layout(spec.layout)
        for key, value in model_info(spec).items():
            model.set_rt_info(value, ["model_info", key])
        if spec.task == "segment":
            model.outputs[1].get_tensor().add_names({FEATURES})
        return _serialized(model)
    except RuntimeError as error:
        raise TfprojError(f"conversion to OpenVINO failed: {first_line(error)}") from None


def _serialized(model: Any) -> bytes:
    import openvino  # noqa: PLC0415 (an extra)

    with scratch() as folder:
        path = folder / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        return path.read_bytes() + END + path.with_suffix(".bin").read_bytes()
