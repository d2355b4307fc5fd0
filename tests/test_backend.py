import subprocess
import sys

import pytest

from tfproj import backend
from tfproj.core.hardware import parse_device
from tfproj.errors import InputError


@pytest.mark.parametrize(
    ("machine", "given", "expected"),
    [("x86_64", None, "1"), ("AMD64", None, "1"), ("x86_64", "0", "0"), ("aarch64", None, None)],
)
def test_onednn_is_asked_for_on_x86_unless_the_user_says_otherwise(
    monkeypatch, machine, given, expected
):
    environ = {} if given is None else {"TF_ENABLE_ONEDNN_OPTS": given}
    monkeypatch.setattr(backend.os, "environ", environ)
    monkeypatch.setattr(backend.platform, "machine", lambda: machine)
    backend.set_environment()
    assert environ.get("TF_ENABLE_ONEDNN_OPTS") == expected
    assert environ["KERAS_BACKEND"] == "tensorflow"


def test_a_notebook_in_which_tensorflow_was_used_before():
    code = (
        "import tensorflow as tf\n"
        "tf.constant([1.0])\n"
        "from tfproj import backend\n"
        "backend.setup()\n"
        "backend.setup()\n"
        "print(tf.reduce_sum(tf.ones(3)).numpy())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "3.0"
    assert done.stderr.count("note: TensorFlow was in use before tfproj; its threads stay") == 1


@pytest.mark.parametrize("device", ["tpu", "", "0,0", "-1", "cpu,0", "0, 1"])
def test_what_is_no_device(device):
    with pytest.raises(InputError, match="must be cpu, gpu"):
        parse_device(device)


def test_a_gpu_that_is_not_there_is_said_and_never_replaced():
    code = (
        "import os\n"
        "os.environ['CUDA_VISIBLE_DEVICES'] = ''\n"
        "from tfproj import backend\n"
        "from tfproj.errors import InputError\n"
        "for device in ('gpu', '3', '0,1'):\n"
        "    try:\n"
        "        backend.use_device(device)\n"
        "    except InputError as error:\n"
        "        print(error)\n"
        "backend.use_device('cpu')\n"
        "print(backend.device_name())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    *refused, name = done.stdout.splitlines()
    assert [line.split(";")[0] for line in refused] == [
        "device gpu: TensorFlow sees no GPU",
        "device 3: TensorFlow sees no GPU",
        "device 0,1: one GPU is used here",
    ], done.stderr
    assert name == "cpu"
