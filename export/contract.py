"""What an exported file says about itself; docs/onnx-contract.md is the text for readers."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from PIL import Image

from tfproj.core import image
from tfproj.core.spec import (
    INPUT_NAME,
    METADATA_KEY,
    PREPROCESSING,
    PROBABILITIES_NAME,
    SCORES_NAME,
    ModelSpec,
)
from tfproj.experiment.plan import Plan
from tfproj.models.registry import input_multiple
from tfproj.runs import environment
from tfproj.runs.run import Run

GOLDEN_TOLERANCE = 1e-4
# A vector of a 256 x 256 segmenter would be 1.3 MB; every k-th row and column is proof enough.
GOLDEN_BYTES = 14_000
GOLDEN_SEED = 1789


def metadata(run: Run, planned: Plan, spec: ModelSpec, opset: int, ir: int) -> dict[str, Any]:
    """The record of the file, as plain JSON types; what is measured later is added to it.

    Args:
        run, planned: where the weights come from and what they were trained on.
        spec: of the file; ``dynamic_size`` may differ from the run's.
        opset, ir: of the graph.
    """
    free = spec.dynamic_size
    size = ["H", "W"] if free else list(spec.size)
    outputs = {
        name: {"dtype": "float32", "shape": ["N", *_output_shape(spec, size)], "meaning": meaning}
        for name, meaning in (
            (SCORES_NAME, "before softmax"),
            (PROBABILITIES_NAME, "softmax of the scores over the last axis, 0..1"),
        )
    }
    return {
        **spec.to_dict(),
        "input": {
            "name": INPUT_NAME,
            "dtype": "uint8",
            "layout": "NHWC",
            "shape": ["N", *size, spec.channels],
            "range": [0, 255],
            "multiple": input_multiple(spec.model, planned.config.model_options),
        },
        "outputs": outputs,
        "preprocessing": PREPROCESSING,
        "graph": {"opset": opset, "ir_version": ir},
        "training": {
            "preset": planned.config.preset,
            "model_options": dict(planned.config.model_options),
            "seed": planned.config.seed,
            "run": run.name,
            "data": planned.dataset.name,
            "license": planned.dataset.license,
        },
        "versions": environment.versions(),
    }


def _output_shape(spec: ModelSpec, size: list) -> list:
    classes = len(spec.classes)
    return [classes] if spec.task == "classify" else [*size, classes]


def ultralytics_keys(spec: ModelSpec, multiple: int) -> dict[str, str]:
    """The keys that Ultralytics' ONNX readers look for, as text.

    They parse the values of ``imgsz`` and ``names`` as Python literals and ``stride``, ``batch``
    and ``channels`` with ``int``; lists, strings and whole numbers are the same in JSON, so other
    languages can read them too. Characters are not escaped: Python knows no surrogate pairs.
    """
    names = {str(index): name for index, name in enumerate(spec.classes)}
    return {
        "task": spec.task,
        "names": json.dumps(names, ensure_ascii=False),
        "imgsz": json.dumps(list(spec.size)),
        "stride": str(multiple),
        "batch": "1",
        "channels": str(spec.channels),
    }


def attach(proto: onnx.ModelProto, record: dict[str, Any]) -> bytes:
    """The file: the graph with the record in its metadata."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    copy.producer_name, copy.producer_version = "tfproj", record["versions"]["tfproj"]
    text = json.dumps(record, ensure_ascii=False, allow_nan=False)
    # A name of a file may hold bytes that are no text, which JSON has no place for.
    text = text.encode("utf-8", "replace").decode("utf-8")
    spec, multiple = ModelSpec.from_dict(record), record["input"]["multiple"]
    onnx.helper.set_model_props(copy, {METADATA_KEY: text, **ultralytics_keys(spec, multiple)})
    return copy.SerializeToString(deterministic=True)


def reattach(data: bytes, record: dict[str, Any]) -> bytes:
    """The same file with another record."""
    return attach(onnx.load_from_string(data), record)


def golden(
    spec: ModelSpec, answer: Callable[[np.ndarray], np.ndarray], tolerance: float
) -> dict[str, Any]:
    """Images and answers by which any reader of the file can check itself.

    Args:
        spec: of the file.
        answer: uint8 (B, H, W, C) at the model's size -> probabilities float32.
        tolerance: largest difference in a probability that a right port may show.
    """
    pictures = golden_images(spec)
    pixels = np.stack([image.load(p, spec.size, spec.channels) for p in pictures.values()])
    vectors = [
        _vector(name, png, probabilities)
        for (name, png), probabilities in zip(pictures.items(), answer(pixels), strict=True)
    ]
    return {"tolerance": tolerance, "vectors": vectors}


def _vector(name: str, png: bytes, probabilities: np.ndarray) -> dict[str, Any]:
    stride = 1
    if probabilities.ndim == 3:
        stride = max(1, math.ceil(math.sqrt(probabilities.size * 4 / GOLDEN_BYTES)))
        probabilities = probabilities[::stride, ::stride]
    vector = {
        "name": name,
        "image_base64": base64.b64encode(png).decode(),
        "shape": list(probabilities.shape),
        "probabilities_base64": base64.b64encode(probabilities.astype("<f4").tobytes()).decode(),
    }
    return {**vector, "stride": stride} if stride > 1 else vector


def golden_images(spec: ModelSpec) -> dict[str, bytes]:
    """PNG files by name, drawn from a seed and not taken from the data.

    The data may be private or under a licence that the model's file does not want to carry.
    ``blocks`` and ``gradient`` have the model's size, the others test one step each: shrinking,
    enlarging, transparency and 16 bits.
    """
    rng = np.random.default_rng(GOLDEN_SEED)
    height, width = spec.size
    mode = {1: "L", 3: "RGB"}[spec.channels]
    # Fewer rows, more columns: where rows are shrunk, Pillow's order of the two directions, and
    # with it the rounding in between, depends on its version.
    larger = (max(3, height - height // 4), min(2 * width + 1, width + 160))
    smaller = (max(3, height // 2 - 1), max(3, width // 2 + 1))
    pictures = {
        "blocks": Image.fromarray(_blocks(rng, (height, width), 3)).convert(mode),
        "gradient": Image.fromarray(_gradient((height, width))).convert(mode),
        "shrunk": Image.fromarray(_blocks(rng, larger, 3)).convert(mode),
        "enlarged, transparent": Image.fromarray(_blocks(rng, smaller, 4), "RGBA"),
        "16 bits": Image.fromarray(_gradient((height, width))[..., 0].astype(np.uint16) * 256),
    }
    return {name: _png(picture) for name, picture in pictures.items()}


def _blocks(rng: np.random.Generator, size: tuple[int, int], channels: int) -> np.ndarray:
    """uint8 (H, W, channels) of 7 x 7 patches: edges everywhere, yet small as PNG."""
    patches = rng.integers(0, 256, (7, 7, channels), dtype=np.uint8)
    rows, columns = (np.arange(side) * 7 // side for side in size)
    return patches[rows][:, columns]


def _gradient(size: tuple[int, int]) -> np.ndarray:
    """uint8 (H, W, 3): one ramp in each direction and one across."""
    rows, columns = (np.arange(side) * 255 // max(1, side - 1) for side in size)
    ramps = np.broadcast_arrays(rows[:, None], columns[None], (rows[:, None] + columns) // 2)
    return np.stack(ramps, axis=-1).astype(np.uint8)


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
