"""Ports to other languages: the examples that they check themselves with, and the one in C++."""

import importlib.util
import json
import runpy
import shutil
import subprocess
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
from PIL import Image
from tiny_models import png

from tfproj import Predictor
from tfproj.pretrained import names, pretrained_file

TASKS = ("classify", "segment")
ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "docs" / "port-examples.json"


def test_the_examples_are_what_the_package_answers():
    made = runpy.run_path(str(ROOT / "docs" / "make_port_examples.py"))["examples"]()
    assert made == json.loads(EXAMPLES.read_text()), "run: make docs"


def test_the_examples_turn_pictures_eight_ways():
    images = json.loads(EXAMPLES.read_text())["images"]
    turned = {i["pixels_base64"] for i in images if i["name"].startswith("EXIF orientation")}
    assert len(turned) == 8
    assert len({i["name"] for i in images}) == len(images) > 50


def faults(metadata):
    schema = json.loads((ROOT / "docs" / "metadata.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    return [f"{'/'.join(map(str, e.path))}: {e.message}" for e in validator.iter_errors(metadata)]


def test_files_are_what_the_schema_says(toy_models):
    files = [pretrained_file(name) for name in names()] + [toy_models[t] for t in TASKS]
    assert [faults(Predictor(file).metadata) for file in files] == [[]] * len(files)
    metadata = Predictor(toy_models["classify"]).metadata
    for change in {"schema": 3}, {"height": 0}, {"resize": "squash"}, {"schema": 99}, {"input": {}}:
        assert faults({**metadata, **change})


def test_the_schema_knows_every_key_that_is_written(toy_models, toy_labels):
    known = json.loads((ROOT / "docs" / "metadata.schema.json").read_text())["properties"]
    written = [Predictor(toy_models[task]).metadata for task in TASKS]
    written.append(Predictor(toy_labels.onnx_file).metadata)
    assert faults(written[-1]) == []
    assert set().union(*written) <= known.keys()


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The example in C++, built."""
    for tool in ("cmake", "c++"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    found = importlib.util.find_spec("openvino")
    if found is None:
        pytest.skip("the package openvino is not installed")
    folder = tmp_path_factory.mktemp("cpp")
    place = Path(found.origin).parent / "cmake"
    configure = ["cmake", "-S", ROOT / "examples" / "cpp", "-B", folder, f"-DOpenVINO_DIR={place}"]
    done = subprocess.run(configure, capture_output=True, text=True)
    for package in ("PNG", "nlohmann_json"):
        if done.returncode and package in done.stderr:
            pytest.skip(f"CMake finds no {package}")
    assert done.returncode == 0, done.stderr
    done = subprocess.run(["cmake", "--build", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "predict"


def answers(program, *arguments, code=0):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.cpp
def test_cpp_answers_as_the_examples(program, tmp_path):
    told = json.loads(EXAMPLES.read_text())
    lines = answers(program, "--examples", EXAMPLES)
    assert all(line["good"] for line in lines)
    assert len(lines) == sum(
        map(len, (told["images"], told["masks"]["masks"], told["calibration"]))
    )
    told["images"][3]["resize"] = "crop"
    told["images"][3]["width"] = 4
    (tmp_path / "changed.json").write_text(json.dumps(told))
    changed = answers(program, "--examples", tmp_path / "changed.json", code=1)
    assert [line["example"] for line in changed if not line["good"]] == [told["images"][3]["name"]]


@pytest.mark.cpp
@pytest.mark.parametrize(
    "name", ["fashion_mnist-tiny", "fashion_mnist-tiny-int8", "facades-default"]
)
def test_cpp_reproduces_the_golden_answers(program, name, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(np.random.default_rng(2).integers(0, 256, (97, 161, 3), np.uint8)))
    *golden, last = answers(program, pretrained_file(name), path)
    assert len(golden) == 5 and all(line["good"] for line in golden)
    predictor = Predictor.pretrained(name)
    expected = predictor.predict(str(path))[0]
    if predictor.spec.task == "classify":
        tolerance = 0.05 if "int8" in name else 1e-4
        assert last["probability"] == pytest.approx(expected.probability, abs=tolerance)
        assert last["label"] == expected.label
    else:
        assert last["shares"] == pytest.approx(expected.shares(), abs=1e-3)


@pytest.mark.cpp
def test_cpp_gives_the_same_labels(program, toy_labels):
    files = sorted((toy_labels.path.parents[2] / "data" / "images").glob("val_*.png"))[:12]
    lines = answers(program, toy_labels.onnx_file, *files)[-len(files) :]
    expected = [sorted(r.labels) for r in Predictor(toy_labels.onnx_file).predict(files)]
    assert [sorted(line["labels"]) for line in lines] == expected
    assert len({len(labels) for labels in expected}) > 2


@pytest.mark.cpp
def test_cpp_leaves_out_what_stands_beside(program, letterboxed_masks):
    files = sorted((letterboxed_masks.path.parents[2] / "data" / "val" / "images").iterdir())
    lines = answers(program, letterboxed_masks.onnx_file, *files)[-len(files) :]
    expected = Predictor(letterboxed_masks.onnx_file).predict(files)
    for line, one in zip(lines, expected, strict=True):
        assert line["shares"] == pytest.approx(one.shares(), abs=5e-3)


@pytest.mark.cpp
def test_cpp_keeps_proportions(program, kept_proportions):
    golden = answers(program, kept_proportions.onnx_file)
    assert len(golden) == 7 and all(line["good"] for line in golden)


@pytest.mark.cpp
@pytest.mark.parametrize(
    ("change", "words"),
    [({"schema": 99}, "schema 99"), ({"resize": "squash"}, "resize squash"), (None, "tfproj")],
)
def test_cpp_refuses_what_it_does_not_know(program, tmp_path, change, words):
    model = onnx.load(pretrained_file("fashion_mnist-tiny"))
    entry = next(p for p in model.metadata_props if p.key == "tfproj")
    if change is None:
        entry.key = "other"
    else:
        entry.value = json.dumps({**json.loads(entry.value), **change})
    onnx.save(model, tmp_path / "changed.onnx")
    done = subprocess.run([program, tmp_path / "changed.onnx"], capture_output=True, text=True)
    assert done.returncode == 1
    assert words in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.cpp
def test_cpp_names_a_damaged_picture(program, tmp_path):
    buffer = png(np.zeros((40, 40, 3), np.uint8))
    path = tmp_path / "half.png"
    path.write_bytes(buffer[: len(buffer) // 2])
    with pytest.raises(OSError, match="truncated"):
        Image.open(path).load()
    done = subprocess.run(
        [program, pretrained_file("fashion_mnist-tiny"), path], capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.startswith(f"error: {path}: ")
