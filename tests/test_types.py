"""What mypy says of a program that uses the predictor."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy", reason="the package mypy is not installed")

PACKAGE = Path(__file__).parent.parent / "tfproj"
GOOD = """
from pathlib import Path

import numpy as np
from PIL import Image

from tfproj import Classification, Predictor, Segmentation
from tfproj.errors import InputError

predictor = Predictor("model.onnx", threads=2, unknown_below="auto")
with open("a.png", "rb") as file:
    predictor.predict(file)
for one in ("a.jpg", Path("a.jpg"), b"...", Image.new("L", (8, 8)), np.zeros((8, 8), np.uint8)):
    predictor.predict(one)
predictor.predict(["a.jpg", "b.jpg"], batch_size=2)
predictor.predict([np.zeros((8, 8, 3), np.uint8), "a.jpg"])
predictor.predict(np.zeros((5, 8, 8, 3), np.uint8))
predictor.predict(path for path in Path("images").iterdir())
for result in predictor.predict("a.jpg"):
    names: tuple[str, ...] = result.classes
    if isinstance(result, Segmentation):
        mask: np.ndarray = result.mask
        result.overlay("a.jpg").save("overlay.png")
    else:
        label: str = result.label
for answer in predictor.stream(["a.jpg"]):
    answer.probabilities.mean()
for outcome in predictor.stream(["a.jpg"], errors="return"):
    if not isinstance(outcome, InputError):
        outcome.probabilities.mean()
answers: list[Classification] = [r for r in predictor.predict("a") if isinstance(r, Classification)]
Predictor.pretrained("facades", threads=1).selftest().max_difference * 2
"""
BAD = {
    "import tfproj\ntfproj.nothing": "attr-defined",
    "from tfproj import Predictor\nPredictor('a').predict(5)": "arg-type",
    "from tfproj import Predictor\nPredictor('a').predict('b')[0].mask": "union-attr",
    "from tfproj import Predictor\nPredictor('a').stream('b', errors='skip')": "call-overload",
}


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """A folder with the package as it is installed, py.typed included, and a cache of types."""
    folder = tmp_path_factory.mktemp("types")
    shutil.copytree(PACKAGE, folder / "tfproj", ignore=shutil.ignore_patterns("*.onnx"))
    return folder


def check(house, program):
    (house / "program.py").write_text(program, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "program.py"]
    return subprocess.run(command, cwd=house, capture_output=True, text=True).stdout


def test_a_program_without_faults(house):
    assert (PACKAGE / "py.typed").exists()
    assert check(house, GOOD).startswith("Success")


@pytest.mark.parametrize("program", BAD)
def test_faults_are_found(house, program):
    assert BAD[program] in check(house, program)
