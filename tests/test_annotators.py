"""The examples for CVAT and Label Studio, with the packages of these tools where they are."""

import json
import os
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest
from tiny_models import png

from tfproj import Predictor
from tfproj.pretrained import pretrained_file

EXAMPLES = Path(__file__).parent.parent / "examples"
CVAT = """
import json, sys, types
sys.path.insert(0, sys.argv[1])
import cvat
from PIL import Image
function = cvat.create(sys.argv[2])
context = types.SimpleNamespace(conf_threshold=float(sys.argv[4]) if sys.argv[4:] else None)
found = function.detect(context, Image.open(sys.argv[3]))
print(json.dumps([[label.name, label.id, label.type] for label in function.spec.labels]))
print(json.dumps([one.to_dict() for one in found]))
"""
DECODE = """
import json, sys
from label_studio_sdk.converter.brush import decode_rle
print(json.dumps([decode_rle(rle).tolist() for rle in json.load(sys.stdin)]))
"""


@pytest.fixture(scope="module")
def python():
    found = os.environ.get("TFPROJ_ANNOTATORS", "")
    if not found:
        pytest.skip("no Python with the packages of CVAT and Label Studio in $TFPROJ_ANNOTATORS")
    return found


def answers(*command, **options):
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photos" / "a.png"
    path.parent.mkdir()
    rows, columns = np.indices((60, 90))
    waves = [127 + 120 * np.sin(rows / (3 + c) + columns / (9 - c)) for c in range(3)]
    path.write_bytes(png(np.stack(waves, -1).astype(np.uint8)))
    return path


def test_cvat_gets_masks(python, photo):
    file = pretrained_file("facades-default")
    labels, shapes = answers(python, "-c", CVAT, EXAMPLES, file, photo)
    predictor = Predictor(file)
    expected = predictor.predict_one(photo)
    assert labels == [[n, i, "mask"] for i, n in enumerate(predictor.spec.classes) if i]
    present = set(np.unique(expected.mask).tolist()) - {0}
    assert {shape["label_id"] for shape in shapes} == present != set()
    for shape in shapes:
        *lengths, left, top, right, bottom = map(int, shape["points"])
        values = np.repeat(np.arange(len(lengths)) % 2, lengths)  # runs, of zeros first
        mask = np.zeros(expected.mask.shape, int)
        mask[top : bottom + 1, left : right + 1] = values.reshape(bottom - top + 1, -1)
        np.testing.assert_array_equal(mask == 1, expected.mask == shape["label_id"])


def test_cvat_gets_tags(python, photo):
    file = pretrained_file("fashion_mnist-tiny")
    labels, (tag,) = answers(python, "-c", CVAT, EXAMPLES, file, photo)
    predictor = Predictor(file)
    assert labels == [[n, i, "tag"] for i, n in enumerate(predictor.spec.classes)]
    expected = predictor.predict_one(photo)
    assert predictor.spec.classes[tag["label_id"]] == expected.label
    for more, count in ((-1e-6, 1), (1e-6, 0)):
        told = answers(python, "-c", CVAT, EXAMPLES, file, photo, expected.probability + more)
        assert len(told[1]) == count


def test_both_get_all_labels(python, toy_labels):
    model = toy_labels.onnx_file
    files = sorted((toy_labels.path.parents[2] / "data" / "images").glob("*.png"))[:40]
    results = Predictor(model).predict(files)
    file, expected = max(zip(files, results, strict=True), key=lambda pair: len(pair[1].labels))
    assert len(expected.labels) > 1
    _, tags = answers(python, "-c", CVAT, EXAMPLES, model, file)
    assert [expected.classes[tag["label_id"]] for tag in tags] == [*expected.labels]
    (tasks,) = answers(python, EXAMPLES / "label_studio.py", model, file.parent)
    told = {task["data"]["image"].rpartition("/")[2]: task["predictions"][0] for task in tasks}
    assert told[file.name]["result"][0]["value"] == {"choices": [*expected.labels]}


def test_label_studio_gets_masks(python, photo):
    file = pretrained_file("facades-default")
    script = EXAMPLES / "label_studio.py"
    ((task,),) = answers(python, script, file, photo.parent)
    (prediction,) = task["predictions"]
    expected = Predictor(file).predict_one(photo)
    assert task["data"]["image"].endswith("photos/a.png")
    regions = prediction["result"]
    told = json.dumps([region["value"]["rle"] for region in regions])
    (decoded,) = answers(python, "-c", DECODE, input=told)
    assert regions
    for region, values in zip(regions, decoded, strict=True):
        (name,) = region["value"]["brushlabels"]
        mask = np.reshape(values, (*expected.mask.shape, 4))[..., 3] > 0
        np.testing.assert_array_equal(mask, expected.mask == expected.classes.index(name))


def test_label_studio_gets_choices(python, photo):
    file = pretrained_file("fashion_mnist-tiny")
    other = photo.parent / "below" / "b & c#1.PNG"
    other.parent.mkdir()
    other.write_bytes(photo.read_bytes())
    (photo.parent / "bad.jpg").write_text("text")
    ((one, two),) = answers(python, EXAMPLES / "label_studio.py", file, ".", cwd=photo.parent)
    expected = Predictor(file).predict_one(photo)
    (region,) = one["predictions"][0]["result"]
    assert region["value"] == {"choices": [expected.label]}
    addresses = [parse_qs(urlsplit(task["data"]["image"]).query)["d"] for task in (one, two)]
    assert addresses == [["photos/a.png"], ["photos/below/b & c#1.PNG"]]
