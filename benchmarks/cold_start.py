"""How long from the start of a process to its first prediction, and how much memory does it take?

    python benchmarks/cold_start.py
    python benchmarks/cold_start.py --model FILE.onnx    # else the pretrained facades
    python benchmarks/cold_start.py --quick

Whole processes in turn: a bare script of onnxruntime, numpy and Pillow against one with
``Predictor``, on the same file and photograph; then ``tfproj --help``, and the time until
``tfproj train`` says its first word, after which it is ended.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import common
import subjects

from tfproj import Predictor
from tfproj.core.hardware import available_cpus
from tfproj.errors import TfprojError
from tfproj.pretrained import names, pretrained_file

BARE = """
import sys
import numpy as np
import onnxruntime
from PIL import Image
model, photo, height, width, mode, threads = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = int(threads)
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
picture = Image.open(photo).convert(mode).resize((int(width), int(height)))
pixels = np.asarray(picture).reshape(1, int(height), int(width), -1)
session.run(None, {"image": pixels})
"""
OURS = """
import sys
from tfproj import Predictor
Predictor(sys.argv[1]).predict(sys.argv[2])
"""
# A small process to start from: a new one counts the memory of its parent as its own until it
# has loaded its program, and the peak would be that of this script.
LAUNCH = """
import os, sys, time
begin = time.perf_counter()
null = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=null)
_, status, usage = os.wait4(child, 0)
elapsed = time.perf_counter() - begin
print(elapsed, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""
RATIO_GOAL = ("at most", 1.15)
HELP_GOAL = ("at most", 0.3)  # seconds
FIRST_LINE_GOAL = ("at most", 1.0)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--model", type=Path, help="a file of tfproj export")
    options = parser.parse_args()
    rounds = options.rounds or (2 if options.quick else 20)
    with tempfile.TemporaryDirectory() as folder:
        rows = predictions(options.model or default_model(), Path(folder), rounds)
        rows += commands(folder, rounds)
    common.finish(options, rows)


def default_model() -> Path:
    name = next((name for name in ("facades-best", "facades", *names()) if name in names()), None)
    if name is None:
        raise TfprojError("no pretrained model; name a file with --model")
    return pretrained_file(name)


def predictions(model: Path, folder: Path, rounds: int) -> list[common.Row]:
    """Seconds and peak memory of a process that predicts one photograph."""
    spec = Predictor(model).spec
    (photo,) = subjects.jpeg_files(folder, 1, 512)
    details = map(str, (*spec.size, {1: "L", 3: "RGB"}[spec.channels], available_cpus()))
    python = [sys.executable, "-c"]
    contenders = {
        "bare onnxruntime": [*python, BARE, str(model), str(photo), *details],
        "Predictor": [*python, OURS, str(model), str(photo)],
    }
    found, _ = common.interleave(
        {name: partial(process, command, folder) for name, command in contenders.items()}, rounds
    )
    rows = []
    for case, unit, place in (("seconds", "s", 0), ("peak memory", "MB", 1)):
        values = {name: [answer[place] for answer in found[name]] for name in found}
        bare, own = values["bare onnxruntime"], values["Predictor"]
        case = f"first prediction, {case} ({model.stem})"
        rows += [
            common.row(case, "bare onnxruntime", unit, bare),
            common.row(case, "Predictor", unit, own, bare, "bare", RATIO_GOAL),
        ]
    return rows


def process(command: Sequence[str], folder: str | Path) -> tuple[float, float]:
    """(seconds, peak resident memory in MB of 2**20 bytes) of a whole process."""
    launched = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCH, *command], cwd=folder, stdout=subprocess.PIPE
    )
    elapsed, peak, code = launched.stdout.split()
    if int(code):
        raise TfprojError(f"a process ended with code {int(code)}: {' '.join(command[1:3])}")
    # Kilobytes, but bytes on macOS.
    return float(elapsed), int(peak) / (2**20 if sys.platform == "darwin" else 2**10)


def commands(folder: str, rounds: int) -> list[common.Row]:
    tfproj = [sys.executable, "-m", "tfproj"]
    contenders = {
        "python -c pass": lambda: process([sys.executable, "-c", "pass"], folder)[0],
        "tfproj --help": lambda: process([*tfproj, "--help"], folder)[0],
        "tfproj train classify, first line": lambda: first_line(
            [*tfproj, "train", "classify"], folder
        ),
    }
    goals = {"tfproj --help": HELP_GOAL, "tfproj train classify, first line": FIRST_LINE_GOAL}
    found, _ = common.interleave(contenders, rounds)
    return [
        common.row("command line", name, "s", found[name], goal=goals.get(name)) for name in found
    ]


def first_line(command: Sequence[str], folder: str) -> float:
    """Seconds until a process says something on stderr; it is then killed."""
    begin = time.perf_counter()
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE) as started:
        line = started.stderr.readline()
        elapsed = time.perf_counter() - begin
        started.kill()
    if not line or line.startswith(b"error"):
        raise TfprojError(f"{' '.join(command[1:])}: {line.decode().strip() or 'said nothing'}")
    return elapsed


if __name__ == "__main__":
    common.start(main)
