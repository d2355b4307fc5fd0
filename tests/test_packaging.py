"""The wheel holds one top-level name, and its light part predicts without any framework."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

import tfproj
from tfproj.core.spec import METADATA_KEY, ModelSpec

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # A copy without build/, in which setuptools would find files of before.
    left_out = shutil.ignore_patterns("build", "*.egg-info", ".*", "__pycache__")
    source = shutil.copytree(ROOT, folder / "source", ignore=left_out)
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(source)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next(folder.glob("*.whl"))


def test_the_only_top_level_name_is_tfproj(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"tfproj"}


def test_every_module_of_the_repository_is_in_the_wheel(wheel):
    packages = {"tfproj": "tfproj", "cli": "tfproj/cli", "export": "tfproj/export"}
    files = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in packages.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == files


def test_public_names():
    assert tfproj.__all__ == sorted(tfproj.__all__)
    assert set(dir(tfproj)) >= set(tfproj.__all__)
    for name in tfproj.__all__:
        assert getattr(tfproj, name) is not None
    with pytest.raises(AttributeError, match="nothing"):
        tfproj.nothing  # noqa: B018


def brightness_model(path):
    """An ONNX file of two classes, dark and bright, by the mean of a 4 x 4 grey image."""
    spec = ModelSpec("classify", "cnn", ("dark", "bright"), (), 4, 4, 1)
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "middle"], ["above"]),
        helper.make_node("Neg", ["above"], ["below"]),
        helper.make_node("Concat", ["below", "above"], ["scores"], axis=1),
        helper.make_node("Softmax", ["scores"], ["probabilities"], axis=-1),
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2])
        for name in ("scores", "probabilities")
    ]
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", 4, 4, 1])],
        outputs,
        [
            helper.make_tensor("axes", TensorProto.INT64, [2], [1, 2]),
            helper.make_tensor("middle", TensorProto.FLOAT, [1], [127.5]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: json.dumps(spec.to_dict())})
    onnx.save(model, path)


CODE = """
import sys
from tfproj import Predictor
results = Predictor("m.onnx").predict(["dark.png", "bright.png"])
print([result.label for result in results])
print({"tensorflow", "keras", "matplotlib", "sklearn", "onnx"} & {*sys.modules})
from tfproj.cli.main import main
assert main(["predict", "m.onnx", "dark.png", "bright.png"]) == 0
assert main(["train", "classify", "--data", "digits"]) == 2
"""


@pytest.fixture(scope="module")
def light_bin(wheel, tmp_path_factory):
    """The commands of an environment that holds the wheel, what it needs, and pytest."""
    folder = tmp_path_factory.mktemp("light") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    install = [folder / "bin" / "python", "-m", "pip", "install", "-q", wheel, "pytest"]
    subprocess.run(install, check=True, capture_output=True, text=True)
    return folder / "bin"


def test_the_light_part_predicts_in_a_new_environment(light_bin, tmp_path):
    python = light_bin / "python"
    brightness_model(tmp_path / "m.onnx")
    for name, value in (("dark", 10), ("bright", 240)):
        Image.fromarray(np.full((9, 7), value, np.uint8)).save(tmp_path / f"{name}.png")
    command = [python, "-c", CODE]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert lines[:2] == ["['dark', 'bright']", "set()"]
    assert lines[2].startswith("dark.png: dark 1.0000")
    # What is left out is named with the command that installs it.
    assert "pip install 'tfproj[train]'" in done.stderr
    listed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True)
    assert not {"tensorflow", "keras", "matplotlib", "onnx"} & set(listed.stdout.split())


def test_modules_marked_light_are_read_without_a_framework(light_bin):
    """Continuous integration runs all of them so, on other systems, too."""
    command = [light_bin / "pytest", "-m", "light", "-q", "-p", "no:cacheprovider"]
    for more in (["--collect-only"], ["tests/test_light.py"]):
        done = subprocess.run([*command, *more], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout


def test_the_citation_names_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {tfproj.__version__}\n" in citation
