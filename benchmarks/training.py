"""How many images a second does a training take, beside plain Keras and PyTorch?

    python benchmarks/training.py              # both nets
    python benchmarks/training.py unet --rounds 6
    python benchmarks/training.py --quick

Whole epochs of the same nets with Adam on the same images in memory: the UNet of 465,857 parameters
at 256 x 256, batch 8, and the CNN at 28 x 28, batch 128. ``tfproj`` is what ``tfproj train`` does
(its pipeline, its callbacks, a checkpoint after every epoch) without validation. "Keras fit" is
what a newcomer writes: default settings, float32. PyTorch takes channels_last batches from tensors
in memory, without a DataLoader.

Every process is asked for an epoch in turn, in a first round that does not count as well; Keras and
tfproj train another before each, since the first of a ``fit`` builds its pipeline.
"of peak" is the share of the fastest matrix product measured in the same rounds; a training step
counts as three forward passes. The bare step is the compiled step on one batch, over and over.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np
import subjects

from tfproj.core.hardware import available_cpus, cpu_has_bfloat16

BATCH = {"unet": 8, "cnn": 128}
AUGMENT = {"unet": "photo_mix", "cnn": "flip"}  # of the presets "default"
COUNT = {"unet": 256, "cnn": 25_600}  # images of an epoch; the facades have 813
QUICK_COUNT = {"unet": 16, "cnn": 256}
QUICK_SIZE = {"unet": (32, 32), "cnn": (28, 28)}
# process -> (contender -> what it is asked)
CONTENDERS: dict[str, dict[str, tuple[Any, ...]]] = {
    "tfproj float32": {
        "tfproj, float32": ("train", "none"),
        "tfproj, float32, bare step": ("bare",),
        "matrix product, float32": ("peak", "float32"),
    },
    "tfproj mixed_bfloat16": {
        "tfproj, bf16": ("train", "none"),
        "tfproj, bf16, augmented": ("train", "augment"),
        "tfproj, bf16, bare step": ("bare",),
        "matrix product, bf16": ("peak", "bfloat16"),
    },
    "keras": {"Keras fit, arrays": ("arrays",), "Keras fit, tf.data": ("tf.data",)},
    "torch": {
        "PyTorch eager, float32": ("train", "eager", "float32"),
        "PyTorch compiled, float32": ("train", "compiled", "float32"),
        "PyTorch eager, bf16": ("train", "eager", "bfloat16"),
        "PyTorch compiled, bf16": ("train", "compiled", "bfloat16"),
        "PyTorch matrix product, float32": ("peak", "float32"),
        "PyTorch matrix product, bf16": ("peak", "bfloat16"),
    },
}
# (ours, theirs, how many times as fast at least), by net
GOALS = {
    "unet": (
        ("tfproj, bf16", "PyTorch eager, bf16", 1.1),
        ("tfproj, bf16", "PyTorch compiled, bf16", 1.1),
        ("tfproj, bf16", "Keras fit, arrays", 1.8),
    ),
    "cnn": (
        ("tfproj, bf16", "PyTorch eager, bf16", 1.15),
        ("tfproj, bf16", "PyTorch compiled, bf16", 1.15),
        ("tfproj, bf16", "Keras fit, arrays", 1.8),
    ),
}
NO_BFLOAT16 = "this CPU does not compute in bfloat16"
OVERHEAD_GOAL = ("at most", 3.0)  # percent
OVERHEADS = (
    ("tfproj, float32", "tfproj, float32, bare step"),
    ("tfproj, bf16", "tfproj, bf16, bare step"),
    ("tfproj, bf16, augmented", "tfproj, bf16, bare step"),
)


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("net", nargs="?", choices=tuple(BATCH), help="default: both; quick: cnn")
    options = parser.parse_args()
    if options.worker:
        process, facts = options.worker
        kind, *rest = process.split()
        make = {"tfproj": _tfproj, "keras": _keras, "torch": _torch}[kind]
        common.serve(partial(make, facts, *rest))
        return
    rows: list[common.Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for net in [options.net] if options.net else ["cnn"] if options.quick else BATCH:
            facts = {"net": net, "batch": BATCH[net], "folder": folder, "quick": options.quick,
                     "count": (QUICK_COUNT if options.quick else COUNT)[net],
                     "size": (QUICK_SIZE[net] if options.quick else None)}  # fmt: skip
            rows += measure(facts, options.rounds or (1 if options.quick else 3))
    common.finish(options, rows, threads=available_cpus())


def measure(facts: dict[str, Any], rounds: int) -> list[common.Row]:
    """All rows of one net."""
    net, count = facts["net"], facts["count"]
    common.progress(f"{net}: {count} images an epoch")
    with common.workers({name: (name, facts) for name in CONTENDERS}) as workers:
        contenders = {
            contender: partial(workers[process].ask, *request)
            for process, requests in CONTENDERS.items()
            for contender, request in requests.items()
        }
        found, notes = common.interleave(contenders, rounds)
        flops = 3 * workers["tfproj float32"].ask("flops")
    peaks = {name: values for name, values in found.items() if "matrix product" in name}
    rates = {
        name: [count / seconds for seconds in values]
        for name, values in found.items()
        if name not in peaks
    }
    case = f"{net}, batch {facts['batch']}"
    rows = []
    for name in contenders:
        if name in notes:
            rows.append(common.note(case, name, notes[name]))
        elif name in rates:
            share = _share(rates[name], flops, peaks, "bf16" if "bf16" in name else "float32")
            rows.append(common.row(
                case, name, "img/s", rates[name], rates.get("Keras fit, arrays"),
                "Keras fit, arrays", **{"of peak": share},
            ))  # fmt: skip
    for ours, theirs, goal in GOALS[net]:
        if ours in rates and theirs in rates:
            values = rates[ours], rates[theirs], theirs, ("at least", goal)
            rows.append(common.row(f"{case}, against", f"{ours} to {theirs}", "img/s", *values))
    for ours, bare in OVERHEADS:
        if ours in rates and bare in rates:
            lost = [100 * (1 - a / b) for a, b in zip(rates[ours], rates[bare], strict=True)]
            where = f"{case}, own code over the bare step"
            rows.append(common.row(where, ours, "% of the time", lost, goal=OVERHEAD_GOAL))
    rows += [common.row(f"{net}: roofline", name, "GFLOP/s", peaks[name]) for name in peaks]
    return rows


def _share(rates: list[float], flops: float, peaks: dict, kind: str) -> str:
    """Share of the faster of the matrix products of this precision."""
    best = max((np.median(v) for name, v in peaks.items() if name.endswith(kind)), default=None)
    return f"{np.median(rates) * flops / best / 1e9:.0%}" if best else ""


# --- the workers' side ---------------------------------------------------------------------------


def _tfproj(facts: dict[str, Any], precision: str) -> Callable[..., Any]:
    """``train`` (seconds of an epoch), ``bare`` (the same steps on one batch), ``peak``."""
    if precision == "mixed_bfloat16" and not cpu_has_bfloat16():
        raise ValueError(NO_BFLOAT16)
    from tfproj import backend

    backend.setup()
    import tensorflow as tf

    from tfproj.runs.run import Run
    from tfproj.training import callbacks, pipeline
    from tfproj.training.cache import make_cache
    from tfproj.training.compiling import compiled_model
    from tfproj.training.validation_weights import ValidationWeights

    net, batch = facts["net"], facts["batch"]
    planned = subjects.make_plan(net, facts["count"], facts["size"], batch_size=batch)
    model, steps = compiled_model(planned, precision)
    cache = make_cache(planned, "train")
    fixed = tuple(map(tf.constant, cache.batch(np.arange(batch))))
    model.train_step(fixed)  # eagerly, which makes the variables
    step = tf.function(lambda: model.train_step(fixed))
    run = Run(Path(tempfile.mkdtemp(dir=facts["folder"])))
    kept = ValidationWeights(model, ())

    def train(augment: str) -> float:
        """As ``tfproj.training.train`` calls it, but for validation and what is judged by it."""
        clock = common.epoch_clock()
        name = AUGMENT[net] if augment == "augment" else augment
        model.fit(
            pipeline.train_batches(cache, batch, range(2), 0, name),
            epochs=2,
            steps_per_epoch=steps,
            shuffle=False,
            callbacks=[
                callbacks.Reseed(0), callbacks.Validation(kept),
                callbacks.Checkpoints(run, replace(planned.config, keep="last"), [], kept),
                callbacks.Progress(2, 0), clock,
            ],
            verbose=0,
        )  # fmt: skip
        return clock.seconds()[1]

    def bare() -> float:
        step()
        return common.seconds(lambda: [step() for _ in range(steps)][-1]["loss"].numpy())

    def peak(kind: str) -> float:
        side = _side(facts)
        matrix = tf.cast(tf.random.normal((side, side)), kind)
        return _fastest(lambda: tf.matmul(matrix, matrix), side, facts["quick"])

    def answer(request: str, *arguments: Any) -> Any:
        if request == "flops":
            return subjects.forward_flops(model)
        return {"train": train, "bare": bare, "peak": peak}[request](*arguments)

    return answer


def _keras(facts: dict[str, Any]) -> Callable[..., Any]:
    """The course work's net in a few lines of Keras."""
    import keras
    import tensorflow as tf

    from tfproj.models.registry import build_model

    net, batch, count = facts["net"], facts["batch"], facts["count"]
    images, answers = (f(net, count, facts["size"]) for f in (subjects.pixels, subjects.targets))

    def fit(way: str) -> float:
        if way not in models:
            model = models[way] = build_model(subjects.make_plan(net, 1, facts["size"]).spec)
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
            model.compile("adam", loss, metrics=["accuracy"])
        clock = common.epoch_clock()
        common_settings = {"epochs": 2, "callbacks": [clock], "verbose": 0}
        if way == "arrays":
            models[way].fit(images, answers, batch_size=batch, **common_settings)
        else:
            dataset = tf.data.Dataset.from_tensor_slices((images, answers))
            dataset = dataset.shuffle(1000).batch(batch).prefetch(tf.data.AUTOTUNE)
            models[way].fit(dataset, **common_settings)
        return clock.seconds()[1]

    models: dict[str, Any] = {}
    return fit


