"""What an exported file says about itself; docs/onnx-contract.md is the text for readers."""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass
from typing import Any

import onnx

from tfproj.core.spec import (
    ACTIVATION_NAME,
    INPUT_NAME,
    METADATA_KEY,
    PAD,
    PROBABILITIES_NAME,
    SCORES_NAME,
    UNKNOWN_NAME,
    ModelSpec,
    preprocessing,
)
from tfproj.export.job import Job
from tfproj.export.layout import channels_first
from tfproj.export.opset import IR_VERSION
from tfproj.runs import environment

MEANINGS = {
    UNKNOWN_NAME: "squared distance to the training images, about 1 for one of them",
    ACTIVATION_NAME: "what each place adds to each score, which is their mean",
}


@dataclass(frozen=True)
class Measured:
    """What is known of a file once it is made, as in its metadata; None: not measured.

    Attributes:
        calibration: see :class:`tfproj.export.temperature.Temperature`.
        golden: see :func:`tfproj.export.golden.golden_vectors`.
        verification: against Keras, see :class:`tfproj.export.verify.Verification`.
        half: what 16-bit weights cost, see :func:`tfproj.export.half.rounding`.
        thresholds, threshold_choice: of several labels an image, see
            :func:`tfproj.evaluation.evaluate.choose_thresholds`.
        quantization: what int8 costs and gains, see :mod:`tfproj.export.quantize`.
        outputs: shape of each output but the probabilities, without the batch.
    """

    calibration: dict[str, Any] | None = None
    golden: dict[str, Any] | None = None
    verification: dict[str, Any] | None = None
    half: dict[str, Any] | None = None
    thresholds: list[float] | None = None
    threshold_choice: dict[str, Any] | None = None
    quantization: dict[str, Any] | None = None
    outputs: dict[str, list] | None = None


def describe(job: Job, measured: Measured) -> dict[str, Any]:
    """The metadata of a file, as plain JSON types."""
    spec, converter = job.spec, job.options.converter
    size = ["H", "W"] if spec.dynamic_size else list(spec.size)
    first = spec.layout == "NCHW"
    image, mask = (
        [count, *size] if first else [*size, count] for count in (spec.channels, len(spec.classes))
    )
    shape = mask if spec.task == "segment" else [len(spec.classes)]
    known = {name: value for name, value in vars(measured).items() if value is not None}
    shapes = {**known.pop("outputs", {}), SCORES_NAME: shape, PROBABILITIES_NAME: shape}
    axis = "axis 1" if first else "the last axis"
    last, over = ("sigmoid", "") if spec.multi_label else ("softmax", f" over {axis}")
    meanings = {
        SCORES_NAME: f"before {last}",
        PROBABILITIES_NAME: f"{last} of the scores{over}, 0..1",
        **MEANINGS,
    }
    return {
        **spec.to_dict(),
        "input": {
            "name": INPUT_NAME,
            "dtype": "float32" if first else "uint8",
            "layout": spec.layout,
            "shape": ["N", *image],
            "range": [0, 255],
            "multiple": job.multiple,
            "reach": job.reach,
        },
        "outputs": {
            name: {"dtype": "float32", "shape": ["N", *shapes[name]], "meaning": meaning}
            for name, meaning in meanings.items()
            if name in shapes
        },
        "preprocessing": preprocessing(spec, job.scaling),
        "graph": {
            "opset": job.opset,
            "ir_version": IR_VERSION,
            "converter": f"{converter} {importlib.metadata.version(converter)}",
        },
        "training": job.training,
        "versions": environment.versions(),
        **known,
    }


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


# Ways to resize, by their names there.
MODEL_API = {"stretch": "standard", "crop": "crop", "letterbox": "fit_to_window_letterbox"}


def model_info(spec: ModelSpec) -> dict[str, str]:
    """What OpenVINO's Model API opens a file by; it parts names at spaces.

    Empty where it would answer otherwise than ours: it takes no grey images and no tiles, has one
    threshold for all labels, and leaves the border in a letterboxed mask.
    """
    masks = spec.task == "segment"
    if spec.channels != 3 or spec.multi_label or (masks and spec.resize != "stretch"):
        return {}
    return {
        "model_type": "Segmentation" if masks else "Classification",
        # The outlines that it draws begin with the second class.
        "labels": " ".join("_".join(name.split()) for name in spec.classes[masks:]),
        "resize_type": MODEL_API[spec.resize],
        "pad_value": str(PAD),
        "reverse_input_channels": "YES",  # pictures are blue, green, red there
    }


def as_text(metadata: dict[str, Any]) -> str:
    """JSON of metadata, to be kept in a file."""
    text = json.dumps(metadata, ensure_ascii=False, allow_nan=False)
    # A name of a file may hold bytes that are no text, which JSON has no place for.
    return text.encode("utf-8", "replace").decode("utf-8")


def attach(proto: onnx.ModelProto, metadata: dict[str, Any]) -> bytes:
    """The file: the graph, uint8 (N, H, W, C), in the layout of its metadata, with these."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    spec, multiple = ModelSpec.from_dict(metadata), metadata["input"]["multiple"]
    if spec.layout == "NCHW":
        channels_first(copy.graph)
    copy.producer_name, copy.producer_version = "tfproj", metadata["versions"]["tfproj"]
    keys = {METADATA_KEY: as_text(metadata), **ultralytics_keys(spec, multiple)}
    if spec.task == "classify":  # masks it takes of a file with one output
        keys |= {f"model_info {key}": value for key, value in model_info(spec).items()}
    onnx.helper.set_model_props(copy, keys)
    return copy.SerializeToString(deterministic=True)
