import subprocess
import sys

import pytest

from tfproj import backend


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
