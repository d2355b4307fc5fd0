"""An exported file as a model repository for Triton Inference Server (or KServe's Triton runtime).

    DIR/<name>/config.pbtxt
    DIR/<name>/labels.txt
    DIR/<name>/1/model.onnx

Keys and values: https://github.com/triton-inference-server/server/blob/main/docs/user_guide/
model_configuration.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfproj.core.files import write_bytes, write_text, writing
from tfproj.core.leftovers import MARK
from tfproj.core.spec import (
    INPUT_NAME,
    MAX_BATCH_SIZE,
    OUTPUT_NAMES,
    PROBABILITIES_NAME,
    SCORES_NAME,
    ModelSpec,
)
from tfproj.errors import InputError
from tfproj.inference.model_file import read_model
from tfproj.inference.predictor import Predictor


def write_repository(model: str | Path, folder: str | Path, name: str) -> Path:
    """Write the repository and return the model's directory in it.

    Args:
        model: an exported ONNX file.
        folder: the repository; made where it does not exist. Other models in it are left alone.
        name: of the model; characters that Triton does not allow become ``_``.

    Raises:
        InputError: the model is none of tfproj's, or see :func:`check_repository`.
    """
    path = check_repository(folder, name)
    data = Path(model).read_bytes()
    predictor = Predictor(data, threads=1)
    spec = predictor.spec
    with writing(path):
        (path / "1").mkdir(parents=True, exist_ok=True)
    write_bytes(path / "1" / "model.onnx", data)
    # Triton reads one label a line, in the order of the outputs.
    write_text(path / "labels.txt", "".join(f"{' '.join(c.split())}\n" for c in spec.classes))
    write_text(path / "config.pbtxt", config(spec, path.name, predictor.metadata["outputs"]))
    return path


def check_repository(folder: str | Path, name: str) -> Path:
    """Where the model's directory will be.

    Raises:
        InputError: there is no room for one, or another model is there that is none of tfproj's.
    """
    path = Path(folder) / re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    for place in (path / "1", *(path / "1").parents):
        if place.exists() and not place.is_dir():
            raise InputError(f"{place}: is a file; a Triton repository needs a directory there")
    for place in (path / "config.pbtxt", path / "labels.txt", path / "1" / "model.onnx"):
        if place.is_dir():
            raise InputError(f"{place}: is a directory; a Triton repository has a file there")
    # Without files, and with temporary ones alone, it is what a failed export left.
    if any(p.is_file() and not p.name.startswith(MARK) for p in path.rglob("*")):
        try:
            read_model(path / "1" / "model.onnx", "model")
        except InputError:
            raise InputError(
                f"{path}: holds something that tfproj did not write; choose another directory"
            ) from None
    return path


def config(spec: ModelSpec, name: str, outputs: Mapping[str, Any] | None = None) -> str:
    """``config.pbtxt``: Triton adds the batch dimension itself, so dims leave it out.

    Args:
        outputs: as in the file's metadata; those of every file need not be there.
    """
    size = [-1, -1] if spec.dynamic_size else list(spec.size)
    answer = [len(spec.classes)] if spec.task == "classify" else [*size, len(spec.classes)]
    return f"""name: "{name}"
backend: "onnxruntime"
default_model_filename: "model.onnx"
max_batch_size: {MAX_BATCH_SIZE[spec.task]}
input [
  {{
    name: "{INPUT_NAME}"
    data_type: TYPE_UINT8
    dims: {[*size, spec.channels]}
  }}
]
output [
  {{
    name: "{SCORES_NAME}"
    data_type: TYPE_FP32
    dims: {answer}
  }},
  {{
    name: "{PROBABILITIES_NAME}"
    data_type: TYPE_FP32
    dims: {answer}
    label_filename: "labels.txt"
  }}{_more(outputs or {})}
]
dynamic_batching {{ }}
"""


def _more(outputs: Mapping[str, Any]) -> str:
    """The other outputs; Triton wants a dimension also where there is one number an image."""
    text = ""
    for name in OUTPUT_NAMES[2:]:
        if name in outputs:
            dims = outputs[name]["shape"][1:]
            reshape = "" if dims else "\n    reshape: { shape: [] }"
            text += f""",
  {{
    name: "{name}"
    data_type: TYPE_FP32
    dims: {dims or [1]}{reshape}
  }}"""
    return text
