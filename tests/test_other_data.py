"""Trained weights are measured and exported where the data of the training are not at hand."""

import json
import shutil

import pytest

from tfproj import Predictor, backend

backend.setup()

from tfproj.cli.main import main  # noqa: E402
from tfproj.errors import InputError  # noqa: E402
from tfproj.experiment.plan import plan_evaluation  # noqa: E402
from tfproj.experiment.presets import make_config  # noqa: E402
from tfproj.export.job import Options  # noqa: E402
from tfproj.export.onnx_file import export_onnx  # noqa: E402
from tfproj.training.train import train  # noqa: E402


@pytest.fixture
def folder(class_folder):
    return class_folder({"": {"cat": 12, "dog": 12}})


@pytest.fixture
def run(folder, tmp_path):
    config = make_config("classify", "original", data=str(folder), epochs=1, batch_size=8, limit=20)
    return train(config, tmp_path / "runs", "a")


def test_data_that_moved_or_grew(run, folder, tmp_path, capsys):
    moved = folder.rename(tmp_path / "moved")
    for command in ("evaluate", "export"):
        assert main([command, str(run.path)]) == 2
        line = capsys.readouterr().err.splitlines()[-1]
        assert (
            "no such directory (other data: --data DIR; an export without any: --no-data)" in line
        )
    assert main(["evaluate", str(run.path), "--data", str(moved), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["data"] == {"name": str(moved), "origin": str(moved), "of_training": True}
    assert found["splits"]["train"]["examples"] == 20  # the limit of the training
    shutil.copy(moved / "cat" / "1.png", moved / "cat" / "new.png")
    assert main(["export", str(run.path), "--data", str(moved)]) == 0
    said = capsys.readouterr()
    assert "note: " in said.err and "not the data that the run was trained on" in said.err
    assert " files of val of moved at batch sizes 1, 7" in said.out
    metadata = Predictor(run.onnx_file).metadata
    assert metadata["verification"]["data"] == "moved"
    assert metadata["training"]["data"] == metadata["data"] == str(folder)
    assert main(["evaluate", str(run.path), "--data", str(moved), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["data"]["of_training"] is False
    assert sum(split["examples"] for split in found["splits"].values()) == 25


def test_other_data_say_what_the_run_may_have_trained_on(run, folder):
    held_out = json.loads(run.splits_file.read_text())["val"]
    (folder / "val").mkdir()
    (folder / "train").mkdir()
    for name in ("cat", "dog"):
        (folder / name).rename(folder / "train" / name)
        (folder / "val" / name).mkdir()
    for name in [held_out[0], "cat/moved.png", "dog/moved.png"]:
        source = folder / "train" / (name if "moved" not in name else held_out[1])
        shutil.copy(source, folder / "val" / name)
    note = plan_evaluation(run, data=str(folder)).dataset.notes[-1]
    assert note.endswith("of the 3 images of 'val', 2 were not held out then")


def test_other_data_may_have_another_format(run, folder, tmp_path):
    config = json.loads(run.config_file.read_text())
    run.config_file.write_text(json.dumps({**config, "format": "plain"}))
    moved, other = folder.rename(tmp_path / "moved"), tmp_path / "other"
    shutil.copytree(moved, other / "images")
    names = [path.relative_to(moved).as_posix() for path in moved.glob("*/*.png")]
    rows = "".join(f"{name},{name.split('/')[0]}\n" for name in sorted(names))
    (other / "labels.csv").write_text("file,label\n" + rows)
    assert plan_evaluation(run, data=str(other)).config.format is None
    shutil.copy(other / "labels.csv", moved)  # what it is, is known from the run alone
    assert plan_evaluation(run, data=str(moved)).config.format == "plain"


def test_data_of_other_classes_are_refused(run, class_folder):
    owls = class_folder({"": {"cat": 3, "owl": 3}}, name="owls")
    with pytest.raises(InputError, match="class 'owl' is not one of the model's: cat, dog"):
        plan_evaluation(run, data=str(owls))


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_an_export_without_data_says_so(toy_classifier, toy_segmenter, tmp_path, task):
    run = {"classify": toy_classifier, "segment": toy_segmenter}[task]
    free = task == "segment"
    result = export_onnx(run, tmp_path / "a.onnx", Options(no_data=True, dynamic_size=free))
    check = result["verification"]
    assert (check["split"], check["images"], check["metrics"]) == ("generated", 256, {})
    assert check["max_difference"] < 1e-4 and result["calibration"] is None
    own, other = (Predictor(tmp_path / "a.onnx"), export_onnx(run, tmp_path / "b.onnx"))
    assert own.selftest().vectors == 5
    with_data = Predictor(other["path"]).metadata
    for key in ("training", "classes", "data", "golden"):
        assert own.metadata[key] == with_data[key]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--int8"], "--int8 needs data, to calibrate"),
        (["--half"], "--half needs data"),
        (["--data", "."], "exclude each other"),
    ],
)
def test_what_needs_data_says_so(toy_classifier, capsys, more, message):
    assert main(["export", str(toy_classifier.path), "--no-data", *more]) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
