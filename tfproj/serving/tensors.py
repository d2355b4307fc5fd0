"""The Open Inference Protocol, version 2, with its extension for binary tensor data.

https://github.com/kserve/open-inference-protocol and https://github.com/triton-inference-server/
server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

import numpy as np

from tfproj._version import __version__
from tfproj.core.spec import (
    INPUT_NAME,
    MAX_BATCH_SIZE,
    PROBABILITIES_NAME,
    SCORES_NAME,
    ModelSpec,
)
from tfproj.errors import InputError, TfprojError, TooLargeError
from tfproj.serving.messages import Answer
from tfproj.serving.models import Model
from tfproj.serving.settings import MAX_JSON

SERVER = {"name": "tfproj", "version": __version__, "extensions": ["binary_tensor_data"]}
HEADER_LENGTH = "inference-header-content-length"
OUTPUTS = (SCORES_NAME, PROBABILITIES_NAME)
NUMBERS = 8192  # that are written in one go, in which no other thread runs


def metadata(model: Model) -> dict[str, Any]:
    """The model as the protocol describes one."""
    spec = model.predictor.spec
    size = [-1, -1] if spec.dynamic_size else list(spec.size)
    answer = [-1, len(spec.classes)] if spec.task == "classify" else [-1, *size, len(spec.classes)]
    return {
        "name": model.name,
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": INPUT_NAME, "datatype": "UINT8", "shape": [-1, *size, spec.channels]}],
        "outputs": [{"name": name, "datatype": "FP32", "shape": answer} for name in OUTPUTS],
    }


def infer(model: Model, body: bytes, header_length: str | None) -> Answer:
    """Answer a request for inference.

    Args:
        body: JSON, and behind it what is binary.
        header_length: bytes of the JSON, in decimal; None: all of it.

    Raises:
        InputError: not a request of the protocol, or not for this model.
        TooLargeError: too many images, or too much JSON.
        TfprojError: the model failed.
    """
    request, binary = _split(body, header_length)
    pixels = _pixels(request, binary, model.predictor)
    wanted = _wanted(request)
    answers = dict(zip(OUTPUTS, model.predictor.run(pixels), strict=True))
    if not all(np.isfinite(values).all() for values in answers.values()):
        raise TfprojError("the model answers with values that are not numbers")
    record = {"model_name": model.name, "model_version": "1"}
    if isinstance(request.get("id"), str):
        record["id"] = request["id"]
    return _written(record, {name: (answers[name], is_binary) for name, is_binary in wanted})


def _split(body: bytes, header_length: str | None) -> tuple[dict[str, Any], bytes]:
    """The JSON object of a request, and the bytes behind it."""
    given = str(len(body)) if header_length is None else header_length
    if not re.fullmatch("[0-9]{1,12}", given):
        raise InputError(f"{HEADER_LENGTH} must be a whole number")
    if (length := int(given)) > len(body):
        raise InputError(f"{HEADER_LENGTH} is larger than the body")
    if length > MAX_JSON:
        raise TooLargeError(f"more than {MAX_JSON:,} bytes of JSON; send binary tensor data")
    try:
        request = json.loads(body[:length])
    except (ValueError, RecursionError):
        raise InputError("the request is not JSON") from None
    return _object(request, "the request"), body[length:]


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{what} must be a JSON object")
    return value


def _parameters(entry: dict[str, Any]) -> dict[str, Any]:
    return _object(entry.get("parameters", {}), "parameters")


def _pixels(request: dict[str, Any], binary: bytes, predictor: Any) -> np.ndarray:
    """The one input, uint8 (N, height, width, channels)."""
    inputs = request.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1:
        raise InputError(f"inputs must be a list of one tensor, {INPUT_NAME!r}")
    entry = _object(inputs[0], "an input")
    if entry.get("name") != INPUT_NAME or entry.get("datatype") != "UINT8":
        raise InputError(f"the input must be called {INPUT_NAME!r} and have the datatype UINT8")
    shape = _shape(entry.get("shape"), predictor)
    size = _parameters(entry).get("binary_data_size")
    if size is None:
        values = _listed(entry.get("data"))
    elif size != len(binary):
        raise InputError(f"binary_data_size is {size!r:.20}; {len(binary)} bytes were sent")
    else:
        values = np.frombuffer(binary, np.uint8)
    if values.size != math.prod(shape):
        raise InputError(f"{values.size} values for the shape {list(shape)}")
    return values.reshape(shape)


def _shape(shape: Any, predictor: Any) -> tuple[int, ...]:
    spec: ModelSpec = predictor.spec
    if not isinstance(shape, list) or len(shape) != 4 or not all(type(n) is int for n in shape):
        raise InputError("shape must be a list of 4 whole numbers: N, height, width, channels")
    step = predictor.metadata.get("input", {}).get("multiple", 1) if spec.dynamic_size else 0
    fits = all(n > 0 and n % step == 0 for n in shape[1:3]) if step else shape[1:3] == [*spec.size]
    if not fits or shape[3] != spec.channels:
        free = f"multiples of {step}" if step else f"{spec.height} x {spec.width}"
        raise InputError(f"shape {shape!s:.60}: images must be {free} x {spec.channels}")
    most = MAX_BATCH_SIZE[spec.task]
    if shape[0] < 1 or shape[0] * shape[1] * shape[2] > most * math.prod(spec.size):
        usual = f"{spec.height} x {spec.width}"
        raise TooLargeError(f"shape {shape!s:.60}: 1 to {most} images of {usual} at a time")
    return tuple(shape)


def _listed(data: Any) -> np.ndarray:
    """Values 0..255, flat or nested in rows."""
    try:
        values = np.asarray(data)
    except (ValueError, OverflowError, RecursionError):  # rows of several lengths
        values = np.empty(0, object)
    if values.dtype.kind not in "iu" or values.min() < 0 or values.max() > 255:
        raise InputError("data must be whole numbers 0..255, flat or in rows of one length")
    return values.astype(np.uint8)


def _wanted(request: dict[str, Any]) -> list[tuple[str, bool]]:
    """(output, whether it is sent as binary data) for each that is asked for, or for all."""
    default = _parameters(request).get("binary_data_output") is True
    entries = request.get("outputs") or [{"name": name} for name in OUTPUTS]
    if not isinstance(entries, list):
        raise InputError("outputs must be a list")
    found = {}
    for entry in entries:
        name, options = _object(entry, "an output").get("name"), _parameters(entry)
        if name not in OUTPUTS:
            raise InputError(f"no output {name!r:.40}; there are {', '.join(OUTPUTS)}")
        if others := set(options) - {"binary_data"}:
            raise InputError(f"output {name}: the parameter {min(others)!r:.40} is not supported")
        found[name] = options.get("binary_data", default) is True
    return list(found.items())


def _written(record: dict[str, Any], outputs: dict[str, tuple[np.ndarray, bool]]) -> Answer:
    """The record with outputs."""
    entries, tail = [], []
    for name, (values, is_binary) in outputs.items():
        head: dict[str, Any] = {"name": name, "datatype": "FP32", "shape": list(values.shape)}
        if is_binary:
            head["parameters"] = {"binary_data_size": values.nbytes}
            tail.append(np.ascontiguousarray(values, "<f4").tobytes())
            entries.append(json.dumps(head))
        else:
            entries.append(json.dumps(head)[:-1] + f', "data": [{_numbers(values)}]}}')
    text = json.dumps(record)[:-1] + f', "outputs": [{", ".join(entries)}]}}'
    if not tail:
        return Answer(text.encode())
    headers = {HEADER_LENGTH: str(len(text))}
    return Answer(b"".join([text.encode(), *tail]), "application/octet-stream", headers=headers)


def _numbers(values: np.ndarray) -> str:
    parts = np.split(values.ravel(), range(NUMBERS, values.size, NUMBERS))
    return ",".join(json.dumps(part.tolist())[1:-1] for part in parts)