def _torch(facts: dict[str, Any]) -> Callable[..., Any]:
    import torch
    import torch_nets
    from torch.nn import functional as F

    net, batch, count = facts["net"], facts["batch"], facts["count"]
    images = torch.from_numpy(subjects.pixels(net, count, facts["size"]))
    answers = torch.from_numpy(subjects.targets(net, count, facts["size"])).long()
    made: dict[tuple[str, str], Any] = {}

    def train(way: str, kind: str) -> float:
        if way == "compiled" and facts["quick"]:
            raise ValueError("left out of --quick: compiling takes half a minute")
        if kind == "bfloat16" and not cpu_has_bfloat16():
            raise ValueError(NO_BFLOAT16)
        if (way, kind) not in made:
            model = torch_nets.build(net, available_cpus())
            optimizer = torch.optim.Adam(model.parameters(), 1e-3)
            made[way, kind] = (torch.compile(model) if way == "compiled" else model), optimizer
            epoch(*made[way, kind], kind)
        return common.seconds(lambda: epoch(*made[way, kind], kind))

    def epoch(model, optimizer, kind: str) -> None:
        for chosen in torch.randperm(count).split(batch):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bfloat16"):
                scores = model(images[chosen])
            loss = F.cross_entropy(scores.float().flatten(0, -2), answers[chosen].flatten())
            loss.backward()
            optimizer.step()

    def peak(kind: str) -> float:
        side = _side(facts)
        matrix = torch.randn(side, side).to(getattr(torch, kind))
        return _fastest(lambda: matrix @ matrix, side, facts["quick"])

    return lambda request, *arguments: {"train": train, "peak": peak}[request](*arguments)


def _side(facts: dict[str, Any]) -> int:
    return 256 if facts["quick"] else 3072


def _fastest(product: Callable[[], Any], side: int, quick: bool) -> float:
    """GFLOP/s of the fastest of some products of square matrices."""
    product()
    return 2 * side**3 / min(common.durations(product, 0.05 if quick else 3.0, 3)) / 1e9


if __name__ == "__main__":
    common.start(main)
