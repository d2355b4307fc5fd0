import base64
import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from zlib import compress, crc32

import numpy as np
import onnx
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from tiny_models import png

from tfproj import Predictor
from tfproj.cli.main import main
from tfproj.core import image
from tfproj.core.probabilities import mask_of_size, softmax
from tfproj.core.spec import ModelSpec
from tfproj.export.triton import config, write_repository
from tfproj.inference.selftest import read_vectors
from tfproj.pretrained import names, pretrained_file
from tfproj.runs.run import Run

EXAMPLE = Path(__file__).parents[1] / "examples" / "javascript"
EXAMPLES = EXAMPLE.parents[1] / "docs" / "port-examples.json"
MASKS = json.loads(EXAMPLES.read_text())["masks"]
TASKS = ("classify", "segment")


def example_probabilities():
    data = base64.b64decode(MASKS["probabilities_base64"])
    return np.frombuffer(data, "<f4").reshape(MASKS["shape"])


def pixels_for(spec, count=3):
    shape = (count, *spec.size, spec.channels)
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.openvino
@pytest.mark.parametrize("task", TASKS)
def test_openvino_gives_the_same_answers(toy_models, task):
    openvino = pytest.importorskip("openvino", reason="the package openvino is not installed")
    predictor = Predictor(toy_models[task])
    # Else OpenVINO computes in bfloat16 where the CPU has it.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(str(toy_models[task]), "CPU", exact)
    pixels = pixels_for(predictor.spec)
    answers = compiled({"image": pixels})
    for name, expected in zip(("scores", "probabilities"), predictor.run(pixels), strict=True):
        np.testing.assert_allclose(answers[name], expected, atol=1e-4)


# What int8 arithmetic of another kind may differ by: the tolerance of the golden vectors.
INT8 = 0.05
FILES = [name for name in names() if name.startswith("fashion_mnist")]
OPENCV = """
import sys, cv2, numpy as np
net = cv2.dnn.readNetFromONNX(sys.argv[1])
answers = []
for pixels in np.load(sys.argv[2]):
    net.setInput(pixels[None], "image")
    answers.append(net.forward("probabilities")[0])
np.save(sys.argv[3], answers)
print(cv2.__version__)
"""


def golden(predictor):
    """(uint8 (N, H, W, C), probabilities (N, classes)) of the file's golden vectors."""
    _, vectors = read_vectors(predictor.metadata)
    pixels = np.stack([predictor.load(vector.image)[0] for vector in vectors])
    return pixels, np.stack([vector.probabilities for vector in vectors])


