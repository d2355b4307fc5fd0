"""Toy data sets, drawn when a test asks for them, and the real ones where they are installed."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

FASHION_DIR = Path("/usr/share/datasets/fashion-mnist")


def pytest_ignore_collect(collection_path, config):
    """With ``-m light`` only the marked modules are read: others import what is not installed."""
    if config.option.markexpr == "light" and collection_path.name.startswith("test_"):
        return "pytest.mark.light" not in collection_path.read_text(encoding="utf-8")
    return None


def draw(seed, size=(12, 16), level=0):
    """uint8 (H, W, 3) of noise about ``level`` / 4 of full brightness; no two seeds are equal."""
    noise = np.random.default_rng(seed).integers(0, 48, (*size, 3))
    return (noise + level * 52).astype(np.uint8)


def write_classes(root, names, **columns):
    """``classes.csv`` with further columns such as ``value=[0, 255]``."""
    root.mkdir(parents=True, exist_ok=True)
    lines = [",".join(["name", *columns])]
    lines += [",".join(map(str, row)) for row in zip(names, *columns.values(), strict=True)]
    (root / "classes.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def class_folder(tmp_path):
    """Function that writes ``SPLIT/CLASS/N.png``, brighter by class, and returns the directory.

    ``counts``: images per class, for each split; the split "" makes class folders at the top.
    """

    def make(counts=None, size=(12, 16), name="animals"):
        seed = 0
        for split, classes in (counts or {"": {"cat": 6, "dog": 6}}).items():
            for level, (label, count) in enumerate(classes.items()):
                folder = tmp_path / name / split / label
                folder.mkdir(parents=True)
                for index in range(count):
                    seed += 1
                    Image.fromarray(draw(seed, size, level)).save(folder / f"{index}.png")
        return tmp_path / name

    return make


@pytest.fixture
def mask_folder(tmp_path):
    """Function that writes ``SPLIT/images/N.jpg``, ``SPLIT/masks/N.png`` and ``classes.csv``.

    ``counts``: pairs for each split; the split "" puts both folders at the top. Class 1 is a
    bright box on the dark class 0; masks are grey PNG files of class indices.
    """

    def make(counts=None, size=(16, 24), name="roads", classes=("ground", "road")):
        root, seed = tmp_path / name, 0
        write_classes(root, classes)
        for split, count in (counts or {"": 6}).items():
            for folder in ("images", "masks"):
                (root / split / folder).mkdir(parents=True)
            for index in range(count):
                seed += 1
                mask = np.zeros(size, np.uint8)
                mask[4 : 8 + seed % 5, 6 : 12 + seed % 7] = 1
                pixels = draw(seed, size) + mask[..., None] * np.uint8(160)
                Image.fromarray(pixels).save(root / split / "images" / f"{index}.jpg")
                Image.fromarray(mask).save(root / split / "masks" / f"{index}.png")
        return root

    return make


@pytest.fixture(scope="session")
def letterboxed_masks(tmp_path_factory):
    """A run for masks on wide and high photographs, letterboxed, evaluated and exported."""
    from tfproj.evaluation.evaluate import evaluate
    from tfproj.experiment.presets import make_config
    from tfproj.export.onnx_file import export_onnx
    from tfproj.training.train import train

    folder = tmp_path_factory.mktemp("letterboxed")
    for seed in range(24):
        size = [(30, 77), (61, 24), (40, 41)][seed % 3]
        mask = np.zeros(size, np.uint8)
        mask[5 : 16 + seed % 5, 4 : 12 + seed % 7] = 1
        place = folder / "data" / ("train" if seed < 15 else "val")
        for kind, array in (("images", draw(seed, size) + mask[..., None] * np.uint8(160)),
                            ("masks", mask)):  # fmt: skip
            (place / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(place / kind / f"{seed}.png")
    write_classes(folder / "data", ("ground", "road"))
    config = make_config("segment", data=str(folder / "data"), image_size=32, resize="letterbox",
                         epochs=3, batch_size=5, model_options={"batch_norm": True})  # fmt: skip
    run = train(config, folder / "runs", "toy")
    evaluate(run, ["val"])
    export_onnx(run, run.onnx_file)
    return run


def find_data(name):
    """A folder of $TFPROJ_DATA with train/ inside, or else the test is skipped."""
    for root in os.environ.get("TFPROJ_DATA", "").split(os.pathsep):
        if root and (Path(root) / name / "train").is_dir():
            return Path(root) / name
    return pytest.skip(f"no folder {name} in $TFPROJ_DATA")


@pytest.fixture(scope="session")
def real_facades():
    """The Mini Facade folder."""
    return find_data("mini_facade")


@pytest.fixture(scope="session")
def real_flowers():
    """400 training and 200 test photographs of five kinds of flowers."""
    return find_data("flowers")


@pytest.fixture(scope="session")
def real_fashion():
    """The folder of the four IDX files of Fashion-MNIST."""
    if not FASHION_DIR.is_dir():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    return FASHION_DIR


@pytest.fixture(scope="session")
def toy_classifier(tmp_path_factory):
    """A run of the CNN with batch norm on scikit-learn's digits, trained for seconds."""
    from tfproj.experiment.presets import make_config
    from tfproj.training.train import train

    options = {"batch_norm": True, "filters": 8, "dense": 16}
    config = make_config(
        "classify", data="digits", model="cnn", epochs=4, augment="none", model_options=options
    )
    return train(config, tmp_path_factory.mktemp("runs"), "toy")


