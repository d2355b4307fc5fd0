"""Which batch norm statistics do averaged weights need?

    python benchmarks/averaging.py              # both tasks, three seeds each
    python benchmarks/averaging.py segment --seeds 1
    python benchmarks/averaging.py --quick

Trains with ``--ema 0.999`` as ``tfproj train`` does, at the size of ``ablation.py``; measures the
validation split half way, at three quarters and at the end: with the latest weights; with the
average and the norms' statistics of the latest; with the average and statistics of its own, from
plain training images or from images augmented as in training.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
from contextlib import nullcontext
from typing import Any

import ablation
import common

from tfproj import backend
from tfproj.experiment.presets import make_config
from tfproj.runs.config import TrainConfig

AUGMENT = {"classify": "shift_flip_erase", "segment": "photo_mix"}
METRIC = {"classify": "accuracy", "segment": "mean_average_precision_softmax"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", nargs="?", choices=tuple(AUGMENT), help="default: both")
    parser.add_argument("--seeds", type=common.positive, default=3, help="of a task (default 3)")
    parser.add_argument("--data-dir", help="where the data set lies, if not in a usual place")
    parser.add_argument("--quick", action="store_true", help="one training at toy size")
    common.add_json(parser)
    options = parser.parse_args()
    backend.setup()
    rows: list[dict[str, Any]] = []
    for task in [options.task] if options.task else AUGMENT:
        size = ablation.QUICK[task] | {"epochs": 4} if options.quick else ablation.BASES[task]
        for seed in range(1 if options.quick else options.seeds):
            values = {**size, "augment": AUGMENT[task], "ema": 0.999, "seed": seed}
            values["precision"] = "float32"  # the question is not one of rounding
            for found in measure(make_config(task, data_dir=options.data_dir, **values)):
                rows.append({"task": task, "seed": seed, **found})
                print(rows[-1], file=sys.stderr)
    print(markdown(rows))
    if options.json:
        common.write(options.json, {"quick": options.quick, "rows": rows})


def measure(config: TrainConfig) -> list[dict[str, Any]]:
    """One training; for each epoch that counts, the metric by the way of measuring."""
    import keras

    from tfproj.evaluation import evaluate
    from tfproj.experiment.plan import plan
    from tfproj.training import callbacks, pipeline
    from tfproj.training.cache import make_cache
    from tfproj.training.compiling import compiled_model
    from tfproj.training.ema import WeightAverage

    keras.utils.set_random_seed(config.seed)
    planned = plan(config)
    model, steps = compiled_model(planned, backend.resolve_precision(config.precision))
    cache = make_cache(planned, "train")
    plain, augmented = (
        pipeline.first_batches(cache, config.batch_size, config.seed, name)
        for name in ("none", config.augment)
    )
    ways = {
        "latest weights": nullcontext,
        "average, statistics of the latest": WeightAverage(model, ()).swapped_in,
        "average, plain images": WeightAverage(model, plain).swapped_in,
        "average, augmented images": WeightAverage(model, augmented).swapped_in,
    }
    # All of the validation split, of which a limit would leave a part.
    drawn = config.data.startswith("synth")
    whole = planned if drawn else plan(dataclasses.replace(config, limit=None))
    task = evaluate.METRICS[config.task]
    rows = []

    class Measure(keras.callbacks.Callback):
        """Between the epochs of one ``fit``: at its end Keras leaves the average in the model."""

        def on_epoch_end(self, epoch, logs=None):
            if epoch + 1 not in {round(part * config.epochs) for part in (0.5, 0.75, 1)}:
                return
            found = {}
            for name, way in ways.items():
                with way():
                    found[name] = task(model, whole, "val", False)[0][METRIC[config.task]]
            rows.append({"epoch": epoch + 1, "epochs": config.epochs, "values": found})

    model.fit(
        pipeline.train_batches(
            cache, config.batch_size, range(config.epochs), config.seed, config.augment
        ),
        epochs=config.epochs,
        steps_per_epoch=steps,
        shuffle=False,
        callbacks=[callbacks.Reseed(config.seed), Measure()],
        verbose=0,
    )
    return rows


def markdown(rows: list[dict[str, Any]]) -> str:
    """Mean and standard deviation over the seeds, in points."""
    ways = list(rows[0]["values"])
    lines = ["| task | epoch | " + " | ".join(ways) + " |", "|---|---" + "|---" * len(ways) + "|"]
    for task, epoch, epochs in dict.fromkeys((r["task"], r["epoch"], r["epochs"]) for r in rows):
        cells = [f"{task}, {METRIC[task].replace('_', ' ')}", f"{epoch} of {epochs}"]
        for way in ways:
            values = [
                100 * row["values"][way]
                for row in rows
                if row["task"] == task and row["epoch"] == epoch
            ]
            spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.2f}{spread}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    common.start(main)
