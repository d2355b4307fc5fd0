"""Run a file of another format than ONNX by its own runtime, without TensorFlow."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from tfproj.core.hardware import available_cpus
from tfproj.core.spec import INPUT_NAME, PROBABILITIES_NAME, SCORES_NAME, ModelSpec
from tfproj.errors import TfprojError, first_line, missing_extra

# By format: what its files end in, the package of its runtime, and the extra that brings it.
FORMATS = {
    "onnx": (".onnx", "onnxruntime", ""),
    "tflite": (".tflite", "ai_edge_litert", "tflite"),
    "openvino": (".xml", "openvino", "openvino-ir"),
}
# What lies beside such a file, in the place of its ending.
BESIDE = {"tflite": (".tflite.json", ".labels.txt"), "openvino": (".bin",)}
LITE = b"TFL3"  # from byte 4 on
GRAPH = b"<?xml"
END = b"\0"  # between OpenVINO's graph, which is text, and its weights


def require_runtime(format: str) -> None:
    """InputError where what runs files of a format is not installed."""
    _, package, extra = FORMATS[format]
    if importlib.util.find_spec(package) is None:
        raise missing_extra(package.replace("_", "-"), extra)


def parts(path: Path, data: bytes) -> dict[Path, bytes]:
    """The files that ``data`` is written as: OpenVINO's weights lie beside the graph."""
    if not data.startswith(GRAPH):
        return {path: data}
    graph, _, weights = data.partition(END)
    return dict(zip((path, *beside(path, "openvino")), (graph, weights), strict=True))


def beside(path: Path, format: str) -> list[Path]:
    """The other files that belong to a file of a format."""
    return [path.with_suffix(ending) for ending in BESIDE.get(format, ())]


def open_file(data: bytes, spec: ModelSpec) -> LiteRunner | GraphRunner | None:
    """What runs a file; None for one that is ONNX."""
    if data[4:8] == LITE:
        return LiteRunner(data, spec)
    return GraphRunner(data, spec) if data.startswith(GRAPH) else None


class LiteRunner:
    """A TensorFlow Lite file, which takes one image at a time.

    Args:
        data: the file.
        spec: what it was made of.
    """

    def __init__(self, data: bytes, spec: ModelSpec):
        from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 (an extra)

        self.spec = spec
        try:
            self._interpreter = Interpreter(model_content=data, num_threads=available_cpus())
            self._runner: Any = self._interpreter.get_signature_runner()
        except (ValueError, RuntimeError) as error:
            raise TfprojError(f"LiteRT cannot use the file ({first_line(error)})") from None

    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores and probabilities float32 of uint8 (B, H, W, C)."""
        answers = [self._runner(**{INPUT_NAME: picture[None]}) for picture in pixels]
        scores, probabilities = (
            np.concatenate([answer[name] for answer in answers])
            for name in (SCORES_NAME, PROBABILITIES_NAME)
        )
        return scores, probabilities


class GraphRunner:
    """OpenVINO's graph and weights, on the CPU and in float32; arguments as above."""

    def __init__(self, data: bytes, spec: ModelSpec):
        import openvino  # noqa: PLC0415 (an extra)

        self.spec = spec
        graph, _, weights = data.partition(END)
        core, exact = openvino.Core(), {"INFERENCE_PRECISION_HINT": "f32"}
        try:
            self._model = core.compile_model(core.read_model(graph, weights), "CPU", exact)
        except RuntimeError as error:
            raise TfprojError(f"OpenVINO cannot use the file ({first_line(error)})") from None

    def run(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scores and probabilities float32, masks (B, H, W, classes), of uint8 (B, H, W, C)."""
        found = self._model(pixels.transpose(0, 3, 1, 2).astype(np.float32))
        scores, probabilities = (
            np.moveaxis(found[name], 1, -1) for name in (SCORES_NAME, PROBABILITIES_NAME)
        )
        return scores, probabilities
