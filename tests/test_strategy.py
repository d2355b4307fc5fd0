"""Several devices and several workers train what one device trains."""

import json
import os
import socket
import subprocess
import sys
import threading

import numpy as np
import pytest

from tfproj import backend

backend.setup()

from tfproj.data.dataset import Split  # noqa: E402
from tfproj.errors import InputError  # noqa: E402
from tfproj.training import together  # noqa: E402
from tfproj.training.cache import Cache  # noqa: E402
from tfproj.training.pipeline import ALL, Share, train_batches  # noqa: E402

SCRIPT_HEAD = """
import json, os, sys
from pathlib import Path
import numpy as np
from tfproj import backend
backend.setup()
import keras
import tensorflow as tf
from tfproj.experiment.presets import make_config
from tfproj.runs.run import Run
from tfproj.training import train as training
from tfproj.training.together import Together, find_together

root = sys.argv[1]
CNN = {"data": "digits", "model": "cnn", "limit": 160, "batch_size": 32, "precision": "float32",
       "model_options": {"filters": 8, "dense": 16}, "preset": "original"}

def weights(run):
    return [v.numpy() for v in keras.saving.load_model(run.last_weights).weights]

def apart(one, other):
    return max(float(np.abs(a - b).max()) for a, b in zip(weights(one), weights(other)))

def rows(run):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in run.history()]

def keras_fit(strategy, **options):
    with strategy.scope():
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        model.compile("sgd", "mse", jit_compile=False, **options)
    try:
        x, y = np.ones((8, 3), "float32"), np.ones((8, 2), "float32")
        model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(4, True), verbose=0)
    except Exception as error:
        return type(error).__name__
    return None
"""

TWO_DEVICES = (
    SCRIPT_HEAD
    + """
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
together = Together(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]))
found = {}
# Plain steps of SGD: the other optimisers make much of little, and so of rounding.
masks = make_config(
    "segment", data="synthetic_facades", epochs=2, limit=12, batch_size=4, image_size=(32, 48),
    resize="letterbox",  # void beside the pictures
    model_options={"batch_norm": True, "widths": [8, 16]}, dice=1.5, augment="photo_mix",
    optimizer="sgd", schedule="constant", learning_rate=1e-3, ema=0.9, precision="float32",
    class_weights="balanced",
)
classes = make_config("classify", **{**CNN, "epochs": 2, "optimizer": "muon",
                      "weight_decay": 0.05, "augment": "shift_erase"})
for config in (masks, classes):
    one = training.train(config, root, "one")
    two = training.train(config, root, "two", together=together)
    found[config.task] = [apart(one, two), rows(one), rows(two)]
# Begun on two devices, ended on one.
begun = training.train(make_config("classify", **{**CNN, "epochs": 1}), root, "begun",
                       together=together)
training.resume(begun, planned=training.plan_resume(begun, 2))
whole = training.train(make_config("classify", **{**CNN, "epochs": 2}), root, "whole")
found["resumed"] = [apart(begun, whole), rows(whole), rows(begun)]
found["device"] = two.environment()["devices"]
found["keras"] = keras_fit(together.strategy, steps_per_execution=2)
print(json.dumps(found))
"""
)

TWO_WORKERS = (
    SCRIPT_HEAD
    + """
from tfproj.cli.main import main
worker = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
own = f"{root}/worker{worker}"
flags = ["--data", "digits", "--preset", "original", "--limit", "160", "--batch-size", "32",
         "--epochs", "2", "--precision", "float32", "--runs-dir", own, "--no-evaluate"]
codes = [main(["train", "classify", *flags, "--name", "two"])]
codes.append(main(["train", "classify", *flags, "--seed", str(worker)]))
data = ["--data", "digits" if worker == 0 else f"{root}/nothing"]
codes.append(main(["train", "classify", *flags, *data]))
codes.append(main(["train", "classify", *flags, "--batch-size", "33"]))
codes.append(main(["train", "classify", *flags, "--seeds", "2"]))
found = {"codes": codes, "runs": os.path.isdir(own)}
found["keras"] = keras_fit(find_together(None).strategy)
if worker == 0:
    os.environ.pop("TF_CONFIG")
    main(["train", "classify", *flags, "--name", "one"])
    one, two = (Run(Path(own) / "classify" / name) for name in ("one", "two"))
    found["apart"], found["same"] = apart(one, two), [rows(one), rows(two)]
print(json.dumps(found), flush=True)
"""
)


