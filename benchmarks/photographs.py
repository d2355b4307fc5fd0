"""How good is a classifier of a few photographs, and how long does it take?

    python benchmarks/photographs.py DIR           # 10, 20, 40, 80 training images a class
    python benchmarks/photographs.py DIR --pairs   # every two classes by themselves
    python benchmarks/photographs.py --quick

DIR has train/CLASS/ and test/CLASS/. Training images are drawn with a seed, the same for every
method; the accuracy is that on all test photographs. Seconds are those of a whole process: start,
training, and the measuring itself; beside them its CPU seconds, as other work stretches the former.
What the file of ``--json`` holds already is kept, and not measured again.

- photo: ``tfproj train classify --data DIR``, which chooses this preset for photographs.
- keras: transfer learning as Keras' guide has it ("Transfer learning & fine-tuning"): the encoder
  frozen and in inference mode, average, dropout 0.2, dense; flips and small turns; Adam 1e-3 for 20
  epochs, then all of it with 1e-5 for 10. The encoder is ours with ImageNet's weights, since Keras'
  own would have to be downloaded. Images are stretched to 224 px, as Keras' loader does.
- default: the preset for other images, from random weights, in as many steps as ``train`` chooses.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np
from PIL import Image, ImageDraw

from tfproj import backend
from tfproj.errors import InputError

METHODS = ("photo", "keras", "default")
COUNTS = (10, 20, 40, 80)
FLAGS = {"photo": [], "default": ["--model", "resnet"]}
EPOCHS, SIDE, BATCH = (20, 10), 224, 32
QUICK = {"counts": [4], "epochs": (1, 1), "side": 64}
QUICK_FLAGS = {"photo": ["--image-size", "64"], "default": ["--epochs", "1"]}
TEST = "test"


def main() -> None:
    options = _parser().parse_args()
    if options.worker:
        common.serve(partial(partial, guide, *options.worker))
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.quick:
            options.counts, options.dir = QUICK["counts"], Path(folder) / "drawn"
            draw(options.dir)
        elif options.dir is None:
            raise InputError("DIR is missing: a directory with train/CLASS/ and test/CLASS/")
        rows = measure_all(options, Path(folder))
    print(markdown(rows, "classes" if options.pairs else "images a class"))
    if options.chart:
        chart(rows, options.chart)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", nargs="?", type=Path, metavar="DIR")
    parser.add_argument("--counts", type=common.positive, nargs="+", default=COUNTS)
    parser.add_argument("--methods", choices=METHODS, nargs="+", default=METHODS)
    parser.add_argument("--seeds", type=common.positive, default=1, help="(default 1)")
    parser.add_argument(
        "--pairs", action="store_true", help="photo alone, of two classes, with the most images"
    )
    parser.add_argument("--chart", type=Path, metavar="FILE", help="draw the accuracies there")
    parser.add_argument("--quick", action="store_true", help="toy sizes, on drawn pictures")
    parser.add_argument("--worker", type=json.loads, help=argparse.SUPPRESS)
    common.add_json(parser)
    return parser


def class_names(root: Path) -> list[str]:
    """Class folders of both splits.

    Raises:
        InputError: there are not two, or those of the splits differ.
    """
    found = [
        sorted(path.name for path in (root / part).glob("*") if path.is_dir())
        for part in ("train", TEST)
    ]
    if found[0] != found[1] or len(found[0]) < 2:
        raise InputError(f"{root}: expected the same class folders in train/ and test/")
    return found[0]


def measure_all(options, folder: Path) -> list[dict[str, Any]]:
    """A row for each seed, number of images or pair of classes, and method."""
    names = class_names(options.dir)
    cases = [(count, names, count) for count in options.counts]
    if options.pairs:
        most = max(options.counts)
        cases = [(", ".join(pair), pair, most) for pair in itertools.combinations(names, 2)]
    methods = METHODS[:1] if options.pairs else options.methods
    rows = _measured_before(options)
    for seed, case, method in itertools.product(range(options.seeds), cases, methods):
        key = {"of": case[0], "method": method, "seed": seed}
        if any(key.items() <= row.items() for row in rows):
            continue
        data = folder / str(len(rows))
        subset(options.dir, data, *case[1:], seed)
        rows.append(key | measure(options, method, data, seed))
        common.progress(", ".join(f"{k} {common.number(v)}" for k, v in rows[-1].items()))
        if options.json:  # after each, for a cut-off run
            common.write(options.json, {"quick": options.quick, "rows": rows})
    return rows


def _measured_before(options) -> list[dict[str, Any]]:
    if options.json is None or not options.json.exists():
        return []
    return json.loads(options.json.read_text())["rows"]


def subset(source: Path, target: Path, names, count: int, seed: int) -> None:
    """Copy so many images of each class, and all test images.

    Raises:
        InputError: a class has fewer.
    """
    rng = np.random.default_rng(seed)
    for name in names:
        files = sorted((source / "train" / name).iterdir())
        if len(files) < count:
            raise InputError(f"{source / 'train' / name}: {len(files)} images, fewer than {count}")
        (target / "train" / name).mkdir(parents=True)
        for index in rng.permutation(len(files))[:count]:
            shutil.copy(files[index], target / "train" / name)
        shutil.copytree(source / TEST / name, target / TEST / name)


def measure(options, method: str, data: Path, seed: int) -> dict[str, Any]:
    """Accuracy on the test images, and seconds of the process."""
    begin, used = time.perf_counter(), _cpu_seconds()
    if method == "keras":
        epochs = QUICK["epochs"] if options.quick else EPOCHS
        side = QUICK["side"] if options.quick else SIDE
        with common.workers({"it": (str(data), *epochs, side, seed)}) as workers:
            accuracy = workers["it"].ask()
    else:
        flags = FLAGS[method] + (QUICK_FLAGS[method] if options.quick else [])
        accuracy = ours(data, [*flags, "--seed", str(seed)])
    seconds, used = time.perf_counter() - begin, _cpu_seconds() - used
    return {"accuracy": accuracy, "seconds": seconds, "cpu_seconds": used}


def _cpu_seconds() -> float:
    """Of all processes that were started and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def ours(data: Path, flags: list[str]) -> float:
    """The accuracy that ``tfproj train`` measures on the test photographs at its end."""
    command = [sys.executable, "-m", "tfproj", "train", "classify", "--data", str(data), "--json"]
    command += ["--runs-dir", str(data.with_name(f"{data.name}-runs")), *flags]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise common.Unavailable(f"tfproj train: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)["metrics"]["splits"][TEST]["accuracy"]


def guide(data: str, frozen_epochs: int, tuned_epochs: int, side: int, seed: int) -> float:
    """Keras' guide, step by step; the accuracy on the test photographs after the last epoch."""
    backend.setup()
    import keras

    keras.utils.set_random_seed(seed)
    options = {"image_size": (side, side), "batch_size": None, "shuffle": False, "verbose": False}
    load = keras.utils.image_dataset_from_directory
    train, test = (load(Path(data) / part, **options).cache() for part in ("train", TEST))
    train = train.shuffle(len(train), seed=seed).batch(BATCH)
    base = pretrained(side)
    base.trainable = False
    inputs = keras.Input((side, side, 3))
    x = keras.layers.RandomFlip("horizontal")(inputs)
    x = keras.layers.RandomRotation(0.1)(x)
    x = keras.layers.Rescaling(1 / 128, -127 / 128)(x)
    x = base(x, training=False)  # batch norm stays in inference mode, also when it is unfrozen
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.2)(x)
    classes = sum(path.is_dir() for path in (Path(data) / "train").iterdir())
    model = keras.Model(inputs, keras.layers.Dense(classes)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for trainable, rate, epochs in ((False, 1e-3, frozen_epochs), (True, 1e-5, tuned_epochs)):
        base.trainable = trainable
        model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
        model.fit(train, epochs=epochs, shuffle=False, verbose=0)
    return float(model.evaluate(test.batch(BATCH), verbose=0)[1])


def pretrained(side: int):
    """Our encoder with ImageNet's weights, on images that are already scaled.

    With the wide last layer that Keras leaves in a network "without top", which ours goes without.
    """
    import keras

    from tfproj.models import encoders, lite0

    images = keras.Input((side, side, 3))
    x = lite0.lite0(images)[32]
    x = keras.layers.Conv2D(1280, 1, use_bias=False, name="encoder_head")(x)
    x = keras.layers.BatchNormalization(epsilon=lite0.EPSILON, name="encoder_head_bn")(x)
    base = keras.Model(images, keras.layers.ReLU(6.0)(x))
    encoders.load_imagenet(base, "lite0", None)
    return base


# --- tables, chart, drawn pictures --------------------------------------------------------------


def markdown(rows: list[dict[str, Any]], head: str) -> str:
    """Means over the seeds: a line for each number or pair, three columns for each method."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    head = [head, *(f"{name} | seconds | of CPU" for name in methods)]
    lines = ["| " + " | ".join(head) + " |", "|---" * (1 + 3 * len(methods)) + "|"]
    cases = {row["of"]: 0 for row in rows} if isinstance(rows[0]["of"], str) else _numbers(rows)
    means = {of: [_means(rows, of, method) for method in methods] for of in cases}
    if isinstance(rows[0]["of"], str):  # pairs, of one method
        columns = list(zip(*(cells[0] for cells in means.values()), strict=True))
        means["mean"] = [tuple(map(statistics.fmean, columns))]
        means["worst"] = [(min(columns[0]), *map(max, columns[1:]))]
    for of, cells in means.items():
        texts = [f"{c[0]:.3f} | {c[1]:.0f} | {c[2]:.0f}" if c else " | | " for c in cells]
        lines.append("| " + " | ".join([str(of), *texts]) + " |")
    return "\n".join(lines)


def _numbers(rows: list[dict[str, Any]]) -> list[int]:
    return sorted({row["of"] for row in rows})


def _means(rows: list[dict[str, Any]], of: Any, method: str) -> tuple[float, ...]:
    """Accuracy, seconds, CPU seconds; nothing where it was not measured."""
    mine = [row for row in rows if (row["of"], row["method"]) == (of, method)]
    keys = ("accuracy", "seconds", "cpu_seconds") if mine else ()
    return tuple(statistics.fmean(row[key] for row in mine) for key in keys)


def chart(rows: list[dict[str, Any]], file: Path) -> None:
    """Accuracy over images a class, a line for each method."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "0"}
    from matplotlib import pyplot

    names = {"photo": "tfproj train (preset photo)", "keras": "Keras' transfer learning guide",
             "default": "preset default, random weights"}  # fmt: skip
    figure, axes = pyplot.subplots(figsize=(6.4, 3.2), layout="constrained")
    for method in dict.fromkeys(row["method"] for row in rows):
        at = _numbers([row for row in rows if row["method"] == method])
        means = [_means(rows, of, method)[0] for of in at]
        axes.plot(at, means, marker="o", label=names[method])
    ticks = _numbers(rows)
    axes.set(xscale="log", xlabel="training photographs a class", ylabel="accuracy, test")
    axes.set_xticks(ticks, map(str, ticks))
    axes.minorticks_off()
    axes.set_ylim(0, 1)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None, dpi=120)


def draw(root: Path) -> None:
    """Two classes of coloured pictures of 72 px: a disc and a square on noise."""
    rng = np.random.default_rng(0)
    for part, name in itertools.product(("train", TEST), ("disc", "square")):
        (root / part / name).mkdir(parents=True)
        for index in range(6):
            picture = Image.fromarray(rng.integers(0, 120, (72, 72, 3)).astype(np.uint8))
            left, top = rng.integers(4, 30, 2).tolist()
            color = tuple(rng.integers(120, 256, 3).tolist())
            pen = ImageDraw.Draw(picture)
            shape = pen.ellipse if name == "disc" else pen.rectangle
            shape((left, top, left + 36, top + 36), fill=color)
            picture.save(root / part / name / f"{index}.png")


if __name__ == "__main__":
    common.start(main)