@pytest.mark.parametrize("generation", [4, 5])
@pytest.mark.parametrize("name", FILES)
def test_opencv_gives_the_golden_answers(name, generation, tmp_path):
    """OpenCV 4 takes quantised bytes for signed ones, unless the graph quantises the image."""
    other = os.environ.get("TFPROJ_OPENCV4", "") if generation == 4 else ""
    if generation == 4 and not other:
        pytest.skip("no folder with OpenCV 4 in $TFPROJ_OPENCV4")
    predictor = Predictor.pretrained(name)
    pixels, expected = golden(predictor)
    np.save(tmp_path / "pixels.npy", pixels)
    files = [pretrained_file(name), tmp_path / "pixels.npy", tmp_path / "answers.npy"]
    done = subprocess.run(
        [sys.executable, "-c", OPENCV, *map(str, files)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": other} if other else None,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    if not done.stdout.startswith(f"{generation}."):
        pytest.skip(f"the installed OpenCV is {done.stdout.strip()}")
    answers = np.load(files[-1])
    np.testing.assert_allclose(answers, expected, atol=INT8 if "int8" in name else 1e-4)


@pytest.mark.openvino
@pytest.mark.parametrize("name", FILES)
def test_openvino_gives_the_golden_answers(name):
    openvino = pytest.importorskip("openvino", reason="the package openvino is not installed")
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(str(pretrained_file(name)), "CPU", exact)
    pixels, expected = golden(Predictor.pretrained(name))
    answers = compiled({"image": pixels})["probabilities"]
    np.testing.assert_allclose(answers, expected, atol=INT8 if "int8" in name else 1e-4)


@pytest.mark.parametrize("vnni", [True, False])
@pytest.mark.parametrize("name", [name for name in FILES if name.endswith("int8")])
def test_int8_files_give_the_golden_answers_with_and_without_vnni(name, vnni, monkeypatch):
    monkeypatch.setattr("tfproj.core.hardware.cpu_has_vnni", lambda: vnni)
    assert Predictor.pretrained(name).selftest().max_difference <= INT8


# The part of Triton's ModelConfig that is written: message, field, type, repeated.
SCHEMA = {
    "Tensor": [("name", "string", 0), ("data_type", "DataType", 0), ("dims", "int64", 1),
               ("label_filename", "string", 0), ("reshape", "Reshape", 0)],
    "Reshape": [("shape", "int64", 1)],
    "DynamicBatching": [],
    "ModelConfig": [("name", "string", 0), ("backend", "string", 0),
                    ("default_model_filename", "string", 0), ("max_batch_size", "int32", 0),
                    ("input", "Tensor", 1), ("output", "Tensor", 1),
                    ("dynamic_batching", "DynamicBatching", 0)],
}  # fmt: skip


def model_config_class():
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="triton_subset.proto", package="t")
    kind = file.enum_type.add(name="DataType")
    for number, name in enumerate(("TYPE_INVALID", "TYPE_UINT8", "TYPE_FP32")):
        kind.value.add(name=name, number=number)
    for message, fields in SCHEMA.items():
        made = file.message_type.add(name=message)
        for number, (name, type_name, repeated) in enumerate(fields, 1):
            plain = getattr(field, f"TYPE_{type_name.upper()}", None)
            entry = made.field.add(name=name, number=number, label=3 if repeated else 1)
            if plain is not None:
                entry.type = plain
            else:
                entry.type_name = f".t.{type_name}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.ModelConfig"))


def parse(text):
    return text_format.Parse(text, model_config_class()())


@pytest.mark.parametrize(
    ("task", "pixels", "answer"),
    [("classify", [8, 8, 1], [10]), ("segment", [32, 48, 3], [32, 48, 5])],
)
def test_triton_repository(toy_models, tmp_path, task, pixels, answer):
    path = write_repository(toy_models[task], tmp_path / "models", "my run/1")
    assert path.name == "my_run_1"
    assert (path / "1" / "model.onnx").read_bytes() == toy_models[task].read_bytes()
    parsed = parse((path / "config.pbtxt").read_text())
    assert parsed.name == path.name
    assert parsed.backend == "onnxruntime"
    assert parsed.max_batch_size > 0
    assert [(t.name, t.data_type, list(t.dims)) for t in parsed.input] == [("image", 1, pixels)]
    assert [(t.name, t.data_type, list(t.dims)) for t in parsed.output] == [
        ("scores", 2, answer),
        ("probabilities", 2, answer),
        *([("unknown_score", 2, [1])] if task == "classify" else []),
    ]
    assert [t.HasField("reshape") for t in parsed.output] == [False, False, True][
        : len(parsed.output)
    ]
    labels = (path / parsed.output[1].label_filename).read_text().splitlines()
    assert tuple(labels) == Predictor(toy_models[task]).spec.classes
    # What Triton is told is what the file says, without the batch dimension.
    graph = onnx.load(path / "1" / "model.onnx").graph
    dims = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim[1:]]
    assert dims == pixels


def test_triton_with_free_size():
    spec = ModelSpec("segment", "unet", ("a", "b"), (), 32, 48, 3, dynamic_size=True)
    parsed = parse(config(spec, "x"))
    assert list(parsed.input[0].dims) == [-1, -1, 3]
    assert list(parsed.output[0].dims) == [-1, -1, 2]


