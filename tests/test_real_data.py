"""The main job on real images, short: it learns, exports, and predicts files."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tfproj.cli.main import main
from tfproj.data import load_dataset
from tfproj.data.sources.fashion_mnist import find_idx_folder
from tfproj.errors import InputError

pytestmark = pytest.mark.real_data


def require(task):
    """Skip, saying why, where the real data of a task are absent."""
    if task == "classify":
        if find_idx_folder() is None:
            pytest.skip("Fashion-MNIST is absent: apt-get install dataset-fashion-mnist")
        return
    try:
        load_dataset("facades")
    except InputError as error:
        pytest.skip(f"facades are absent: {error}")


SHORT = {
    "classify": ["--epochs", "4", "--limit", "8000"],
    "segment": ["--epochs", "6", "--limit", "160", "--image-size", "64", "64"],
}
# What a model that learned nothing reaches, with a margin: the share of the largest class.
CHANCE = {"classify": ("accuracy", 0.60), "segment": ("pixel_accuracy", 0.45)}


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_train_export_predict(task, tmp_path, capsys):
    require(task)
    runs = ["--runs-dir", str(tmp_path / "runs")]
    assert main(["train", task, *SHORT[task], "--name", "short", "--json", *runs]) == 0
    metrics = json.loads(capsys.readouterr().out)["metrics"]
    measure, chance = CHANCE[task]
    assert metrics["splits"]["val"][measure] > chance
    assert main(["export", "--onnx", *runs]) == 0
    sample = tmp_path / "sample.png"
    split = load_dataset(metrics_data(task)).splits["val"]
    source = split.read_image(0)
    image = Image.fromarray(source) if isinstance(source, np.ndarray) else Image.open(source)
    image.save(sample)
    assert main(["predict", "short", str(sample), "--json", *runs]) == 0


def metrics_data(task):
    return {"classify": "fashion_mnist", "segment": "facades"}[task]


@pytest.fixture(scope="module")
def flowers(real_flowers, tmp_path_factory):
    """(metrics of the run, lines on stderr) of the command as a new user types it."""
    runs = ["--runs-dir", str(tmp_path_factory.mktemp("runs")), "--json"]
    command = [sys.executable, "-m", "tfproj", "train", "classify", "--data", str(real_flowers)]
    done = subprocess.run([*command, *runs], capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["metrics"], done.stderr.splitlines()


def test_photographs_are_learned_without_a_flag(flowers):
    metrics, _ = flowers
    assert metrics["splits"]["test"]["examples"] == 200
    assert metrics["splits"]["test"]["accuracy"] >= 0.85


def test_the_first_line_names_the_preset_and_why(flowers):
    _, lines = flowers
    assert lines[0].startswith("preset photo: colour images of ")
    assert lines[0].endswith(" px (median), 64 or more; epochs 1")
    assert not [line for line in lines if "collapse" in line]
