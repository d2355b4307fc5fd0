"""``tfproj train --seeds``: the same training several times, and how far the results lie apart."""

import json

import pytest

from tfproj.cli.main import main
from tfproj.core.files import read_json
from tfproj.runs.run import Run
from tfproj.search.spread import over_seeds

TOY = ["train", "classify", "--data", "digits", "--preset", "original", "--limit", "64"]


def test_mean_and_sample_deviation_of_what_is_a_number_in_all_runs():
    runs = [{"val": {"a": value, "examples": 9, "b": None, "c": {"x": 1}}} for value in (1, 2, 6)]
    assert over_seeds(runs) == {
        "val": {"a": {"mean": 3, "deviation": 7**0.5, "least": 1, "most": 6, "values": [1, 2, 6]}}
    }


def test_seeds_are_runs_and_the_same_command_goes_on(tmp_path, capsys):
    command = [*TOY, "--epochs", "1", "--runs-dir", str(tmp_path), "--name", "toy", "--seed", "3"]
    assert main([*command, "--seeds", "2", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    runs = [Run(tmp_path / "classify" / f"toy-seed{seed}") for seed in (3, 4)]
    assert result["runs"] == [str(run.path) for run in runs] and result["seeds"] == [3, 4]
    values = [read_json(run.metrics_file)["splits"]["test"]["accuracy"] for run in runs]
    found = result["metrics"]["test"]["accuracy"]
    assert found["values"] == values and found["mean"] == pytest.approx(sum(values) / 2)
    assert runs[0].history()[0]["loss"] != runs[1].history()[0]["loss"]

    # Stopped in the second: the first is kept, the second goes on.
    first = runs[0].history_file.stat().st_mtime_ns
    for file in (runs[1].history_file, runs[1].last_weights, runs[1].best_weights):
        file.unlink()
    assert main([*command, "--seeds", "2", "--no-evaluate"]) == 0
    said = capsys.readouterr()
    assert said.err.count("trained 1 epoch ") == 1 and "val_accuracy" in said.out
    assert runs[0].history_file.stat().st_mtime_ns == first and len(runs[1].history()) == 1

    # Other settings do not take their places.
    assert main([*command, "--seeds", "3", "--epochs", "2"]) == 2
    assert "toy-seed3 exists" in capsys.readouterr().err
    assert not (tmp_path / "classify" / "toy-seed5").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [(["--seeds", "1"], "x>=2"), (["--seeds", "2", "--resume", "toy"], "leave out the other")],
)
def test_wrong_requests(more, words, tmp_path, capsys):
    assert main(["train", "classify", *more, "--runs-dir", str(tmp_path)]) == 2
    assert words in capsys.readouterr().err
