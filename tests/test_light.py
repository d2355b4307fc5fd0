"""The light install: no framework is imported, and every system gives the same answers."""

import json
import os
import subprocess
import sys

import pytest
from tiny_models import CLASSIFY, pixels, png, tiny_model

from tfproj import Predictor
from tfproj.pretrained import names

pytestmark = pytest.mark.light

HEAVY = """
import json, sys
heavy = ("cv2", "h5py", "jinja2", "keras", "matplotlib", "onnx", "scipy", "sklearn", "tensorflow",
         "tensorflow_datasets", "tf2onnx", "yaml")
def loaded(*more):
    return [name for name in (*heavy, *more) if name in sys.modules]
"""


def run(code, *args, cwd, **environment):
    """What a new process prints."""
    command = [sys.executable, "-c", HEAVY + code, *map(str, args)]
    done = subprocess.run(
        command, capture_output=True, cwd=cwd, env={**os.environ, **environment}, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode("cp1252")


def test_arrays_are_predicted_without_a_framework_or_pillow(tmp_path):
    code = """
import numpy as np
from tfproj import Predictor
predictor = Predictor.pretrained("fashion_mnist-tiny")
predictor.predict(np.zeros((3, 28, 28, 1), np.uint8))
print(json.dumps(loaded("PIL", "click", "csv")))
"""
    assert json.loads(run(code, cwd=tmp_path)) == []


def test_files_are_predicted_without_a_framework(tmp_path):
    (tmp_path / "a.png").write_bytes(png(pixels(0, CLASSIFY)))
    code = """
from tfproj.cli.main import main
assert main(["predict", "fashion_mnist-tiny", "a.png", "--selftest", "--output", "out"]) == 0
print(json.dumps(loaded()))
"""
    said = run(code, cwd=tmp_path).splitlines()
    assert said[0].startswith("a.png: ") and json.loads(said[1]) == []


@pytest.mark.parametrize("name", names())
def test_pretrained_models_give_the_answers_that_they_carry(name):
    assert Predictor.pretrained(name).selftest().vectors > 0


def test_names_that_an_old_code_page_cannot_spell(tmp_path):
    """Windows' Python writes to pipes in the code page of the system."""
    (tmp_path / "a.onnx").write_bytes(tiny_model())
    (tmp_path / "日本é.png").write_bytes(png(pixels(0, CLASSIFY)))
    code = """
from tfproj.cli import main
sys.argv = ["tfproj", "predict", *sys.argv[1:]]
main.run()
"""
    told = {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"}
    said = run(code, "a.onnx", "日本é.png", cwd=tmp_path, **told)
    assert said.startswith(r"\u65e5\u672cé.png: ")
    table = run(code, "a.onnx", "日本é.png", "--output", "out", cwd=tmp_path, **told)
    assert table == said
    assert "日本é.png" in (tmp_path / "out" / "predictions.csv").read_text(encoding="utf-8")
