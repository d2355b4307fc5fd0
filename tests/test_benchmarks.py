"""Every script in benchmarks/ runs at toy size, whichever of its peers are installed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = sorted(
    path.stem
    for path in (ROOT / "benchmarks").glob("*.py")
    if '__name__ == "__main__"' in path.read_text()
)
ON_REAL_DATA = ("time_to_accuracy",)


def run(name, *arguments):
    command = [sys.executable, f"benchmarks/{name}.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.real_data] * (n in ON_REAL_DATA)) for n in SCRIPTS],
)
def test_script_runs_in_quick_mode(name, tmp_path, request):
    if name in ON_REAL_DATA:
        request.getfixturevalue("real_fashion")
    result = run(name, "--quick", "--json", tmp_path / "figures.json")
    assert result.returncode == 0, result.stderr[-2000:]
    assert "|---" in result.stdout  # a table, and nothing of the frameworks' chatter before it
    report = json.loads((tmp_path / "figures.json").read_text())
    assert report["quick"] is True
    assert report["machine"]["versions"] and report["machine"]["cpus"] > 0
    assert report["rows"]
    failed = [row["note"] for row in report["rows"] if row.get("note", "").startswith("failed")]
    assert not failed


@pytest.mark.parametrize("name", SCRIPTS)
def test_script_says_in_its_docstring_how_to_run_it(name):
    text = (ROOT / "benchmarks" / f"{name}.py").read_text()
    assert f"python benchmarks/{name}.py" in text.split('"""')[1]


def test_wrong_usage_is_one_line_before_anything_is_measured(tmp_path):
    result = run("inference", "--json", tmp_path / "nowhere" / "figures.json")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].endswith("nowhere: no such directory")
    result = run("inference", "--model", tmp_path / "absent.onnx")
    assert result.returncode == 2
    assert result.stderr.splitlines() == [f"error: {tmp_path / 'absent.onnx'}: no such file"]


def test_ratio_is_the_median_of_the_rounds(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import common

    # The machine was half as fast in the second round: medians alone would say 1.5.
    row = common.row("case", "ours", "img/s", [20.0, 10.0, 20.0], [10.0, 5.0, 15.0], "theirs")
    assert row["ratio"] == 2
    with_goal = common.row("case", "ours", "s", [1.0, 3.0], goal=("at most", 1.5))
    assert with_goal["met"] is False
    assert "| ours | 20.0 img/s | 10.0 - 20.0 | 2.00 x theirs |" in common.markdown([row])


def test_interleave_goes_on_without_what_is_not_installed(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import common

    def absent():
        raise common.Unavailable(common.MISSING)

    order = []
    found, notes = common.interleave(
        {"a": lambda: order.append("a"), "b": absent, "c": lambda: order.append("c")}, 2
    )
    assert notes == {"b": "not installed: make bench-setup"}
    assert {name: len(values) for name, values in found.items()} == {"a": 2, "c": 2}
    assert len(order) == 6 and order[2:4] != order[4:6]  # another one begins each round
