"""Other runtimes read a file of channels first; docs/clients.md has the table."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from tfproj import Predictor
from tfproj.export.metadata import attach
from tfproj.pretrained import pretrained_file

pytestmark = pytest.mark.clients
NAMES = ("fashion_mnist-tiny", "fashion_mnist-tiny-int8", "facades-default")


def onnx_reference(path, images):
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(str(path)).run(["probabilities"], {"image": images})[0]


def opencv(path, images):
    net = cv2.dnn.readNetFromONNX(str(path))
    net.setInput(cv2.dnn.blobFromImages(list(images.transpose(0, 2, 3, 1).astype(np.uint8))))
    return net.forward("probabilities")


def openvino(path, images):
    runtime = pytest.importorskip("openvino")
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    return runtime.compile_model(str(path), "CPU", exact)(images)[0]


def tract(path, images):
    model = pytest.importorskip("tract").onnx().load(str(path))
    model.set_input_fact(0, ",".join(map(str, images.shape)) + ",f32")
    return model.into_model().into_runnable().run([images])[0].to_numpy()


def mnn(path, images):
    pytest.importorskip("MNN")
    import MNN.expr as tensors
    import MNN.nn

    target = path.with_suffix(".mnn")
    command = [
        Path(sys.executable).with_name("mnnconvert"),
        "-f",
        "ONNX",
        "--modelFile",
        path,
        "--MNNModel",
        target,
    ]
    subprocess.run([*command, "--bizCode", "x"], check=True, capture_output=True)
    net, answers = MNN.nn.load_module_from_file(str(target), ["image"], ["probabilities"]), []
    for picture in images[:, None]:
        blob = tensors.placeholder(list(picture.shape), tensors.NCHW)
        blob.write(picture.copy())
        answers.append(np.array(tensors.convert(net.forward([blob])[0], tensors.NCHW).read()))
    return np.concatenate(answers)


@pytest.fixture(scope="module", params=NAMES)
def turned(request, tmp_path_factory):
    """A file, images float32 (N, C, H, W), and the predictor's answers in the file's layout."""
    model = onnx.load(pretrained_file(request.param))
    usual = Predictor.pretrained(request.param)
    del model.metadata_props[:]
    record = {**usual.spec.to_dict(), **usual.metadata, "resize": "stretch", "multi_label": False}
    path = tmp_path_factory.mktemp("clients") / f"{request.param}.onnx"
    path.write_bytes(attach(model, {**record, "schema": 4, "layout": "NCHW"}))
    count = 2 if usual.spec.task == "classify" else 1  # onnx.reference takes 10 s for a photograph
    shape = (count, *usual.spec.size, usual.spec.channels)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    answers = usual.run(pixels)[1]
    np.testing.assert_allclose(Predictor(path).run(pixels)[1], answers, atol=1e-6)
    if answers.ndim == 4:
        answers = np.moveaxis(answers, -1, 1)
    return path, np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32), answers


@pytest.mark.parametrize("client", [onnx_reference, opencv, openvino, tract, mnn])
def test_a_client_gives_the_same_answers(turned, client):
    path, images, answers = turned
    whole = "int8" in path.name
    if whole and client in (mnn, onnx_reference):
        pytest.skip("it does not read the int8 file: see docs/clients.md")
    difference = np.abs(client(path, images).reshape(answers.shape) - answers).max()
    print(f"{client.__name__} {path.stem}: {difference:.1e}")
    assert difference <= (0.05 if whole else 5e-4)