def test_triton_by_command(toy_classifier, tmp_path, capsys):
    arguments = ["export", str(toy_classifier.path), "--output", str(tmp_path / "m.onnx")]
    assert main([*arguments, "--triton", str(tmp_path / "models"), "--json"]) == 0
    path = Path(json.loads(capsys.readouterr().out)["triton"])
    assert sorted(p.name for p in path.iterdir()) == ["1", "config.pbtxt", "labels.txt"]


def test_triton_leaves_what_others_wrote(toy_models, tmp_path, toy_classifier, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "models" / "toy").mkdir(parents=True)
    (tmp_path / "models" / "toy" / "config.pbtxt").write_text("# tuned")
    output = tmp_path / "m.onnx"
    for folder, words in (("file", "is a file"), ("models", "tfproj did not write")):
        arguments = ["export", str(toy_classifier.path), "--output", str(output)]
        assert main([*arguments, "--triton", str(tmp_path / folder)]) == 2
        assert words in capsys.readouterr().err
        assert not output.exists()
    assert (tmp_path / "models" / "toy" / "config.pbtxt").read_text() == "# tuned"
    # One of its own may be renewed.
    for _ in range(2):
        write_repository(toy_models["classify"], tmp_path / "models", "mine")


def test_a_run_has_a_name_wherever_one_stands(toy_classifier, monkeypatch):
    monkeypatch.chdir(toy_classifier.path)
    assert Run(Path(".")).name == toy_classifier.path.name


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A copy of the example with its packages installed."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    root = tmp_path_factory.mktemp("javascript")
    folder = root / "examples" / "javascript"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns("node_modules"))
    shutil.copytree(EXAMPLE.parents[1] / "export" / "browser", root / "export" / "browser")
    command = ["npm", "ci", "--no-audit", "--no-fund", "--fetch-retries=0"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if result.returncode:
        network = ("ENOTFOUND", "EAI_AGAIN", "ECONNREFUSED", "ETIMEDOUT", "ENETUNREACH", "E403")
        if any(code in result.stderr for code in network):
            pytest.skip("npm's registry cannot be reached")
        pytest.fail(f"npm ci: {result.stderr[-500:]}")
    return folder


@pytest.mark.javascript
@pytest.mark.parametrize("task", TASKS)
def test_javascript_reproduces_the_golden_answers(example, toy_models, tmp_path, task):
    from PIL import Image

    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(2).integers(0, 256, (7, 61, 4), np.uint8)).save(path)
    command = ["node", "predict.mjs", str(toy_models[task]), str(path)]
    result = subprocess.run(command, cwd=example, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stdout + result.stderr
    *golden, last = map(json.loads, result.stdout.splitlines())
    assert [line["golden"] for line in golden] == [
        "blocks", "gradient", "shrunk", "enlarged, transparent", "16 bits"
    ]  # fmt: skip
    assert all(line["good"] for line in golden)
    expected = Predictor(toy_models[task]).predict(str(path))[0]
    if task == "classify":
        assert last["label"] == expected.label
        assert last["probability"] == pytest.approx(expected.probability, abs=1e-4)
    else:
        # A probability that onnxruntime rounds otherwise may move a pixel or two.
        assert last["shares"] == pytest.approx(expected.shares(), abs=5e-3)


@pytest.mark.javascript
def test_javascript_answers_as_the_examples(example):
    """Kinds of samples, orientations, palettes, sizes, masks and calibrated probabilities."""
    done = subprocess.run(
        ["node", "examples.mjs", EXAMPLES], cwd=example, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) > 60 and all(line["good"] for line in lines)


@pytest.mark.javascript
def test_javascript_gives_the_same_labels(example, toy_labels):
    files = sorted((toy_labels.path.parents[2] / "data" / "images").glob("val_*.png"))[:12]
    command = ["node", "predict.mjs", str(toy_labels.onnx_file), *map(str, files)]
    done = subprocess.run(command, cwd=example, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = list(map(json.loads, done.stdout.splitlines()))
    assert all(line["good"] for line in lines[: -len(files)])
    expected = [sorted(r.labels) for r in Predictor(toy_labels.onnx_file).predict(files)]
    assert [sorted(line["labels"]) for line in lines[-len(files) :]] == expected
    assert len({len(labels) for labels in expected}) > 2


@pytest.mark.javascript
def test_javascript_leaves_out_what_stands_beside(example, letterboxed_masks):
    files = sorted((letterboxed_masks.path.parents[2] / "data" / "val" / "images").iterdir())
    command = ["node", "predict.mjs", str(letterboxed_masks.onnx_file), *map(str, files)]
    done = subprocess.run(command, cwd=example, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    *golden, _ = lines = list(map(json.loads, done.stdout.splitlines()))
    assert all(line["good"] for line in golden[: -len(files) + 1])
    expected = Predictor(letterboxed_masks.onnx_file).predict(files)
    for line, one in zip(lines[-len(files) :], expected, strict=True):
        assert line["shares"] == pytest.approx(one.shares(), abs=5e-3)


@pytest.mark.javascript
def test_javascript_names_a_damaged_picture(example, tmp_path):
    (tmp_path / "bad.png").write_text("text")
    command = ["node", "predict.mjs", pretrained_file("fashion_mnist-tiny"), tmp_path / "bad.png"]
    done = subprocess.run(
        [*map(str, command)], cwd=example, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path / 'bad.png'}: not a PNG file\n"


@pytest.mark.javascript
def test_javascript_keeps_proportions(example, kept_proportions, tmp_path):
    """The golden vectors, and pixels to the bit at sizes where the rounding matters."""
    model, record = kept_proportions.onnx_file, kept_proportions.spec()
    done = subprocess.run(
        ["node", "predict.mjs", str(model)], cwd=example, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    golden = list(map(json.loads, done.stdout.splitlines()))
    assert len(golden) == 7 and all(line["good"] for line in golden)
    assert golden[-1]["golden"] == f"{record.resize}, high"
    cases, rng = [], np.random.default_rng(5)
    for size in (31, 47), (47, 31), (1, 90), (90, 1), (28, 201), (20, 20):
        pixels = rng.integers(0, 256, (*size, 3), np.uint8)
        cases += [(pixels, target) for target in ((20, 20), (21, 50), (50, 21), (3, 2))]
    told = [
        {"png": base64.b64encode(png(pixels)).decode(), "resize": record.resize,
         "height": target[0], "width": target[1], "channels": 3}
        for pixels, target in cases
    ]  # fmt: skip
    command = ["node", "--input-type=module", "-e", JAVASCRIPT_PIXELS]
    done = subprocess.run(
        command, cwd=example, input=json.dumps(told), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    for found, (pixels, target) in zip(json.loads(done.stdout), cases, strict=True):
        expected = image.load(pixels, target, 3, resize=record.resize)
        np.testing.assert_array_equal(np.reshape(found, expected.shape), expected)


@pytest.mark.javascript
@pytest.mark.parametrize(
    ("change", "words"), [({"resize": "squash"}, "unknown resize"), ({"schema": 4}, "schema 4"),
                          ({"resize": "tiles"}, "a model for tiles")]
)  # fmt: skip
def test_javascript_refuses_what_it_does_not_know(example, toy_models, tmp_path, change, words):
    model = onnx.load(toy_models["classify"])
    entry = next(p for p in model.metadata_props if p.key == "tfproj")
    entry.value = json.dumps({**json.loads(entry.value), **change})
    onnx.save(model, tmp_path / "changed.onnx")
    command = ["node", "predict.mjs", str(tmp_path / "changed.onnx")]
    result = subprocess.run(command, cwd=example, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert words in result.stderr and len(result.stderr.splitlines()) == 1


JAVASCRIPT_PIXELS = """
import { readFileSync } from "node:fs";
import { prepare } from "../../export/browser/image.mjs";
import { decodePng } from "../../export/browser/png.mjs";
const cases = JSON.parse(readFileSync(0));
const found = [];
for (const c of cases) {
  const picture = await decodePng(Buffer.from(c.png, "base64"));
  found.push(Array.from(prepare(picture, c)));
}
console.log(JSON.stringify(found));
"""
JAVASCRIPT_MASKS = """
import { readFileSync } from "node:fs";
import { maskOfSize } from "../../export/browser/mask.mjs";
const cases = JSON.parse(readFileSync(0));
const masks = cases.map(({ data, shape, size }) => {
  const bytes = Uint8Array.from(Buffer.from(data, "base64"));
  return Array.from(maskOfSize(new Float32Array(bytes.buffer), shape, size));
});
console.log(JSON.stringify(masks));
"""


@pytest.mark.javascript
def test_javascript_resizes_masks_to_the_same_pixels(example):
    """Of both kinds of steps, with ties: where two classes are equal, the first is taken."""
    rng = np.random.default_rng(4)
    cases = [(example_probabilities(), tuple(mask["size"])) for mask in MASKS["masks"]]
    for size in (3, 9), (61, 47), (64, 200), (200, 150), (24, 33), (24, 90), (90, 33), (7, 80):
        scores = rng.normal(size=(24, 33, 5)).astype(np.float32) * 2
        cases.append((softmax(scores), size))
        tied = rng.integers(0, 3, (24, 33, 5)).astype(np.float32) / 4
        cases.append((tied, size))
    told = [
        {"data": base64.b64encode(p.tobytes()).decode(), "shape": p.shape, "size": size}
        for p, size in cases
    ]
    command = ["node", "--input-type=module", "-e", JAVASCRIPT_MASKS]
    result = subprocess.run(
        command, cwd=example, input=json.dumps(told), capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    for found, (probabilities, size) in zip(json.loads(result.stdout), cases, strict=True):
        expected = mask_of_size(probabilities, size)
        np.testing.assert_array_equal(np.reshape(found, size), expected)


@pytest.mark.javascript
def test_javascript_reports_a_wrong_answer(example, toy_models, tmp_path):
    model = onnx.load(toy_models["classify"])
    weight = next(i for i in model.graph.initializer if i.name == "dense2/weight")
    doubled = onnx.numpy_helper.to_array(weight) * np.float32(2)
    weight.CopyFrom(onnx.numpy_helper.from_array(doubled, weight.name))
    onnx.save(model, tmp_path / "changed.onnx")
    command = ["node", "predict.mjs", str(tmp_path / "changed.onnx")]
    result = subprocess.run(command, cwd=example, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert '"good":false' in result.stdout


# docs/onnx-contract.md, "From the outputs to an answer" and "From an image file to `image`", in
# numpy


def triangle(n, m):
    """float64 (m, n): the weights by which a direction shrinks."""
    weights = np.zeros((m, n))
    scale = n / m
    for x in range(m):
        centre = (x + 0.5) * scale
        first, end = max(0, int(centre - scale + 0.5)), min(n, int(centre + scale + 0.5))
        for i in range(first, end):
            weights[x, i] = max(0, 1 - abs(i - centre + 0.5) / scale)
    return weights / weights.sum(axis=1, keepdims=True)


def grown(values, m):
    """Rows float32 (n, ...) -> (m, ...)."""
    n = len(values)
    out = np.empty((m, *values.shape[1:]), np.float32)
    for x in range(m):
        s = min(max((x + 0.5) * (n / m) - 0.5, 0), n - 1)
        i = int(s)
        out[x] = values[i] + (values[min(i + 1, n - 1)] - values[i]) * np.float32(s - i)
    return out


def resized_as_documented(probabilities, size):
    shape = probabilities.shape
    for axis in (1, 0):
        if size[axis] < shape[axis]:
            weights = triangle(shape[axis], size[axis])
            moved = np.moveaxis(probabilities, axis, 0).astype(float)
            shrunk = np.tensordot(weights, moved, 1).astype(np.float32)
            probabilities = np.moveaxis(shrunk, 0, axis)
    for axis in (1, 0):
        if size[axis] > shape[axis]:
            moved = np.moveaxis(probabilities, axis, 0)
            probabilities = np.moveaxis(grown(moved, size[axis]), 0, axis)
    return probabilities


@pytest.mark.parametrize("size", [(40, 61), (500, 1000), (9, 7), (8, 60), (60, 13), (15, 13)])
def test_masks_as_documented(size):
    probabilities = softmax(np.random.default_rng(0).normal(size=(15, 13, 4)).astype(np.float32))
    expected = resized_as_documented(probabilities, size)
    assert expected.shape == (*size, 4)
    np.testing.assert_array_equal(mask_of_size(probabilities, size), expected.argmax(-1))


def test_the_example_for_ports():
    probabilities = example_probabilities()
    for mask in MASKS["masks"]:
        expected = np.array([list(map(int, row)) for row in mask["rows"]])
        found = mask_of_size(probabilities, tuple(mask["size"]))
        np.testing.assert_array_equal(found, expected)
        best = np.sort(resized_as_documented(probabilities, mask["size"]), axis=-1)
        assert (best[..., -1] - best[..., -2]).min() > 1e-3  # as the text promises


def resample(pixels, size):
    """Rows of uint8 (rows, n, channels) to ``size`` pixels."""
    n = pixels.shape[1]
    scale = n / size
    support = max(1, scale)
    out = np.empty((len(pixels), size, pixels.shape[2]), np.uint8)
    for x in range(size):
        centre = (x + 0.5) * scale
        first, end = max(0, int(centre - support + 0.5)), min(n, int(centre + support + 0.5))
        w = np.array([max(0, 1 - abs(i - centre + 0.5) / support) for i in range(first, end)])
        k = np.trunc(0.5 + w / w.sum() * 2**22).astype(np.int64)
        total = (pixels[:, first:end] * k[None, :, None]).sum(axis=1)
        out[:, x] = np.clip((2**21 + total) >> 22, 0, 255)
    return out


@pytest.mark.parametrize(
    ("old", "new"),
    [((15, 30), (17, 21)), ((9, 11), (32, 48)), ((31, 64), (31, 20)), ((64, 20), (31, 20))],
)
def test_resize_as_documented(old, new):
    pixels = np.random.default_rng(0).integers(0, 256, (*old, 3), np.uint8)
    rows = resample(pixels, new[1]) if old[1] != new[1] else pixels
    columns = resample(rows.transpose(1, 0, 2), new[0]) if old[0] != new[0] else None
    expected = rows if columns is None else columns.transpose(1, 0, 2)
    np.testing.assert_array_equal(image.load(pixels, new, 3), expected)


def test_transparency_and_luma_as_documented():
    rgba = np.random.default_rng(0).integers(0, 256, (64, 64, 4))
    rgba[0, :, 3], rgba[1, :, 3] = 0, 255
    v, a = rgba[..., :3], rgba[..., 3:]
    s = v * a * 128 + 255 * (255 - a) * 128 + 16384
    on_white = np.where(a == 0, 255, (((s >> 8) + s) >> 8) >> 7)
    np.testing.assert_array_equal(image.load(rgba.astype(np.uint8), None, 3), on_white)
    luma = (on_white @ np.array([19595, 38470, 7471]) + 32768) >> 16
    np.testing.assert_array_equal(image.load(rgba.astype(np.uint8), None, 1)[..., 0], luma)


def png_of_16_bits(values, colour_type):
    """A PNG file of uint16 (H, W, channels); Pillow itself writes only grey ones."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = ((b"IHDR", header), (b"IDAT", compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*c) for c in chunks)


def test_16_bits_as_documented():
    values = np.random.default_rng(0).integers(0, 65536, (9, 9, 3))
    colour = image.load(png_of_16_bits(values, 2), None, 3)
    np.testing.assert_array_equal(colour, values >> 8)
    grey = image.load(png_of_16_bits(values[..., :1], 0), None, 1)
    np.testing.assert_array_equal(grey, (values[..., :1] + 128) // 257)
