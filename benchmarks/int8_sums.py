"""What does an int8 file lose where the CPU clips sums of int8 products?

    python benchmarks/int8_sums.py
    python benchmarks/int8_sums.py --quick

Without VNNI a CPU adds pairs of int8 products in 16 bits, and onnxruntime lets it unless
``session.x64quantprecision`` is set, as ``Predictor`` does there. Measured are the pretrained
classifiers of clothes on Fashion-MNIST's test split, by ``Predictor``, by a bare onnxruntime
session and by one with that setting: the accuracy, and images a second at batch 100. On a CPU with
VNNI all are as accurate, but the setting may be slower.
"""

from __future__ import annotations

from collections.abc import Callable

import common
import numpy as np
import runtimes

from tfproj import Predictor
from tfproj.data import DataOptions, load_dataset
from tfproj.pretrained import pretrained_file

FILES = ("fashion_mnist-best", "fashion_mnist-best-int8", "fashion_mnist-tiny-int8")
BATCH = 100
TIMED = 1000  # images of a round


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--data-dir", help="where the data set lies, if not in a usual place")
    options = parser.parse_args()
    data = DataOptions(data_dir=options.data_dir)
    split = load_dataset("fashion_mnist", "classify", data).splits["test"]
    count = BATCH if options.quick else len(split)
    images = np.stack([split.read_image(index) for index in range(count)]).reshape(count, 28, 28, 1)
    labels = split.labels[:count]
    rows = []
    for name in FILES:
        common.progress(name)
        rows += measure(name, images, labels, options.rounds or (1 if options.quick else 5))
    common.finish(options, rows)


def measure(name: str, images: np.ndarray, labels: np.ndarray, rounds: int) -> list[common.Row]:
    path = str(pretrained_file(name))
    predictor = Predictor(path)
    contenders: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "Predictor": lambda batch: predictor.run(batch)[1],
        "bare onnxruntime": runtimes.raw(path),
    }
    if name.endswith("-int8"):
        contenders["with exact sums"] = runtimes.raw(path, x64quantprecision="1")

    def right(predict) -> float:
        found = [predict(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]
        return float(np.mean(np.concatenate(found).argmax(axis=-1) == labels))

    def rate(predict) -> float:
        timed = images[:TIMED]
        batches = [timed[i : i + BATCH] for i in range(0, len(timed), BATCH)]
        return len(timed) / common.seconds(lambda: [predict(batch) for batch in batches])

    found, _ = common.interleave({k: lambda p=p: rate(p) for k, p in contenders.items()}, rounds)
    return [
        common.row(
            name, contender, "img/s", found[contender], found["bare onnxruntime"],
            "bare onnxruntime", accuracy=f"{right(predict):.2%}",
        )
        for contender, predict in contenders.items()
    ]  # fmt: skip


if __name__ == "__main__":
    common.start(main)
