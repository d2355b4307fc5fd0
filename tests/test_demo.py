"""The demo on a machine without any data: embedded data, every step, at toy size."""

import csv
import json

import pytest

from tfproj.cli import run_demo
from tfproj.cli.main import main
from tfproj.data.sources import fashion_mnist

TOY = {
    "classify": {"digits": {"preset": "original", "epochs": 2, "limit": 300, "batch_size": 32}},
    "segment": {
        "synthetic_facades": {"epochs": 1, "limit": 12, "batch_size": 4, "image_size": (32, 32)}
    },
}


@pytest.fixture
def without_data(tmp_path, monkeypatch):
    monkeypatch.setattr(fashion_mnist, "DEBIAN_DIR", tmp_path / "nothing")
    monkeypatch.delenv("TFPROJ_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def test_without_data_the_embedded_ones_are_taken_and_named(without_data):
    assert run_demo.choose_data("classify")[0] == "digits"
    data, reason = run_demo.choose_data("segment")
    assert data == "synthetic_facades"
    assert "drawn by tfproj" in reason


def test_data_that_are_there_are_taken(without_data, tmp_path, monkeypatch):
    folder = tmp_path / "sets" / "fashion_mnist"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte").touch()
    monkeypatch.setenv("TFPROJ_DATA", str(tmp_path / "sets"))
    assert run_demo.choose_data("classify") == ("fashion_mnist", f"Fashion-MNIST from {folder}")


@pytest.mark.parametrize("task", run_demo.SHORT)
def test_every_short_recipe_is_a_valid_configuration(task):
    for data in run_demo.SHORT[task]:
        assert run_demo.demo_config(task, data).data == data


def test_the_whole_demo(without_data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_demo, "SHORT", TOY)
    assert main(["demo", "--output", "out", "--json"]) == 0
    records = json.loads(capsys.readouterr().out)
    assert records == json.loads((tmp_path / "out" / "demo.json").read_text())
    assert [record["task"] for record in records] == ["classify", "segment"]
    for record in records:
        assert 0 < record["value"] <= 1
        assert record["max_difference"] < 1e-4
        assert (tmp_path / record["onnx"]).stat().st_size == record["onnx_bytes"]
        assert "<html" in (tmp_path / record["report"]).read_text()
        table = tmp_path / record["predictions"] / "predictions.csv"
        assert len(list(csv.DictReader(table.open()))) == run_demo.SAMPLES
    # A second demo replaces the first.
    monkeypatch.setattr(run_demo, "SHORT", {**TOY, "segment": {}})
    run_demo.run_demo(tmp_path / "out", ("classify",))


def test_a_demo_replaces_nothing_of_the_user_s(without_data, tmp_path, capsys):
    photo = tmp_path / "samples" / "classify" / "mine.jpg"
    photo.parent.mkdir(parents=True)
    photo.touch()
    assert main(["demo", "--output", "."]) == 2
    assert "choose another --output" in capsys.readouterr().err
    assert photo.exists() and len(list(tmp_path.iterdir())) == 1
