"""The notebook in examples/ runs from its first cell to its last."""

import json
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parent.parent / "examples" / "photographs.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def execute(folder, monkeypatch, **parameters):
    """Run every code cell in one namespace, as a kernel would, and return it.

    ``parameters`` take the place of those in the cell with that tag, as papermill has it.
    """
    monkeypatch.chdir(folder)
    names = {}
    for number, cell in enumerate(CELLS):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
            if "parameters" in cell["metadata"].get("tags", []):
                assert parameters.keys() <= names.keys()
                names |= parameters
    return names


def test_on_drawn_pictures(tmp_path, monkeypatch, capsys):
    flags = "--image-size 64 --encoder-weights drawn"
    names = execute(tmp_path, monkeypatch, flags=flags)
    printed = capsys.readouterr()
    assert "preset photo: colour images of 96 x 120 px" in printed.err
    assert printed.out.count("triangle/") >= 2
    assert names["sheet"].getbbox() == (0, 0, 640, 96)
    assert 0.1 < names["segmentation"].shares()["facade"] < 1
    assert (tmp_path / "runs/classify/photographs/report.html").exists()


@pytest.mark.real_data
def test_on_photographs(real_flowers, tmp_path, monkeypatch, capsys):
    flags = "--limit 60 --image-size 128"
    names = execute(tmp_path, monkeypatch, photographs=real_flowers, flags=flags)
    right = [
        path.parent.name == result.label
        for path, result in zip(
            names["some"], names["predictor"].predict(names["some"]), strict=True
        )
    ]
    assert sum(right) > len(right) / 2
    assert not (tmp_path / "pictures").exists()


def test_no_outputs_are_stored():
    # Pictures of others must not come into the repository with them.
    code = [cell for cell in CELLS if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)
