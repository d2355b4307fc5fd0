"""Annotations that are damaged or not to be trusted: one line, exit code 2, file and place."""

import json

import format_sets as sets
import pytest

from tfproj.cli.main import main
from tfproj.data import DataOptions
from tfproj.data.registry import read_dataset


def changed(path, change):
    record = json.loads(path.read_text(encoding="utf-8"))
    change(record)
    sets.write_text(path, record)


def fails(root, capsys, words, file, task="segment"):
    """As the command line says it, for a check and for a training alike."""
    for command in (["data", "check", str(root)], ["train", task, "--data", str(root)]):
        assert main(command) == 2
        (line,) = capsys.readouterr().err.splitlines()[-1:]
        assert line.startswith(f"error: {root / file}"), line
        assert words in line, line


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("labelmap.txt", "car,1,2,3\n", "line 1: 'car,1,2,3' is no class"),
        ("labelmap.txt", "a:0,0,0::\nb:0,0,300::\n", "'b' has a color that is not of 0..255"),
        ("labelmap.txt", "a:0,0,0::\na:0,0,1::\n", "every class needs a name of its own"),
    ],
)
def test_a_damaged_table(tmp_path, capsys, file, text, words):
    sets.voc(tmp_path)
    (tmp_path / file).write_text(text)
    fails(tmp_path, capsys, words, file)


def test_a_list_of_voc_that_names_nothing(tmp_path):
    sets.voc(tmp_path)
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").write_text("../../x\nval_é4\n")
    dataset = read_dataset(str(tmp_path), None, DataOptions())
    assert len(dataset.splits["val"]) == 1
    errors = [str(f) for f in dataset.findings if f.severity == "error"]
    assert len(errors) == 1 and "val.txt names it" in errors[0]
