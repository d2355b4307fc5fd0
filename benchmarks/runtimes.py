"""The runtimes that ``inference.py`` compares, each behind the same call.

A maker takes (contender, net, size, files) and gives a function from images to probabilities; it
raises ValueError or ImportError where this machine has not got what the contender needs.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import subjects

from tfproj import Predictor
from tfproj.core.hardware import available_cpus, cpu_has_bfloat16
from tfproj.core.spec import INPUT_NAME, PROBABILITIES_NAME, SCORES_NAME
from tfproj.inference.session import CPU, OPENVINO

# images (N, H, W, C) uint8 -> probabilities
Predict = Callable[[np.ndarray], np.ndarray]
Files = Mapping[str, Any]  # kind of file -> path, or None
Size = Sequence[int] | None  # (height, width); None: the net's own


def prepare(net: str, size: Size, files: Files) -> None:
    """Write the files that all contenders read."""
    from tfproj import backend

    backend.setup()
    import keras
    import tensorflow as tf

    planned = subjects.make_plan(net, 8, size)
    plain, int8 = subjects.export(planned, int8=True)
    Path(files["float32"]).write_bytes(plain)
    Path(files["int8"]).write_bytes(int8)
    model = subjects.drawn_model(planned)
    whole = keras.Model(model.input, keras.layers.Softmax()(model.output))
    with contextlib.redirect_stdout(io.StringIO()):  # it prints the whole signature
        tflite = tf.lite.TFLiteConverter.from_keras_model(whole).convert()
    Path(files["tflite"]).write_bytes(tflite)


def raw(path: str) -> Predict:
    """onnxruntime as one would use it, with as many threads as the predictor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_cpus()
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    outputs = [SCORES_NAME, PROBABILITIES_NAME]
    return lambda images: session.run(outputs, {INPUT_NAME: images})[1]


def _onnxruntime(name: str, net: str, size: Size, files: Files) -> Predict:
    path = files[name.rsplit(", ", 1)[1]]
    if path is None:
        raise ValueError("no --int8 FILE given")
    if name.startswith("raw"):
        return raw(path)
    predictor = Predictor(path, providers=(OPENVINO if "provider" in name else CPU,))
    return lambda images: [r.probabilities for r in predictor.predict(images, len(images))]


def _openvino(name: str, net: str, size: Size, files: Files) -> Predict:
    import openvino

    path = files["int8" if "int8" in name else "float32"]
    if path is None:
        raise ValueError("no --int8 FILE given")
    if "bf16" in name and not cpu_has_bfloat16():
        raise ValueError("this CPU does not compute in bfloat16")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if "bf16" in name else "f32",
        "INFERENCE_NUM_THREADS": available_cpus(),
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled: dict[int, Any] = {}

    def predict(images: np.ndarray) -> np.ndarray:
        if len(images) not in compiled:
            model = openvino.Core().read_model(path)
            model.reshape([len(images), *images.shape[1:]])
            request = openvino.compile_model(model, "CPU", settings).create_infer_request()
            compiled[len(images)] = request
        results = compiled[len(images)].infer({INPUT_NAME: images}, share_inputs=True)
        return results[PROBABILITIES_NAME]

    return predict


def _litert(name: str, net: str, size: Size, files: Files) -> Predict:
    from ai_edge_litert.interpreter import Interpreter

    made: dict[int, Any] = {}

    def predict(images: np.ndarray) -> np.ndarray:
        if len(images) not in made:
            interpreter = Interpreter(files["tflite"], num_threads=available_cpus())
            place = interpreter.get_input_details()[0]["index"]
            interpreter.resize_tensor_input(place, images.shape)
            interpreter.allocate_tensors()
            made[len(images)] = interpreter, place, interpreter.get_output_details()[0]["index"]
        interpreter, place, result = made[len(images)]
        interpreter.set_tensor(place, images)
        interpreter.invoke()
        return interpreter.get_tensor(result)

    return predict


def _keras(name: str, net: str, size: Size, files: Files) -> Predict:
    from tfproj import backend

    backend.setup()
    import tensorflow as tf

    from tfproj.core.probabilities import softmax

    model = subjects.drawn_model(subjects.make_plan(net, 8, size))
    if name == "Keras predict":
        return lambda images: softmax(model.predict(images, batch_size=len(images), verbose=0))
    function = tf.function(lambda images: tf.nn.softmax(model(images, training=False)))
    return lambda images: function(tf.constant(images)).numpy()


def _torch(name: str, net: str, size: Size, files: Files) -> Predict:
    import torch
    import torch_nets

    if "bf16" in name and not cpu_has_bfloat16():
        raise ValueError("this CPU does not compute in bfloat16")
    model = torch_nets.build(net, available_cpus()).eval()
    torch_nets.load(model, files["float32"])
    if "compiled" in name:
        if size is not None:
            raise ValueError("left out of --quick: compiling takes half a minute")
        model = torch.compile(model)

    def predict(images: np.ndarray) -> np.ndarray:
        with (
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16, enabled="bf16" in name),
        ):
            return torch.softmax(model(torch.from_numpy(images)).float(), -1).numpy()

    return predict


# Of a process of ``inference.CONTENDERS``: what makes its contenders.
MAKERS: dict[str, Callable[[str, str, Size, Files], Predict]] = {
    "onnxruntime": _onnxruntime,
    "predictor": _onnxruntime,
    "openvino": _openvino,
    "litert": _litert,
    "keras": _keras,
    "torch": _torch,
}
