"""What brings a short training of Fashion-MNIST further, or makes its epochs cheaper?

    python benchmarks/faster_epochs.py                     # all changes, one seed
    python benchmarks/faster_epochs.py "smaller images first" --seeds 3 --epochs 3
    python benchmarks/faster_epochs.py --quick

The base is what ``benchmarks/time_to_accuracy.py`` trains, in fewer epochs; each row changes one
thing, most of them known from the races to 94 % on CIFAR-10 (Jordan, "94% on CIFAR-10 in 3.29
Seconds on a Single GPU", 2024). All are measured on the same 10,000 training images, which are held
out: plain, averaged with the mirror image, and with the images one pixel to each side as well.
The cost is CPU seconds, which other work on the machine hardly changes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import common
import numpy as np

BASE = "base"
SMALL = (20, 20)  # of "smaller images first"
RESNET = {"batch_norm": True}
# Values of the configuration; those that are no part of one are functions below.
CHANGES: dict[str, dict[str, Any]] = {
    BASE: {},
    "smaller images first": {},
    "whitened first layer": {},
    "residual blocks begin as identity": {},
    "widths 24, 48, 96": {"model_options": {**RESNET, "widths": [24, 48, 96]}},
    "widths 32, 48, 96": {"model_options": {**RESNET, "widths": [32, 48, 96]}},
    "batch 64": {"batch_size": 64},
    "batch 256": {"batch_size": 256},
    "twice the rate": {"learning_rate": 1e-2},
    "label smoothing 0.1": {"label_smoothing": 0.1},
    "no label smoothing": {"label_smoothing": 0.0},
    "moving average 0.99": {"ema": 0.99},
    "shifts as well": {"augment": "shift_flip"},
}
HELD_OUT = 10_000


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("changes", nargs="*", help="; ".join(CHANGES))
    parser.add_argument("--epochs", type=common.positive, default=4)
    parser.add_argument("--seeds", type=common.positive, default=1)
    options = parser.parse_args()
    if options.worker:
        common.serve(lambda: partial(train, *options.worker))
        return
    if unknown := set(options.changes) - set(CHANGES):
        parser.error(f"unknown: {', '.join(unknown)}; known: {'; '.join(CHANGES)}")
    names = list(dict.fromkeys([BASE, *(options.changes or CHANGES)]))
    names = names[:3] if options.quick and not options.changes else names
    found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    for seed in range(options.seeds):
        for name in names:
            common.progress(f"{name}, seed {seed}")
            worker = {"it": (name, options.epochs, seed, options.quick)}
            with common.workers(worker) as workers:
                found[name].append(workers["it"].ask())
    case = f"{options.epochs} epochs, {options.seeds} seed(s)"
    rows = [_row(case, name, found[name], found[BASE]) for name in names]
    common.finish(options, rows, epochs=options.epochs)


def _row(case: str, name: str, runs: list[dict], base: list[dict]) -> common.Row:
    def mean(key: str) -> str:
        return f"{100 * statistics.mean(run[key] for run in runs):.2f} %"

    cost = statistics.mean(a["cpu_s"] / b["cpu_s"] for a, b in zip(runs, base, strict=True))
    more = {"mirrored": mean("mirrored"), "and shifted": mean("shifted"), "CPU": f"{cost:.2f}"}
    return common.row(case, name, "%", [100 * run["plain"] for run in runs], **more)


# --- the workers' side ---------------------------------------------------------------------------


def train(change: str, epochs: int, seed: int, quick: bool) -> dict[str, float]:
    """Accuracy three ways, 0..1, and CPU seconds of the training."""
    from tfproj import backend

    backend.setup()
    import keras

    from tfproj.training.cache import make_cache

    short = {"limit": 512, "data": "digits"} if quick else {"val_fraction": 1 / 6}
    values = {"epochs": epochs, "warmup_epochs": 0.3, "seed": seed, **short, **CHANGES[change]}
    model, planned, steps = _built(values)
    train_images, held_out = make_cache(planned, "train"), make_cache(planned, "val")
    begin = time.process_time()
    done = 0
    if change == "smaller images first":
        done = epochs // 2
        small, smaller, _ = _built(values | {"image_size": SMALL})
        _fit(small, smaller, make_cache(smaller, "train"), range(done), steps)
        _continue(small, model)
    elif change == "whitened first layer":
        images, _ = train_images.batch(np.arange(min(2000, len(train_images))))
        _whiten(model, images)
    elif change == "residual blocks begin as identity":
        for layer in model.layers:
            if layer.name.endswith("conv2_bn"):
                layer.gamma.assign(keras.ops.zeros_like(layer.gamma))
    _fit(model, planned, train_images, range(done, epochs), steps)
    cpu = time.process_time() - begin
    images, labels = held_out.batch(np.arange(min(HELD_OUT, len(held_out))))
    return {"cpu_s": cpu, **_accuracies(lambda x: model.predict(x, 512, verbose=0), images, labels)}


def _built(values: dict[str, Any]):
    """(compiled model, its plan, steps of an epoch)."""
    import keras

    from tfproj import backend
    from tfproj.experiment.plan import plan
    from tfproj.experiment.presets import make_config
    from tfproj.training.compiling import compiled_model

    planned = plan(make_config("classify", **values))
    keras.utils.set_random_seed(planned.config.seed)
    model, steps = compiled_model(planned, backend.resolve_precision("auto"))
    return model, planned, steps


def _fit(model, planned, cache, epochs: range, steps: int) -> None:
    from tfproj.training import pipeline

    config = planned.config
    if not len(epochs):
        return
    batches = pipeline.train_batches(
        cache, config.batch_size, epochs, config.seed, config.augment, planned.spec.mirrored
    )
    model.fit(batches, epochs=len(epochs), steps_per_epoch=steps, shuffle=False, verbose=0)


def _continue(done, model) -> None:
    """The weights of a model of another image size, and its optimizer's state."""
    model.optimizer.build(model.trainable_variables)
    for pair in ((done.variables, model.variables),
                 (done.optimizer.variables, model.optimizer.variables)):  # fmt: skip
        for source, target in zip(*pair, strict=True):
            target.assign(source)


