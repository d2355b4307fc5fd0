"""How well does an exported classifier tell images of its kind from others?

    tfproj train classify --data fashion_mnist --preset tiny --name clothes
    tfproj train classify --data FLOWERS --name flowers
    tfproj export classify/clothes && tfproj export classify/flowers
    python benchmarks/unknown.py clothes=digits flowers=FACADES
    python benchmarks/unknown.py --quick

Each RUN=OTHERS is a run that was exported, and what it was not trained on: a data set by name, or a
directory that is searched for images. Its own images are those of its test split, else of its
validation split.

- file: the output ``unknown_score``, and the threshold in the file.
- probability: the largest of the calibrated softmax, and the threshold in the file, as before.
- energy, logit: minus log sum exp of the scores (Liu et al. 2020), minus the largest score
  (Hendrycks et al. 2022), which have no threshold here.

AUROC is the chance that one of the others looks less known than one of its own.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import common
import numpy as np
from scipy.special import logsumexp
from sklearn.metrics import roc_auc_score

from tfproj import backend
from tfproj.data.dataset import DataOptions
from tfproj.data.registry import DATASETS, load_dataset
from tfproj.errors import InputError
from tfproj.experiment.plan import plan_evaluation
from tfproj.experiment.presets import make_config
from tfproj.inference.image_files import find_images
from tfproj.inference.predictor import Predictor
from tfproj.runs.run import Run, find_run, shown_split

MOST = 2000  # images of a kind, spread evenly
HEAD = ("pair", "score", "AUROC", "own images refused", "others refused")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pairs", nargs="*", metavar="RUN=OTHERS")
    parser.add_argument("--runs-dir", default="runs", help="(default runs)")
    parser.add_argument("--quick", action="store_true", help="digits and noise, four epochs")
    common.add_json(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.quick:
            pairs = {"digits=noise": (quick_run(Path(folder)), noise())}
        else:
            pairs = {text: read_pair(text, options.runs_dir) for text in options.pairs}
        if not pairs:
            raise InputError("RUN=OTHERS is missing: a run that was exported, and other images")
        rows = [line for text, pair in pairs.items() for line in measure(text, *pair)]
    lines = [HEAD, *(map(common.number, line.values()) for line in rows)]
    table = ["| " + " | ".join(line) + " |" for line in lines]
    print("\n".join([table[0], "|---" * len(HEAD) + "|", *table[1:]]))
    if options.json:
        common.write(options.json, {"quick": options.quick, "rows": rows})


def read_pair(text: str, runs_dir: str) -> tuple[Run, list[Any]]:
    name, _, others = text.partition("=")
    run = find_run(name, runs_dir)
    if not others or not run.onnx_file.is_file():
        raise InputError(f"{text}: expected RUN=OTHERS, and a run that was exported")
    if others not in DATASETS:
        return run, spread(find_images([others]))
    splits = load_dataset(others, "classify", DataOptions()).splits.values()
    return run, spread([split.read_image(i) for split in splits for i in range(len(split))])


def spread(images: list[Any]) -> list[Any]:
    chosen = np.unique(np.linspace(0, len(images) - 1, min(MOST, len(images))).round().astype(int))
    return [images[i] for i in chosen]


def measure(text: str, run: Run, others: list[Any]) -> list[dict[str, Any]]:
    """A line for each score."""
    dataset = plan_evaluation(run).dataset
    own = dataset.splits[shown_split(dataset.splits)]
    images = [own.read_image(i) for i in spread(list(range(len(own))))]
    predictor = Predictor(run.onnx_file, unknown_below="auto")
    if predictor.unknown_above is None:
        raise InputError(f"{run.onnx_file}: has no score of unknown images")
    known, unknown = (predictor.predict(sources) for sources in (images, others))
    least = predictor.metadata["calibration"]["unknown_threshold"]
    kinds = {
        "file": (lambda r: r.unknown_score, predictor.unknown_above),
        "probability": (lambda r: -r.confidence, -least),
        "energy": (lambda r: -logsumexp(r.scores), None),
        "logit": (lambda r: -float(r.scores.max()), None),
    }
    rows = []
    for name, (score, limit) in kinds.items():
        near, far = (np.array([score(r) for r in results]) for results in (known, unknown))
        truth = np.repeat([0, 1], [len(near), len(far)])
        area = float(roc_auc_score(truth, np.concatenate([near, far])))
        shares = ["" if limit is None else float(np.mean(v > limit)) for v in (near, far)]
        rows.append(dict(zip(HEAD, [text, name, area, *shares], strict=True)))
    return rows


def quick_run(folder: Path) -> Run:
    """A small network on digits, trained and exported."""
    backend.setup()
    from tfproj.export.onnx_file import export_onnx
    from tfproj.training.train import train

    options = {"widths": [8, 16], "batch_norm": True}
    config = make_config("classify", data="digits", model="resnet", epochs=4, model_options=options)
    run = train(config, folder / "runs", "digits")
    export_onnx(run)
    return run


def noise() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), np.uint8))


if __name__ == "__main__":
    common.start(main)
