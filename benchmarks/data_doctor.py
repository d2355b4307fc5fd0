"""What does ``tfproj data check --deep`` find of faults that were put into a data set?

    python benchmarks/data_doctor.py FLOWERS --facades MINI_FACADE
    python benchmarks/data_doctor.py fashion_mnist --limit 6000
    python benchmarks/data_doctor.py --quick

- labels: 5 % of the labels are changed to another class, drawn anew in each round (20 by default).
  Recall is the share of them that is found, precision the share of what is found that was changed:
  faults that the data had before count against it.
- copies: of 100 training images a smaller one, one as JPEG of quality 30, and a mirrored one; how
  many of them are found.
- strangers: with --facades, four facades among the flowers and four flowers among the facades.
- houses: the facades without their groups; the number that ``--group-modulus`` should be given.

"looking" are the seconds that it takes to read the images and to compute their features, for one
image.
"""

from __future__ import annotations

import dataclasses
import io
import tempfile
import time
from pathlib import Path

import common
import numpy as np
import photographs
from PIL import Image

from tfproj import backend
from tfproj.core import image
from tfproj.data import DataOptions
from tfproj.data.check import split_dataset
from tfproj.data.dataset import Split
from tfproj.errors import InputError

SHARE = 0.05  # of the labels
FIRST_SEED = 100  # the threshold was chosen with seeds 0 to 19
COPIES = {
    "half the size": lambda p: p.resize((max(1, p.width // 2), max(1, p.height // 2))),
    "JPEG of quality 30": lambda p: _jpeg(p),
    "mirrored": lambda p: p.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
}


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("data", nargs="?", help="a data set for classification")
    parser.add_argument("--facades", help="a Mini Facade folder")
    parser.add_argument("--limit", type=common.positive, help="of training images")
    options = parser.parse_args()
    backend.setup()
    with tempfile.TemporaryDirectory() as folder:
        if options.quick:
            options.data, options.rounds = str(Path(folder) / "drawn"), 2
            photographs.draw(Path(options.data))
        elif options.data is None:
            raise InputError("DATA is missing: a data set for classification")
        rows = measure(options)
    common.finish(options, rows)


def measure(options) -> list[common.Row]:
    from tfproj.evaluation.features import look_at

    dataset = split_dataset(options.data, DataOptions(limit=options.limit))
    begin = time.perf_counter()
    look = look_at(dataset)
    seconds = time.perf_counter() - begin
    rows = [common.row("looking", f"{look.side} px", "s/image", [seconds / len(look)])]
    rows += labels(look, dataset.classes, options.rounds or 20)
    rows += copies(dataset)
    if options.facades:
        rows += houses(options.facades) + strangers(dataset, options.facades)
    return rows


def labels(look, classes, rounds: int) -> list[common.Row]:
    from tfproj.evaluation.label_errors import label_errors

    recall, precision = [], []
    for seed in range(FIRST_SEED, FIRST_SEED + rounds):
        rng = np.random.default_rng(seed)
        changed = rng.permutation(len(look))[: max(1, round(SHARE * len(look)))]
        wrong = look.labels.copy()
        wrong[changed] += rng.integers(1, len(classes), len(changed))
        wrong %= len(classes)
        found = label_errors(dataclasses.replace(look, labels=wrong), classes)
        places = [finding.images[0] for finding in found]
        right = len({look.where[row] for row in changed} & {*places})
        recall.append(right / len(changed))
        precision.append(right / max(1, len(places)))
    return [
        common.row("labels", "recall", "", recall, goal=("at least", 0.8)),
        common.row("labels", "precision", "", precision, goal=("at least", 0.6)),
    ]


def copies(dataset) -> list[common.Row]:
    """Images beside their copies, which stand for a validation split."""
    from tfproj.evaluation import data_doctor

    split, rows = dataset.splits["train"], []
    chosen = np.random.default_rng(0).permutation(len(split))[:100]
    for name, change in COPIES.items():
        made = [
            change(image.convert(image.open_image(split.read_image(int(i))), 3)) for i in chosen
        ]
        copied = Split([f"copy {i}" for i in chosen], lambda i, made=made: made[i],
                       labels=split.labels[chosen])  # fmt: skip
        deep = data_doctor.examine(
            dataclasses.replace(dataset, splits={"train": split, "val": copied})
        )
        found = sum(finding.code == "leak" for finding in deep.findings)
        rows.append(common.row("copies", name, "", [found / len(chosen)]))
    return rows


def _jpeg(picture: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=30)
    return Image.open(buffer)


def houses(folder: str) -> list[common.Row]:
    from tfproj.data.splits import hold_out
    from tfproj.evaluation import data_doctor

    dataset = split_dataset("facades", DataOptions(data_dir=folder))
    train, val = (dataset.splits[name] for name in ("train", "val"))
    everything = _joined(train, val)
    train, val = hold_out(everything, 0.1)
    deep = data_doctor.examine(dataclasses.replace(dataset, splits={"train": train, "val": val}))
    rows = []
    for finding in deep.findings:
        if finding.code == "source":
            modulus = finding.facts.get("modulus", 0)
            more = {k: finding.facts[k] for k in ("share", "chance", "pairs")}
            rows.append(common.row("houses", "modulus", "", [modulus], **more))
    return rows or [common.note("houses", "modulus", "failed: none found")]


def _joined(first: Split, second: Split) -> Split:
    """Both as one, in the order of their names and without groups."""
    names = [*first.names, *second.names]
    order = np.argsort(names)
    count = len(first)

    def read(index: int):
        row = int(order[index])
        return first.read_image(row) if row < count else second.read_image(row - count)

    masks = first.read_mask  # of which only their being there counts
    return Split([names[i] for i in order], read, read_mask=masks)


def strangers(dataset, folder: str) -> list[common.Row]:
    from tfproj.evaluation import data_doctor

    flowers = dataset.splits["train"]
    facades = split_dataset("facades", DataOptions(data_dir=folder)).splits["train"]
    rows = []
    for name, usual, odd in (
        ("facades among flowers", flowers, facades),
        ("flowers among facades", facades, flowers),
    ):
        drawn = np.random.default_rng(0).permutation(len(odd))[:4]
        usual = dataclasses.replace(usual, labels=None, groups=None)
        odd = dataclasses.replace(odd.subset(drawn), labels=None, groups=None)
        deep = data_doctor.examine(
            dataclasses.replace(dataset, splits={"train": usual, "val": odd})
        )
        found = [f.images[0][0] for f in deep.findings if f.code == "out_of_place"]
        more = {"of others": found.count("train")}
        rows.append(common.row("strangers", name, "", [found.count("val") / 4], **more))
    return rows


if __name__ == "__main__":
    common.start(main)
