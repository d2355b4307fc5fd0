"""train -> evaluate -> export -> predict through the command line, at toy size."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tfproj.cli.main import main
from tfproj.data.registry import load_dataset
from tfproj.data.write_folder import write_folder
from tfproj.runs.lock import LOCK_FILE

FLAGS = {
    "classify": ["--data", "digits", "--epochs", "3", "--limit", "400", "--batch-size", "32"],
    "segment": [
        "--data", "synthetic_facades", "--epochs", "2", "--limit", "12", "--batch-size", "4",
        "--image-size", "32", "32",
    ],
}  # fmt: skip


@pytest.fixture(scope="module", params=["classify", "segment"])
def finished(request, tmp_path_factory):
    """(task, folder) where a run was trained, evaluated and exported."""
    task, folder = request.param, tmp_path_factory.mktemp(request.param)
    common = ["--runs-dir", str(folder / "runs")]
    for command in (
        ["train", task, *FLAGS[task], "--name", "toy", "--no-evaluate"],
        ["evaluate"],
        ["export", "--onnx"],
    ):
        assert main([*command, *common]) == 0
    return task, folder


def test_the_run_directory_is_complete(finished):
    task, folder = finished
    files = {path.name for path in (folder / "runs" / task / "toy").iterdir()}
    assert {
        "config.json", "environment.json", "spec.json", "splits.json", "history.csv",
        "best.keras", "last.keras", "metrics.json", "predictions.csv", "model.onnx",
    } <= files  # fmt: skip
    assert [name for name in files if name.startswith(".")] == [LOCK_FILE]


def test_metrics_agree_with_the_predictions(finished):
    task, folder = finished
    run = folder / "runs" / task / "toy"
    metrics = json.loads((run / "metrics.json").read_text())
    rows = list(csv.DictReader((run / "predictions.csv").open()))
    assert set(metrics["splits"]) == {"train", "val", "test"}
    for name, split in metrics["splits"].items():
        of_split = [row for row in rows if row["split"] == name]
        assert len(of_split) == split["examples"]
        if task == "classify":
            right = np.mean([row["label"] == row["prediction"] for row in of_split])
            assert split["accuracy"] == pytest.approx(right)
            assert np.sum(split["confusion_matrix"]) == split["examples"]
        else:
            mean = np.mean([float(row["pixel_accuracy"]) for row in of_split])
            assert split["pixel_accuracy"] == pytest.approx(mean, abs=1e-5)
            assert 0 < split["mean_average_precision_softmax"] < 1
            # The facades are eight times as large as the network's input.
            assert (
                ("mean_iou_full" in split) == ("pixel_accuracy_full" in split) == (name != "train")
            )
            raw, softmax = (split[f"average_precision_{kind}"] for kind in ("raw", "softmax"))
            assert raw == pytest.approx(softmax, abs=1e-6)  # the scores are log probabilities


def test_evaluate_prints_json_and_a_table(finished, capsys):
    task, folder = finished
    common = ["--split", "val", "--runs-dir", str(folder / "runs")]
    assert main(["evaluate", "toy", *common, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert list(record["splits"]) == ["val"]
    assert main(["evaluate", "toy", *common]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in record["classes"])
    assert ("IoU, own size" in table) == (task == "segment")
    assert main(["evaluate", "toy", *common[2:], "--split", "tst"]) == 2
    assert "no split 'tst'" in capsys.readouterr().err
    assert main(["evaluate", "toy", *common[2:]]) == 0  # as it was, for the other tests


def test_export_describes_itself(finished):
    import onnx

    from tfproj.core.spec import METADATA_KEY

    task, folder = finished
    model = onnx.load(folder / "runs" / task / "toy" / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    record = json.loads({p.key: p.value for p in model.metadata_props}[METADATA_KEY])
    assert record["task"] == task
    assert record["classes"] == list(load_dataset(FLAGS[task][1]).classes)
    assert record["verification"]["max_difference"] < 1e-4
    assert [i.name for i in model.graph.input] == ["image"]
    assert [o.name for o in model.graph.output][:2] == ["scores", "probabilities"]
    assert {o.name for o in model.graph.output} == record["outputs"].keys()
    # Folded: the exported network has no norm and, for the UNet, the original's parameters.
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    if task == "segment":
        floats = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
        weights = sum(int(np.prod(t.dims)) for t in floats if len(t.dims) and np.prod(t.dims) > 3)
        assert weights == 465_857


def test_predict_files_and_a_directory(finished, capsys, tmp_path):
    task, folder = finished
    images = write_samples(task, tmp_path / "samples")
    model = str(folder / "runs" / task / "toy" / "model.onnx")
    args = ["predict", model, str(images), "--output", str(tmp_path / "out"), "--json"]
    assert main(args + (["--overlay"] if task == "segment" else [])) == 0
    record = json.loads(capsys.readouterr().out)
    assert len(record["predictions"]) == 4
    assert (tmp_path / "out" / "predictions.csv").exists()
    if task == "segment":
        first = record["predictions"][0]
        with Image.open(first["mask"]) as mask, Image.open(first["image"]) as image:
            assert mask.size == image.size
            assert mask.mode == "P"
            assert np.asarray(mask).max() < 5
        assert (tmp_path / "out" / "facade_00000_overlay.png").exists() or list(
            (tmp_path / "out").glob("*_overlay.png")
        )


def test_bad_files_are_reported_and_the_others_done(finished, capsys, tmp_path):
    task, folder = finished
    images = write_samples(task, tmp_path / "samples")
    (images / "empty.png").write_bytes(b"")
    (images / "text.png").write_text("hello")
    model = str(folder / "runs" / task / "toy")
    assert main(["predict", model, str(images), "--json"]) == 1
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    assert len(record["predictions"]) == 4
    assert {f["image"].rsplit("/")[-1] for f in record["failures"]} == {"empty.png", "text.png"}
    assert captured.err.count("error:") == 2
    assert main(["predict", model, str(images / "empty.png")]) == 2


def test_predicting_imports_no_framework(finished, tmp_path):
    task, folder = finished
    images = write_samples(task, tmp_path / "samples")
    code = (
        "import sys\nfrom tfproj.cli.main import main\nassert main(sys.argv[1:]) == 0\n"
        "print({'tensorflow', 'keras', 'matplotlib', 'sklearn', 'onnx'} & {*sys.modules})"
    )
    model = str(folder / "runs" / task / "toy" / "model.onnx")
    command = [sys.executable, "-c", code, "predict", model, str(images)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_a_run_with_a_missing_file(finished, capsys, tmp_path):
    import shutil

    task, folder = finished
    for name, command in (("best.keras", "evaluate"), ("spec.json", "export")):
        shutil.copytree(folder / "runs", tmp_path / name)
        (tmp_path / name / task / "toy" / name).unlink()
        assert main([command, "toy", "--runs-dir", str(tmp_path / name)]) == 2
        assert f"{name} is missing" in capsys.readouterr().err


def test_a_run_whose_files_do_not_fit_each_other(finished, capsys, tmp_path):
    import shutil

    task, folder = finished
    spec = json.loads((folder / "runs" / task / "toy" / "spec.json").read_text())
    changes = {
        "splits.json": ("[1]", "splits.json: damaged, not a JSON object"),
        "spec.json": (json.dumps({**spec, "height": 2 * spec["height"]}), "does not fit config"),
    }
    for name, (text, words) in changes.items():
        shutil.copytree(folder / "runs", tmp_path / name)
        (tmp_path / name / task / "toy" / name).write_text(text)
        assert main(["evaluate", "toy", "--runs-dir", str(tmp_path / name)]) == 2
        assert words in capsys.readouterr().err.splitlines()[-1]


def test_damaged_weights_are_one_line(finished, capsys, tmp_path):
    import shutil

    task, folder = finished
    shutil.copytree(folder / "runs", tmp_path / "runs")
    (tmp_path / "runs" / task / "toy" / "best.keras").write_bytes(b"PK\x03\x04 not weights")
    (tmp_path / "runs" / task / "toy" / "model.onnx").unlink()
    for command in ("evaluate", "export"):
        assert main([command, "toy", "--runs-dir", str(tmp_path / "runs")]) == 2
        assert "best.keras: cannot be loaded" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "runs" / task / "toy" / "model.onnx").exists()


def write_samples(task, folder):
    """Four image files of a data set; returns their directory."""
    import dataclasses

    dataset = load_dataset(FLAGS[task][1])
    split = dataset.splits["test"].subset(range(4))
    write_folder(dataclasses.replace(dataset, splits={"some": split}), folder)
    return folder / "some" / ("images" if task == "segment" else "")