def toy_cache(count=24):
    images = np.random.default_rng(0).integers(0, 256, (count, 8, 10, 3), np.uint8)
    masks = images[..., 0] % 3
    split = Split(tuple(map(str, range(count))), lambda i: images[i], read_mask=lambda i: masks[i])
    return Cache(split, (8, 10), 3)


@pytest.mark.parametrize("augment", ["none", "flip", "shift_erase", "photo", "photo_mix"])
def test_the_parts_of_a_batch_are_the_batch(augment):
    def batches(share, cache):
        found = train_batches(cache, 8, range(1, 3), 5, augment, share=share)
        return [tuple(x.numpy() for x in batch) for batch in found]

    whole = batches(ALL, toy_cache())
    first, others = toy_cache(), toy_cache()
    parts = [batches(Share(4, 0, 1), first), batches(Share(4, 1, 3), others)]
    assert len(parts[1]) == 3 * len(whole)
    for step, (images, masks) in enumerate(whole):
        of_step = [parts[0][step], *parts[1][3 * step : 3 * step + 3]]
        united = {(x.tobytes(), y.tobytes()) for xs, ys in of_step for x, y in zip(xs, ys)}  # noqa: B905
        assert united == {(x.tobytes(), y.tobytes()) for x, y in zip(images, masks)}  # noqa: B905
    if augment != "photo_mix":  # which pastes others
        assert first._filled.sum() < 14, "a worker decodes little but its share"


def run(code, *args, env=None):
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **(env or {})},
    )  # fmt: skip


def results(process):
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err[-3000:]
    return json.loads(out.splitlines()[-1]), err


def require_same(one, other):
    assert [row.keys() for row in one] == [row.keys() for row in other]
    for mine, theirs in zip(one, other, strict=True):
        np.testing.assert_allclose(list(mine.values()), list(theirs.values()), atol=1e-4)


def test_two_devices_train_as_one(tmp_path):
    found, _ = results(run(TWO_DEVICES, str(tmp_path)))
    for part in ("segment", "classify", "resumed"):
        difference, one, other = found[part]
        assert difference < 1e-4, part
        require_same(one, other)
    assert found["device"] == 2
    assert found["keras"], "Keras' fit takes several steps a call under a strategy: see strategy.py"


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def cluster(index, ports):
    workers = [f"127.0.0.1:{port}" for port in ports]
    task = {"type": "worker", "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": workers}, "task": task})}


def test_two_workers_train_as_one(tmp_path):
    ports = free_ports(2)
    processes = [run(TWO_WORKERS, str(tmp_path), env=cluster(i, ports)) for i in range(2)]
    (first, said), (other, _) = map(results, processes)
    assert first["codes"] == other["codes"] == [0, 2, 2, 2, 2]
    for words in (
        "worker 1 has seed 1, worker 0 has 0",
        "worker 1: ",
        "a batch of 33 can't be divided by 2 devices; take --batch-size 32",
        "--seeds trains on one worker",
    ):
        assert words in said
    assert first["runs"] and not other["runs"], "worker 0 alone writes"
    assert first["apart"] < 1e-4
    require_same(*first["same"])
    assert first["keras"], "Keras' fit knows several workers: see tfproj/training/strategy.py"


def test_workers_that_do_not_come_are_not_waited_for_for_ever(monkeypatch, capsys):
    ended = threading.Event()

    def joined():
        assert ended.wait(20)

    monkeypatch.setattr(together, "JOIN_SECONDS", 0.1)
    monkeypatch.setattr(together.os, "_exit", lambda code: ended.set())
    monkeypatch.setattr(together.tf.distribute, "MultiWorkerMirroredStrategy", joined)
    together._join.__wrapped__(1, 3)
    assert "worker 1 waited 0.1 s for the others of TF_CONFIG" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"cluster": {"worker": ["a:1", "b:1"]}}',
    '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}',
    '{"cluster": {"ps": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}',
])  # fmt: skip
def test_tf_config_that_is_not_understood(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(InputError, match="TF_CONFIG"):
        backend.cluster()


def test_tf_config(monkeypatch):
    def found(jobs, kind, index):
        config = {"cluster": jobs, "task": {"type": kind, "index": index}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))
        return backend.cluster()

    assert found({"worker": ["a:1"]}, "worker", 0) is None
    assert found({"worker": ["a:1", "b:1"]}, "worker", 1) == (1, 2)
    assert found({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "worker", 1) == (2, 3)
    assert found({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, "chief", 0) == (0, 3)
