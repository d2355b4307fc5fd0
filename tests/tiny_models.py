"""ONNX files of some kilobytes, built by hand: what ``tfproj export`` writes, without training.

Their graphs lie beside this file, so that tests need the package onnx only to change one. Written
again by ``python tests/tiny_models.py``.
"""

import base64
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from tfproj.core.spec import METADATA_KEY, ModelSpec

CLASSIFY = ModelSpec("classify", "cnn", ("cat", "dog", "owl"), (), 8, 8, 1, "toys")
SEGMENT = ModelSpec("segment", "unet", ("wall", "door"), ("#102030", "#F0A000"), 8, 12, 3, "toys")
SPECS = {"classify": CLASSIFY, "segment": SEGMENT}


def pixels(seed, spec, count=None):
    """uint8 images of the model's size: (H, W, C), or (count, H, W, C)."""
    shape = (*spec.size, spec.channels) if count is None else (count, *spec.size, spec.channels)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def png(array):
    """An array as the bytes of a PNG file."""
    buffer = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array).save(buffer, "PNG")
    return buffer.getvalue()


def proto(task="classify"):
    """The graph: image -> scores, probabilities. No metadata."""
    from onnx import TensorProto, helper, numpy_helper

    spec, rng = SPECS[task], np.random.default_rng(0)

    def weight(name, *shape):
        return numpy_helper.from_array(rng.normal(0, 1, shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["float", "scale"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "kernel", "bias"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("MaxPool", ["relu"], ["pool"], kernel_shape=[2, 2], strides=[2, 2]),
    ]
    weights = [numpy_helper.from_array(np.float32(1 / 255), "scale"),
               weight("kernel", 4, spec.channels, 3, 3), weight("bias", 4)]  # fmt: skip
    classes = len(spec.classes)
    if task == "classify":
        nodes += [
            helper.make_node("Reshape", ["pool", "flat"], ["features"]),
            helper.make_node("Gemm", ["features", "dense", "dense_bias"], ["scores"]),
        ]
        weights += [numpy_helper.from_array(np.array([-1, 64], np.int64), "flat"),
                    weight("dense", 64, classes), weight("dense_bias", classes)]  # fmt: skip
        shape = ["N", classes]
    else:
        nodes += [
            helper.make_node("ConvTranspose", ["pool", "up"], ["wide"], strides=[2, 2]),
            helper.make_node("Transpose", ["wide"], ["scores"], perm=[0, 2, 3, 1]),
        ]
        weights.append(weight("up", 4, classes, 2, 2))
        shape = ["N", *spec.size, classes]
    nodes.append(helper.make_node("Softmax", ["scores"], ["probabilities"], axis=-1))
    ends = {"scores": shape, "probabilities": shape}
    image = ["N", *spec.size, spec.channels]
    graph = helper.make_graph(
        nodes,
        task,
        [helper.make_tensor_value_info("image", TensorProto.UINT8, image)],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in ends.items()],
        weights,
    )
    opset = [helper.make_opsetid("", 18)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8)


def graph_file(task):
    """Where :func:`proto` of a task lies."""
    return Path(__file__).with_name(f"tiny_{task}.onnx")


def with_metadata(graph, record):
    """The bytes of a file: a serialised graph and ``record`` as its metadata."""
    text = record if isinstance(record, str) else json.dumps(record)
    # Fields of a message may stand in any order: metadata_props, of key and value, is number 14.
    return graph + _field(14, _field(1, METADATA_KEY.encode()) + _field(2, text.encode()))


def _field(number, value):
    """Bytes with their tag and length in protobuf's wire format."""
    length, left = bytearray(), len(value)
    while left > 127:
        length.append(left & 127 | 128)
        left >>= 7
    return bytes([number << 3 | 2, *length, left]) + value


def serialize(model, record):
    """The file of a graph in hand: ``record`` as its metadata (None: without any)."""
    graph = model.SerializeToString()
    return graph if record is None else with_metadata(graph, record)


def tiny_model(task="classify", **more):
    """Bytes of a whole file; ``more`` are further keys of its record."""
    return with_metadata(graph_file(task).read_bytes(), {**SPECS[task].to_dict(), **more})


def with_golden(task="classify", shift=0.0, stride=1):
    """A file with golden vectors, their answers off by ``shift``."""
    from tfproj import Predictor

    predictor, vectors = Predictor(tiny_model(task), threads=1), []
    for seed in range(2):
        data = png(pixels(seed, SPECS[task]))
        answer = predictor.predict(data)[0].probabilities + np.float32(shift)
        answer = answer[::stride, ::stride] if answer.ndim == 3 else answer
        vectors.append(
            {
                "name": f"picture {seed}",
                "image_base64": base64.b64encode(data).decode(),
                "shape": list(answer.shape),
                "probabilities_base64": base64.b64encode(answer.astype("<f4").tobytes()).decode(),
                "stride": stride,
            }
        )
    return tiny_model(task, golden={"tolerance": 1e-4, "vectors": vectors})


if __name__ == "__main__":
    for name in SPECS:
        graph_file(name).write_bytes(proto(name).SerializeToString())