@pytest.fixture(scope="session")
def toy_segmenter(tmp_path_factory):
    """A run of the UNet with batch norm on drawn facades of 32 x 48 pixels."""
    from tfproj.experiment.presets import make_config
    from tfproj.training.train import train

    size = {"limit": 24, "image_size": (32, 48), "batch_size": 4}
    size["model_options"] = {"batch_norm": True}
    config = make_config("segment", data="synthetic_facades", epochs=3, augment="none", **size)
    return train(config, tmp_path_factory.mktemp("runs"), "toy")


@pytest.fixture(scope="session", params=["crop", "letterbox"])
def kept_proportions(request, tmp_path_factory):
    """A run on photographs far from its input's proportions, evaluated and exported, by policy."""
    from tfproj.evaluation.evaluate import evaluate
    from tfproj.experiment.presets import make_config
    from tfproj.export.onnx_file import export_onnx
    from tfproj.training.train import train

    folder = tmp_path_factory.mktemp(request.param)
    for seed in range(36):
        label, part = ("left", "right")[seed % 2], "train" if seed < 24 else "val"
        place = folder / "data" / part / label
        place.mkdir(parents=True, exist_ok=True)
        size = [(30, 77), (61, 24), (40, 41)][seed % 3]
        pixels = draw(seed, size) + np.uint8(100) * (np.indices(size)[1] % 9 > 4)[..., None]
        Image.fromarray(pixels[:, :: 1 - 2 * (seed % 2)]).save(place / f"{seed}.png")
    options = {"data": str(folder / "data"), "image_size": 20, "resize": request.param}
    config = make_config("classify", "original", epochs=2, batch_size=8, **options)
    run = train(config, folder / "runs", "toy")
    evaluate(run, ["val"])
    export_onnx(run, run.onnx_file)
    return run


@pytest.fixture(scope="session")
def toy_labels(tmp_path_factory):
    """A run on drawn images of several labels or none, evaluated and exported."""
    from label_sets import write_cells, write_shapes

    from tfproj.evaluation.evaluate import evaluate
    from tfproj.experiment.presets import make_config
    from tfproj.export.onnx_file import export_onnx
    from tfproj.training.train import train

    folder = tmp_path_factory.mktemp("labels")
    write_cells(folder / "data", write_shapes(folder / "data", {"train": 160, "val": 60}))
    options = {"data": str(folder / "data"), "multi_label": True, "label_smoothing": 0.05}
    options |= {"model_options": {"filters": 16, "dense": 32}, "augment": "flip"}
    config = make_config("classify", "original", epochs=6, batch_size=8, **options)
    run = train(config, folder / "runs", "toy")
    evaluate(run, ["val"], flip=True)
    export_onnx(run, run.onnx_file)
    return run


@pytest.fixture(scope="session")
def toy_models(toy_classifier, toy_segmenter, tmp_path_factory):
    """Exported ONNX files by task."""
    from tfproj.export.onnx_file import export_onnx

    folder = tmp_path_factory.mktemp("models")
    runs = {"classify": toy_classifier, "segment": toy_segmenter}
    for task, run in runs.items():
        export_onnx(run, folder / f"{task}.onnx")
    return {task: folder / f"{task}.onnx" for task in runs}
