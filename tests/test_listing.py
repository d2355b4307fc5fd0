"""``tfproj runs`` lists what there is, and removes only runs that nobody trains."""

import io
import json

import pytest

from tfproj.cli.main import main
from tfproj.core.files import write_csv, write_json
from tfproj.experiment.presets import make_config
from tfproj.runs.lock import locked
from tfproj.runs.run import create_run

pytestmark = pytest.mark.light


@pytest.fixture
def root(tmp_path):
    """Three classifiers of known values, a segmenter, a damaged run and what is none."""
    for name, values in {"low": [0.5, 0.4], "high": [0.9], "none": []}.items():
        run = create_run(tmp_path, "classify", name, "x", overwrite=False)
        write_json(run.config_file, make_config("classify", data="digits", epochs=2).to_dict())
        rows = [{"epoch": i + 1, "val_accuracy": value} for i, value in enumerate(values)]
        if rows:
            write_csv(run.history_file, rows)
        if name == "high":
            run.onnx_file.touch()
            run.add_warnings({"pruned": "for a test"})
    run = create_run(tmp_path, "segment", "low", "x", overwrite=False)
    write_json(run.config_file, make_config("segment", data="roads").to_dict())
    damaged = tmp_path / "classify" / "damaged"
    damaged.mkdir()
    (damaged / "config.json").write_text("{")
    (tmp_path / "classify" / "thesis").mkdir()
    return tmp_path


@pytest.fixture
def listed(root, capsys):
    def run(*args):
        code = main(["runs", *args, "--json", "--runs-dir", str(root)])
        out = capsys.readouterr().out
        return [run["run"] for run in json.loads(out)] if code == 0 else code

    return run


def test_a_run_is_described(root, capsys):
    assert main(["runs", "--runs-dir", str(root), "classify/high"]) == 0
    said = capsys.readouterr()
    row = said.out.splitlines()[1].split()
    start = ["classify/high", "digits", "default", "pruned", "accuracy", "0.9000", "1/2"]
    assert row[:7] == start and row[-1] == "yes"
    assert "left out" in said.err and "damaged" in said.err


def test_filters_and_order(root, listed):
    by_value = ["classify/high", "classify/low", "classify/none"]
    assert listed("--sort", "value", "--task", "classify") == by_value
    assert listed("--sort", "value", "--reverse", "--data", "digits") == [
        "classify/low", "classify/high", "classify/none",
    ]  # fmt: skip
    assert set(listed("low")) == {"classify/low", "segment/low"}
    assert listed("cl*/l*") == listed("--state", "finished") == ["classify/low"]
    assert listed("--preset", "best") == []
    assert listed("lwo") == 2
    for name in (
        "classify/low/",
        "./classify//low",
        root / "classify/low",
        f"{root}/classify/low/",
    ):
        assert listed(str(name)) == ["classify/low"]
    (root / "classify" / "none" / ".lock").write_bytes(b"\xff")
    with locked(root / "classify" / "none"):
        assert listed("--state", "training") == ["classify/none"]


def test_removal_asks_and_takes_what_was_listed(root, listed, monkeypatch):
    for wrong in (["--remove", "--yes"], ["--yes"], ["thesis", "--remove", "--yes"]):
        assert listed(*wrong) == 2
    for answer in ("", "n\n"):
        monkeypatch.setattr("sys.stdin", io.StringIO(answer))
        assert listed("low", "--remove") == 2
    assert (root / "segment" / "low").is_dir()
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert listed("classify/low", "--remove") == ["classify/low"]
    assert not (root / "classify" / "low").exists() and (root / "segment" / "low").is_dir()


def test_a_name_that_looks_like_a_pattern_is_itself(root, listed):
    for name in ("a1", "a[1]"):
        run = create_run(root, "classify", name, "x", overwrite=False)
        write_json(run.config_file, make_config("classify", data="digits").to_dict())
    assert listed("a[1]", "--remove", "--yes") == ["classify/a[1]"]
    assert (root / "classify" / "a1").is_dir()
    assert listed("a[1]") == ["classify/a1"]


def test_a_damaged_run_hides_no_other(root, capsys):
    high, low = root / "classify" / "high", root / "segment" / "low"
    (high / "history.csv").write_text("loss\n1\n")
    (low / "config.json").write_text('{"task": "segment", "epochs": "many"}')
    assert main(["runs", "--runs-dir", str(root), "--json"]) == 0
    said = capsys.readouterr()
    assert {run["run"] for run in json.loads(said.out)} == {"classify/low", "classify/none"}
    assert f"left out: {high / 'history.csv'}: damaged" in said.err
    assert f"left out: {low / 'config.json'}: epochs is 'many'" in said.err


def test_a_run_in_training_or_behind_a_link_keeps_all(root, listed, tmp_path):
    with locked(root / "classify" / "none"):
        assert listed("--task", "classify", "--remove", "--yes") == 2
    assert (root / "classify" / "high").is_dir()
    (root / "classify" / "link").symlink_to(root / "segment" / "low")
    assert listed("link", "--remove", "--yes") == 2
    assert (root / "segment" / "low" / "config.json").is_file()
