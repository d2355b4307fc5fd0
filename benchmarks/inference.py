"""How fast is a prediction, beside the runtimes that one would otherwise use?

    python benchmarks/inference.py                      # both nets with random weights
    python benchmarks/inference.py unet --rounds 20
    python benchmarks/inference.py --model FILE.onnx    # a file of yours: ONNX runtimes only
    python benchmarks/inference.py --quick

onnxruntime-openvino excludes onnxruntime; ``make bench-setup`` puts it into a folder of its own,
and with ``PYTHONPATH=.venv/openvino-provider`` before the command it is the one that is measured.

Three questions: images a second at batch 1 and 8, and the latency at batch 1, all with as many
threads as there are CPUs; JPEG files through ``Predictor.stream`` beside what decoding alone and
the model alone allow; microseconds of our own in a call with one small image.

Every contender gets uint8 images (N, H, W, C) and gives probabilities; "difference" is how far
these are from a raw onnxruntime session's on the float32 file.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np
import runtimes
import subjects

from tfproj import Predictor
from tfproj.core.hardware import available_cpus
from tfproj.errors import InputError
from tfproj.inference.model_file import read_model

RAW = "raw onnxruntime, float32"
# What shares a process -> its contenders. Those that differ by little do not: the threads of a raw
# session spin on after a run, in the way of whoever is next.
CONTENDERS: dict[str, tuple[str, ...]] = {
    "onnxruntime": (RAW, "raw onnxruntime, int8"),
    "predictor": ("Predictor, float32", "Predictor, int8", "Predictor, OpenVINO provider, int8"),
    "openvino": ("OpenVINO, f32", "OpenVINO, bf16", "OpenVINO, int8 file"),
    "litert": ("LiteRT, float32",),
    "keras": ("Keras predict", "tf.function"),
    "torch": (
        "PyTorch eager, float32", "PyTorch compiled, float32", "PyTorch eager, bf16",
        "PyTorch compiled, bf16",
    ),
}  # fmt: skip
OF_FILES = ("onnxruntime", "predictor", "openvino")  # those that need the file and nothing else
GOALS: dict[str, tuple[str, common.Goal]] = {
    "Predictor, OpenVINO provider, int8": ("Predictor, float32", ("at least", 3.5)),
    "Predictor, float32": (RAW, ("at least", 0.98)),
    "Predictor, int8": ("raw onnxruntime, int8", ("at least", 0.98)),
}
INT8_GOAL = ("at least", 2.4)
JPEG_GOAL = ("at least", 0.9)
OVERHEAD_GOAL = ("at most", 60.0)

QUICK_SIZE = {"unet": (32, 32), "cnn": (28, 28)}


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument(
        "net", nargs="?", choices=tuple(subjects.NETS), help="default: both; quick: cnn"
    )
    parser.add_argument("--model", type=Path, help="a float32 file of tfproj export")
    parser.add_argument("--int8", type=Path, help="its int8 file")
    options = parser.parse_args()
    if options.worker:
        common.serve(partial(answers, *options.worker))
        return
    if options.int8 and not options.model:
        parser.error("--int8 needs --model")
    rows: list[common.Row] = []
    with tempfile.TemporaryDirectory() as folder:
        if options.model:
            chosen = [file_of_user(options.model, options.int8)]
        else:
            nets = [options.net] if options.net else ["cnn"] if options.quick else subjects.NETS
            chosen = [{"net": net} for net in nets]
        for facts in chosen:
            rows += measure(facts, Path(folder), options)
    common.finish(options, rows, threads=available_cpus())


def file_of_user(model: Path, int8: Path | None) -> dict[str, Any]:
    for path in filter(None, (model, int8)):
        read_model(path, str(path), 1 << 30)  # one line where it is no model of ours
    spec = Predictor(model).spec
    if spec.dynamic_size:
        raise InputError(f"{model}: --model needs a file of one input size")
    net = "unet" if spec.task == "segment" else "cnn"
    return {"net": net, "float32": str(model), "int8": str(int8) if int8 else None}


def measure(facts: dict[str, Any], folder: Path, options) -> list[common.Row]:
    """All rows of one net."""
    facts = {**facts, "folder": str(folder), "quick": options.quick}
    of_user = "float32" in facts
    if options.quick and not of_user:
        facts["size"] = QUICK_SIZE[facts["net"]]
    frameworks = [name for name in CONTENDERS if name in OF_FILES or not of_user]
    rounds = options.rounds or (1 if options.quick else 10)
    with common.workers({name: (name, facts) for name in frameworks}) as workers:
        if not of_user:
            common.progress(f"{facts['net']}: making the files")
            try:
                workers["keras"].ask("prepare")
            except common.Unavailable as error:
                raise InputError(f"the models can't be made: {error}") from None
        rows = throughput(workers, facts, rounds, options.quick)
        rows += jpegs(workers["predictor"], facts, rounds)
        if facts["net"] == "cnn":
            rows.append(overhead(workers["predictor"], rounds))
    return rows


def throughput(workers: Mapping[str, Any], facts: dict, rounds: int, quick: bool):
    """Images a second at each batch size, and the percentiles at batch 1."""
    rows: list[common.Row] = []
    enough = 0.01 if quick else 1.0
    for batch in (1, 8):
        case = f"{facts['net']}, batch {batch}"
        contenders = {
            name: partial(workers[framework].ask, "time", name, batch, enough)
            for framework in workers
            for name in CONTENDERS[framework]
        }
        common.progress(case)
        found, notes = common.interleave(contenders, rounds)
        rates = {name: common.per_second(calls, batch) for name, calls in found.items()}
        for name in contenders:
            if name in notes:
                rows.append(common.note(case, name, notes[name]))
                continue
            to, goal = GOALS.get(name, (RAW, None))
            if facts["net"] == "cnn" and to != "Predictor, float32":
                goal = None  # what it costs in a call of microseconds is a question of its own
            more: dict[str, Any] = {}
            if batch == 1:
                calls = 1000 * np.concatenate(found[name])
                more = {"p50 ms": float(np.percentile(calls, 50)),
                        "p99 ms": float(np.percentile(calls, 99))}  # fmt: skip
            more["difference"] = workers[_framework(name)].ask("difference", name)
            rows.append(
                common.row(case, name, "img/s", rates[name], rates.get(to), to, goal, **more)
            )
        if "Predictor, int8" in rates:
            rows.append(common.row(
                case, "Predictor, int8 to float32", "img/s", rates["Predictor, int8"],
                rates["Predictor, float32"], "Predictor, float32", INT8_GOAL,
            ))  # fmt: skip
    return rows


def _framework(contender: str) -> str:
    return next(name for name, all_ in CONTENDERS.items() if contender in all_)


def jpegs(worker: common.Worker, facts: dict, rounds: int) -> list[common.Row]:
    """Files through the predictor, beside decoding alone and the model alone.

    Decoding and the model use all CPUs each, so no overlap can beat the sum of their times; that
    is the reference. Where the CPUs have threads to spare it can be beaten.
    """
    case = f"{facts['net']}, JPEG files 512 x 512, batch 8"
    common.progress(case)
    parts = {"decode alone": "decode", "raw onnxruntime alone": "model",
             "Predictor.stream": "stream"}  # fmt: skip
    found, _ = common.interleave(
        {name: partial(worker.ask, "jpeg", part) for name, part in parts.items()}, rounds
    )
    pairs = zip(found["decode alone"], found["raw onnxruntime alone"], strict=True)
    allowed = [1 / (1 / decode + 1 / model) for decode, model in pairs]
    rows = [common.row(case, name, "img/s", found[name]) for name in list(parts)[:2]]
    rows.append(common.row(case, "both in turn", "img/s", allowed))
    return [*rows, common.row(
        case, "Predictor.stream", "img/s", found["Predictor.stream"], allowed, "both in turn",
        JPEG_GOAL,
    )]  # fmt: skip


def overhead(worker: common.Worker, rounds: int) -> common.Row:
    common.progress("cnn: microseconds of our own")
    values = [worker.ask("overhead") for _ in range(rounds + 1)][1:]  # the first warms up
    return common.row(
        "cnn, one array", "Predictor.predict minus session.run", "µs", values, goal=OVERHEAD_GOAL
    )


# --- the worker's side ---------------------------------------------------------------------------


def answers(framework: str, facts: dict[str, Any]) -> Callable[..., Any]:
    """Requests to one framework: ``prepare``, ``time``, ``difference``, ``jpeg``, ``overhead``."""
    folder, net, size = Path(facts["folder"]), facts["net"], facts.get("size")
    files = {
        "float32": facts.get("float32") or str(folder / f"{net}.onnx"),
        "int8": facts["int8"] if "int8" in facts else str(folder / f"{net}-int8.onnx"),
        "tflite": str(folder / f"{net}.tflite"),
    }
    made: dict[str, runtimes.Predict] = {}

    def contender(name: str) -> runtimes.Predict:
        if name not in made:
            made[name] = runtimes.MAKERS[framework](name, net, size, files)
        return made[name]

    def images(count: int) -> np.ndarray:
        spec = Predictor(files["float32"], threads=1).spec
        return subjects.pixels(net, count, spec.size, spec.channels)

    def answer(request: str, *arguments: Any) -> Any:
        if request == "prepare":
            return runtimes.prepare(net, size, files)
        if request == "time":
            name, batch, enough = arguments
            predict, batches = contender(name), images(batch)
            predict(batches)  # compiles for a new shape
            return common.durations(lambda: predict(batches), enough, 3)
        if request == "difference":
            few = images(2)
            true = runtimes.raw(files["float32"])(few)
            return float(np.abs(contender(arguments[0])(few) - true).max())
        if request == "jpeg":
            return _jpeg(arguments[0], files["float32"], folder, 8 if facts["quick"] else 128)
        return _overhead(files["float32"], 50 if facts["quick"] else 2000)

    return answer


def _jpeg(part: str, path: str, folder: Path, count: int) -> float:
    """Images a second through one part of the way from files to results."""
    from concurrent.futures import ThreadPoolExecutor

    predictor = Predictor(path)
    photos = folder / "photos"
    if not photos.exists():
        os.makedirs(photos)
        subjects.jpeg_files(photos, count, 512)
    files = sorted(photos.iterdir())
    if part == "stream":
        return count / common.seconds(lambda: sum(1 for _ in predictor.stream(files)))
    if part == "decode":
        with ThreadPoolExecutor(available_cpus()) as pool:
            return count / common.seconds(lambda: list(pool.map(predictor.load, files)))
    predict, batch = runtimes.raw(path), np.stack([predictor.load(file)[0] for file in files[:8]])
    predict(batch)
    return count / common.seconds(lambda: [predict(batch) for _ in range(count // 8)])


def _overhead(path: str, calls: int) -> float:
    """Median microseconds of a call of ours minus those of the session, called in turn."""
    predictor, raw = Predictor(path), runtimes.raw(path)
    image = subjects.pixels("cnn", 1, predictor.spec.size, predictor.spec.channels)
    own, bare = [], []
    for _ in range(calls):
        bare.append(common.seconds(lambda: raw(image)))
        own.append(common.seconds(lambda: predictor.predict(image[0])))
    return 1e6 * (statistics.median(own) - statistics.median(bare))


if __name__ == "__main__":
    common.start(main)
