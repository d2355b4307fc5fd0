"""What does a training step cost on several workers, and is it that of one?

    python benchmarks/scale_training.py            # milliseconds a step
    python benchmarks/scale_training.py --proof    # 20 steps, kill -9, ended on one worker

Workers are processes of this machine on the loopback, devices are virtual CPUs of one process; all
share its cores. So a step can only become slower here: what is measured is the overhead.

``--proof`` compares weights and logs after 20 steps of two workers with those of one process with
the whole batch. Rounding alone moves them, too, for an optimiser that divides by the size of a
gradient makes much of little: the same process with its batches in reverse order says how far.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np

NETS: dict[str, dict[str, Any]] = {
    "classify": {
        "data": "digits", "model": "cnn", "limit": 320, "batch_size": 32,
        "model_options": {"batch_norm": True}, "augment": "shift_erase",
    },
    "segment": {
        "data": "synthetic_facades", "limit": 40, "batch_size": 4, "image_size": [64, 64],
        "model_options": {"batch_norm": True, "widths": [16, 24]}, "augment": "photo_mix",
        "dice": 1.5, "ema": 0.9,
    },
}  # fmt: skip
# Those of the presets, with their learning rates.
OPTIMIZERS = {
    "adam": {"learning_rate": 1e-3},
    "adamw": {"learning_rate": 1e-3, "weight_decay": 1e-2},
    "muon": {"learning_rate": 5e-3, "weight_decay": 5e-2},
}
LIMIT_S = 1800  # a worker that hangs is no result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--proof", action="store_true", help="compare instead of timing")
    parser.add_argument("--quick", action="store_true", help="one network and one optimiser")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    common.add_json(parser)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(**json.loads(options.worker))))
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = prove(Path(folder), options.quick) if options.proof else overhead(options.quick)
    print(markdown(rows))
    if options.json:
        common.write(options.json, {"quick": options.quick, "rows": rows})


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(map(str, row.values())) + " |" for row in rows)])


def overhead(quick: bool) -> list[dict[str, Any]]:
    """Milliseconds a step of one process, of two devices and of two workers."""
    rows = []
    for task in list(NETS)[: 1 if quick else None]:
        jobs = [[task, "muon", {"epochs": 2 if quick else 4}]]
        with tempfile.TemporaryDirectory() as root:
            ways = {"one device": [{}], "two devices": [{"devices": 2}], "two workers": cluster(2)}
            if quick:
                del ways["two devices"]
            times = {way: start(ways[way], jobs, f"{root}/{way}")[0][0]["ms"] for way in ways}
        more = times["two workers"] - times["one device"]
        rows.append({"task": task, **times, "overhead of two workers": round(more, 1)})
    return rows


def prove(folder: Path, quick: bool) -> list[dict[str, Any]]:
    """Differences of weights and logs, and whether killed runs end as they should."""
    optimizers = list(OPTIMIZERS)[: 1 if quick else None]
    jobs = [[task, name, {"epochs": 2}] for task in list(NETS)[: 1 if quick else None]
            for name in optimizers]  # fmt: skip
    start([{}], jobs, str(folder / "one"))
    start([{"reverse": True}], jobs, str(folder / "reversed"))
    start(cluster(2), jobs, str(folder / "two"))
    rows = []
    for task, name, _ in jobs:
        one, turned, two = (folder / kind / task / name for kind in ("one", "reversed", "two"))
        rows.append({"what": f"{task}, {name}: 20 steps of two workers", **apart(one, two),
                     "rounding alone": apart(one, turned)["weights"]})  # fmt: skip
        print(rows[-1], file=sys.stderr)
    return rows + killed(folder)


def killed(folder: Path) -> list[dict[str, Any]]:
    """Two workers, one of which ends by kill -9, and the run that goes on from there."""
    jobs = [["classify", "adam", {"epochs": 8}]]
    start(cluster(2), jobs, str(folder / "whole"))
    rows, whole = [], folder / "whole/classify/adam"
    for victim, then in ((1, 2), (0, 2), (1, 1)):
        root = folder / f"killed-{victim}-{then}"
        seconds = kill(victim, jobs, root)
        start(cluster(then) if then > 1 else [{}], jobs, str(root))
        what = f"kill -9 of worker {victim}, resumed on {then} (the other ended in {seconds:.0f} s)"
        rows.append({"what": what, **apart(whole, root / "classify/adam"), "rounding alone": ""})
        print(rows[-1], file=sys.stderr)
    return rows


def kill(victim: int, jobs: list, root: Path) -> float:
    """Seconds until the other worker has ended, after its third epoch."""
    history = root / "classify/adam/history.csv"
    processes = [launch(role, jobs, str(root), pause=0.5) for role in cluster(2)]
    deadline = time.monotonic() + LIMIT_S
    while not history.exists() or len(history.read_text().splitlines()) < 4:
        if time.monotonic() > deadline or processes[0].poll() is not None:
            raise SystemExit(f"worker 0 has ended: {processes[0].communicate()}")
        time.sleep(0.1)
    processes[victim].send_signal(signal.SIGKILL)
    begin = time.monotonic()
    processes[1 - victim].communicate(timeout=LIMIT_S)
    return time.monotonic() - begin


def apart(one: Path, other: Path) -> dict[str, str]:
    """The largest differences of weights and of logs."""
    import keras  # noqa: PLC0415 (it takes seconds)

    from tfproj.runs.run import Run  # noqa: PLC0415 (as keras)

    runs = Run(one), Run(other)
    rows = [[v for k, v in row.items() if k != "seconds"] for run in runs for row in run.history()]
    logs = np.array(rows).reshape(2, -1)
    weights = [keras.saving.load_model(run.last_weights).get_weights() for run in runs]
    differences = [np.abs(a - b).max() for a, b in zip(*weights, strict=True)]
    return {"weights": f"{max(differences):.1e}", "logs": f"{np.abs(logs[0] - logs[1]).max():.1e}"}


def cluster(workers: int) -> list[dict[str, Any]]:
    """What each of so many workers on the loopback is told."""
    sockets = [socket.socket() for _ in range(workers)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    places = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    tasks = ({"type": "worker", "index": index} for index in range(workers))
    return [{"config": {"cluster": {"worker": places}, "task": task}} for task in tasks]


def start(roles: list[dict], jobs: list, root: str) -> list[list[dict[str, Any]]]:
    """What each of the processes found."""
    results = []
    for process in [launch(role, jobs, root) for role in roles]:
        out, err = process.communicate(timeout=LIMIT_S)
        if process.returncode:
            raise SystemExit(f"a worker failed: {err[-2000:]}")
        results.append(json.loads(out.splitlines()[-1]))
    return results


def launch(role: dict, jobs: list, root: str, **more: Any) -> subprocess.Popen:
    role = dict(role)
    config = role.pop("config", None)
    environment = {**os.environ, **({"TF_CONFIG": json.dumps(config)} if config else {})}
    told = json.dumps({"jobs": jobs, "root": root, **role, **more})
    return subprocess.Popen(
        [sys.executable, __file__, "--worker", told],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def work(
    jobs: list, root: str, devices: int = 1, reverse: bool = False, pause: float = 0.0
) -> list[dict[str, Any]]:
    """Train each job, or go on with it; ``pause``: seconds after each epoch."""
    from tfproj import backend  # noqa: PLC0415 (TensorFlow, in workers alone)

    backend.setup()
    import keras  # noqa: PLC0415 (after setup)
    import tensorflow as tf  # noqa: PLC0415 (after setup)

    from tfproj.experiment.plan import plan, plan_resume  # noqa: PLC0415 (as these)
    from tfproj.experiment.presets import make_config  # noqa: PLC0415
    from tfproj.runs.run import Run  # noqa: PLC0415
    from tfproj.training import pipeline, train  # noqa: PLC0415
    from tfproj.training.together import Together, find_together  # noqa: PLC0415

    if devices > 1:
        virtual = [tf.config.LogicalDeviceConfiguration()] * devices
        tf.config.set_logical_device_configuration(
            tf.config.list_physical_devices("CPU")[0], virtual
        )
        names = [f"CPU:{number}" for number in range(devices)]
        together = Together(tf.distribute.MirroredStrategy(names))
    else:
        together = find_together(None)
    if reverse:
        batches = pipeline.train_batches
        pipeline.train_batches = lambda *args: batches(*args).map(lambda x, y: (x[::-1], y[::-1]))

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.begin = time.perf_counter()

        def on_train_batch_end(self, batch, logs=None):
            float(logs["loss"])  # waits for the step
            self.ms = 1e3 * (time.perf_counter() - self.begin) / (batch + 1)

        def on_epoch_end(self, epoch, logs=None):
            self.best = min(getattr(self, "best", np.inf), self.ms)
            time.sleep(pause)

    found = []
    for task, optimizer, changes in jobs:
        chosen = {**NETS[task], "optimizer": optimizer, **OPTIMIZERS[optimizer], **changes}
        chosen |= {"precision": "float32", "schedule": "constant"}
        config, run, clock = (
            make_config(task, **chosen),
            Run(Path(root) / task / optimizer),
            Clock(),
        )
        begun = run.last_weights.is_file()
        planned = plan_resume(run) if begun else plan(config)
        if together and not together.is_first:
            train.assist(planned, together, run if begun else None)
            continue
        how = {"planned": planned, "listeners": [clock], "together": together}
        if begun:
            train.resume(run, **how)
        else:
            train.train(config, root, optimizer, **how)
        found.append({"ms": round(clock.best, 1)})
    return found


if __name__ == "__main__":
    common.start(main)
