"""What do crops bring where photographs are large and their objects small?

    python benchmarks/crops.py            # real facades, found as `--data facades` finds them
    python benchmarks/crops.py --quick    # drawn ones

Large photographs with masks do not come with the project, so they are put together: 6 x 8 facades
of 256 px each make one of 1,536 x 2,048. All trainings have the same network and recipe (preset
``default``), and see as many pixels. IoU is that of the validation photographs at their own size.
"drawn evenly": no crop is laid around a pixel of a drawn class.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np

from tfproj import backend
from tfproj.core import image
from tfproj.data import DataOptions, load_dataset
from tfproj.data.dataset import Dataset, Split
from tfproj.data.write_folder import write_folder
from tfproj.experiment.plan import plan
from tfproj.experiment.presets import make_config

SIDE = 256
GRID, QUICK_GRID = (6, 8), (2, 2)  # facades in a photograph
WAYS: dict[str, dict[str, Any]] = {
    "stretched to 192 x 256": {"image_size": (192, 256), "batch_size": 4},
    "crops of 128 x 128": {"crop": 128},
    "crops of 128 x 128, drawn evenly": {"crop": 128},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=common.positive, default=5, help="to train on")
    parser.add_argument("--megapixels", type=common.positive, default=16, help="of each training")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where data and runs go")
    parser.add_argument("--quick", action="store_true", help="drawn facades, one epoch")
    common.add_json(parser)
    options = parser.parse_args()
    backend.setup()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        if not (folder / "data").exists():
            write_folder(mosaics(options), folder / "data")
        rows = []
        for way in list(WAYS)[
            : 2 if options.quick else None
        ]:  # one after the other, so that a cut-off run is still a table
            rows.append(measure(way, folder, options))
            print(rows[-1], file=sys.stderr)
    print(markdown(rows))
    if options.json:
        facts = {"megapixels": options.megapixels, "quick": options.quick}
        common.write(options.json, {**facts, "rows": rows})


def mosaics(options: argparse.Namespace) -> Dataset:
    """The photographs; those of a split are of the facades of that split."""
    count = 1 if options.quick else options.photographs
    source = "synthetic_facades" if options.quick else "facades"
    grid = QUICK_GRID if options.quick else GRID
    limit = count * grid[0] * grid[1]
    found = load_dataset(source, "segment", DataOptions(limit=limit))
    parts = {name: found.splits[name] for name in ("train", "val")}
    if options.quick:
        parts["val"] = parts["val"].subset(np.arange(limit))
    splits = {name: mosaic_split(part, grid) for name, part in parts.items()}
    return Dataset(source, "segment", found.classes, splits, found.size, 3, "", found.colors)


def mosaic_split(split: Split, grid: tuple[int, int]) -> Split:
    count, columns = grid[0] * grid[1], grid[1]
    names = [str(index) for index in range(len(split) // count)]

    def joined(index: int, read) -> np.ndarray:
        parts = [read(index * count + place) for place in range(count)]
        rows = [parts[start : start + columns] for start in range(0, count, columns)]
        return np.concatenate([np.concatenate(row, axis=1) for row in rows])

    def picture(index: int) -> np.ndarray:
        return image.load(split.read_image(index), (SIDE, SIDE), 3)

    def mask(index: int) -> np.ndarray:
        return image.resize_mask(split.read_mask(index), (SIDE, SIDE))

    return Split(names, lambda i: joined(i, picture), read_mask=lambda i: joined(i, mask))


def measure(way: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Train and evaluate; what was found, by class."""
    from tfproj.evaluation.evaluate import evaluate
    from tfproj.training import crops
    from tfproj.training.train import train

    values = {"data": str(folder / "data"), "seed": 0, **WAYS[way]}
    if options.quick:
        values["model_options"] = {"batch_norm": True, "widths": [4, 8]}
    planned = plan(make_config("segment", "default", epochs=1, **values))
    pixels = planned.examples * np.prod(planned.spec.size)
    epochs = 1 if options.quick else max(1, round(options.megapixels * 1e6 / pixels))
    guided, crops.GUIDED = crops.GUIDED, 0 if "evenly" in way else crops.GUIDED
    begin = time.process_time()
    try:
        run = train(make_config("segment", "default", epochs=epochs, **values), folder / "runs")
    finally:
        crops.GUIDED = guided
    seconds = time.process_time() - begin
    found = evaluate(run, ["val"])["splits"]["val"]
    facts = {"way": way, "epochs": epochs, "examples": planned.examples, "seconds": seconds}
    return {**facts, "iou": found["iou_full"], "mean_iou": found["mean_iou_full"]}


def markdown(rows: list[dict[str, Any]]) -> str:
    classes = list(rows[0]["iou"])
    head = ["training", "epochs x images or crops", "CPU seconds", "mean IoU", *classes]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        values = [row["mean_iou"], *row["iou"].values()]
        cells = [f"{row['epochs']} x {row['examples']:,}", f"{row['seconds']:,.0f}"]
        cells += [f"{value or 0:.3f}" for value in values]
        lines.append("| " + " | ".join([row["way"], *cells]) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    common.start(main)
