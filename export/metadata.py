"""What an exported file says about itself; docs/onnx-contract.md is the text for readers."""

from __future__ import annotations

import json
from typing import Any

import onnx

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


def describe(run: Run, planned: Plan, spec: ModelSpec, opset: int, ir: int) -> dict[str, Any]:
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
            "data": planned.spec.data,
            "license": run.environment().get("data", {}).get("license", ""),
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
