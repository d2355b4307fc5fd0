"""Do class weights and sampling help where one class has a hundredth of the images?

    python benchmarks/imbalance.py
    python benchmarks/imbalance.py --quick

scikit-learn's digits, with preset ``default``. "one in a hundred": is it one certain digit, of
which there are 13 images beside 1,300 of the others? "long tail": ten digits, each with 0.6 times
the images of the one before, 1:100 from first to last (as Cui et al., "Class-Balanced Loss", 2019).
Another seed takes other digits. A fifth of these images validates; all others are the test split.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import common
import numpy as np
from PIL import Image

from tfproj import backend

MOST = 130  # images of the most frequent digit, of about 180
WAYS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "class weights": {"class_weights": "balanced"},
    "sampling": {"sampling": "balanced"},
    "monitor": {"monitor": "balanced_accuracy"},
    "class weights, monitor": {"class_weights": "balanced", "monitor": "balanced_accuracy"},
    "sampling, monitor": {"sampling": "balanced", "monitor": "balanced_accuracy"},
}
CASES = ("one in a hundred", "long tail")
METRICS = ("balanced_accuracy", "macro_f1", "accuracy")


def main() -> None:
    parser = common.parser(__doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS)[:3])
    options = parser.parse_args()
    backend.setup()
    cases, ways = (
        (options.cases[:1], options.ways[:2]) if options.quick else (options.cases, options.ways)
    )
    rows = []
    for case in cases:
        found: dict[str, list[Mapping[str, float]]] = {way: [] for way in ways}
        for seed in range(options.rounds or (1 if options.quick else 3)):
            with tempfile.TemporaryDirectory() as folder:
                write(Path(folder) / "data", counts(case, seed))
                for way in ways:
                    found[way].append(measure(Path(folder), seed, WAYS[way], options.quick))
                    common.progress(f"{case}, {way}, seed {seed}: {found[way][-1]}")
        for way, runs in found.items():
            values = [run["balanced_accuracy"] for run in runs]
            more = {name: round(statistics.fmean(run[name] for run in runs), 4) for name in METRICS}
            rows.append(common.row(case, way, "", values, **more))
    common.finish(options, rows)


def counts(case: str, seed: int) -> dict[str, tuple[list[int], int]]:
    """Class -> (its digits, how many images of each to train and validate with)."""
    digits = [int(digit) for digit in np.random.default_rng(seed).permutation(10)]
    if case == "long tail":
        return {str(d): ([d], max(2, round(MOST * 100 ** (-k / 9)))) for k, d in enumerate(digits)}
    others = round(MOST * 10 / 9)
    return {f"is {digits[0]}": (digits[:1], MOST // 10), "other": (digits[1:], others)}


def write(folder: Path, classes: Mapping[str, tuple[list[int], int]]) -> None:
    """Class folders of ``train`` and ``test``."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)
    for name, (digits, count) in classes.items():
        for digit in digits:
            for place, index in enumerate(np.flatnonzero(bunch.target == digit)):
                split = "train" if place < count else "test"
                (folder / split / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(images[index]).save(folder / split / name / f"{index}.png")


def measure(folder: Path, seed: int, values: Mapping[str, Any], quick: bool) -> dict[str, float]:
    """Metrics of the test split."""
    from tfproj.evaluation.evaluate import METRICS as MEASURE
    from tfproj.experiment.plan import plan
    from tfproj.experiment.presets import make_config
    from tfproj.models.checkpoint import load_model
    from tfproj.training.train import train

    fixed = {"data": str(folder / "data"), "val_fraction": 0.2, "augment": "none", "seed": seed}
    config = make_config("classify", "default", **fixed, **values, epochs=1 if quick else None)
    planned = plan(config)
    run = train(config, folder / "runs", planned=planned)
    found, _, _ = MEASURE["classify"](load_model(run), planned, "test")
    return {name: found[name] for name in METRICS}


if __name__ == "__main__":
    common.start(main)
