"""Does tearing down a tf.data iterator wait for the autotune thread? Stock TensorFlow and Keras.

    python benchmarks/tfdata_stall.py
    python benchmarks/tfdata_stall.py --quick

``Model.fit`` makes a new iterator of a finite dataset for every epoch and destroys the last one.
Autotune runs in a thread that sleeps 10, 20, 40 ... ms. Now and then the destruction waits for the
end of that sleep, which comes 1.27, 2.55, 5.11 or 10.23 s after the iterator was made, with all
CPUs idle. Most epochs are not hit, so it looks like a race.

The steps here sleep in the place of arithmetic, so that every epoch should take the same time. An
epoch is called stalled where it takes ``SLACK`` seconds more than the median. The package avoids
it by ``autotune.enabled = False`` and by one iterator for all epochs
(``tfproj/training/pipeline.py``).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras  # noqa: E402 (after the log level)
import tensorflow as tf  # noqa: E402

STEPS = 20  # of an epoch
SLACK = 0.15  # seconds


class Sleep(keras.callbacks.Callback):
    """Steps of a fixed length, and the time at which every epoch began."""

    def __init__(self, seconds: float):
        super().__init__()
        self._seconds, self.marks = seconds, []

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(self._seconds / STEPS)

    def on_epoch_begin(self, epoch, logs=None):
        self.marks.append(time.perf_counter())

    def on_train_end(self, logs=None):
        self.marks.append(time.perf_counter())


def pipeline(autotune: bool) -> tf.data.Dataset:
    """``STEPS`` batches through parallel stages, as if read from files."""

    def read(index):
        batch = tf.fill((8, 4), tf.cast(index, tf.float32)), tf.zeros((8, 1))
        return tf.data.Dataset.from_tensors(batch)

    dataset = tf.data.Dataset.range(STEPS)
    dataset = dataset.interleave(read, cycle_length=2, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.map(lambda x, y: (2 * x, y), num_parallel_calls=tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.autotune.enabled = autotune
    return dataset.prefetch(tf.data.AUTOTUNE).with_options(options)


def epochs(way: str, count: int, seconds: float) -> list[float]:
    """Seconds of every epoch but the first, which traces the model."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    sleep = Sleep(seconds)
    dataset, steps = pipeline(way != "autotune off"), None
    if way == "one iterator":
        dataset, steps = dataset.repeat(), STEPS
    model.fit(dataset, epochs=count + 1, steps_per_epoch=steps, callbacks=[sleep], verbose=0)
    return [later - mark for mark, later in itertools.pairwise(sleep.marks)][1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few short epochs")
    parser.add_argument("--epochs", type=int, default=60, help="of each way (default 60)")
    parser.add_argument("--seconds", type=float, default=0.7, help="of an epoch (default 0.7)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args()
    if options.epochs < 1 or options.seconds <= 0:
        parser.error("--epochs and --seconds must be above 0")
    if options.json and (options.json.is_dir() or not options.json.absolute().parent.is_dir()):
        parser.error(f"{options.json}: no place for a file")
    count, seconds = (3, 0.1) if options.quick else (options.epochs, options.seconds)
    rows = []
    print("| epochs | median s | longest s | stalled |\n|---|---|---|---|")
    for way in ("autotune on", "autotune off", "one iterator"):
        found = epochs(way, count, seconds)
        median = statistics.median(found)
        stalled = [round(value, 2) for value in found if value > median + SLACK]
        rows.append({"way": way, "seconds": found, "median": median, "stalled": stalled})
        listed = f" ({', '.join(map(str, stalled[:8]))})" if stalled else ""
        print(f"| {way} | {median:.2f} | {max(found):.2f} | {len(stalled)} of {count}{listed} |")
    if not rows[0]["stalled"]:
        print(f"\nno stall in this run: {count} epochs of {seconds} s; try more, or longer ones")
    if options.json:
        names = ("tensorflow", "keras")
        facts = {
            "versions": {name: importlib.metadata.version(name) for name in names},
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "load": os.getloadavg(),
            "command": sys.argv,
        }
        report = {"quick": options.quick, "machine": facts, "rows": rows}
        options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