def _whiten(model, images: np.ndarray) -> None:
    """Filters of the first layer: the patches' principal axes, both ways, each of variance one.

    They stay as they are, as in Jordan's recipe; filters beyond these keep their random weights.
    """
    layer = model.get_layer("stem")
    kernel = np.array(layer.get_weights()[0])
    height, width = kernel.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(images / 255, (height, width), (1, 2))
    patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, kernel[..., 0].size)[::17]
    values, axes = np.linalg.eigh(np.cov(patches.T))
    filters = (axes / np.sqrt(values + 5e-4)).reshape(*kernel.shape[:3], -1)
    both = np.concatenate([filters, -filters], -1)[..., : kernel.shape[-1]]
    kernel[..., : both.shape[-1]] = both
    layer.kernel.assign(kernel)
    layer.trainable = False


def _accuracies(
    score: Callable[[np.ndarray], np.ndarray], images: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), "reflect")
    height, width = images.shape[1:3]

    def both_ways(pixels: np.ndarray) -> np.ndarray:
        return score(pixels) + score(pixels[:, :, ::-1])

    plain, mirrored = score(images), both_ways(images)
    # The whole counts twice as much as each of the shifted images, as in Jordan's recipe.
    shifted = 2 * mirrored
    for down, right in ((0, 0), (2, 2)):
        shifted = shifted + both_ways(padded[:, down : down + height, right : right + width])
    found = {"plain": plain, "mirrored": mirrored, "shifted": shifted}
    return {name: float(np.mean(s.argmax(1) == labels)) for name, s in found.items()}


if __name__ == "__main__":
    common.start(main)
