"""The soak in ``tests/soak`` works: a few of its attempts, what it writes, and that it can fail."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the soak looks into /proc", allow_module_level=True)

from soak import frame, run, state  # noqa: E402


def test_killed_commands_go_on_and_the_report_says_so(tmp_path):
    page, figures = tmp_path / "page.md", tmp_path / "figures.json"
    page.write_text(f"before\n{run.BEGIN}\nold\n{run.END}\nafter\n")
    command = [sys.executable, "-m", "tests.soak", "--minutes", "0.1", "--most", "3"]
    command += ["--only", "crashes: data convert", "--markdown", page, "--json", figures]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    row = json.loads(figures.read_text())["cases"]["crashes: data convert"]
    assert 1 <= row["tried"] <= 3 and row["failed"] == 0
    text = page.read_text()
    assert "| crashes: data convert |" in text and "old" not in text and text.endswith("after\n")


def attempt(trial, ready):
    trial.check(trial.number != 1, "the second goes wrong")


def test_what_fails_is_counted_and_can_be_tried_again(tmp_path, capsys):
    case = frame.Case("toy: one", attempt, most=3)
    counts = case.run(60, 0, tmp_path)
    assert (counts.tried, counts.failed) == (3, 1)
    assert counts.notes == ["trial 1: the second goes wrong"]
    assert case.run(60, 0, tmp_path, range(1, 2)).failed == 1
    assert "kept: " in capsys.readouterr().err
    absent = frame.Case("toy: two", attempt, missing=lambda: "no such option")
    assert absent.run(60, 0, tmp_path).skipped == "no such option"


def test_interrupted_soaks_leave_out_what_is_done(tmp_path, monkeypatch):
    tried = []
    cases = [frame.Case(f"toy: {n}", lambda t, r, n=n: tried.append(n), most=1) for n in "ab"]
    options = run._parser().parse_args(["--minutes", "1", "--json", str(tmp_path / "a.json")])
    run.soak(cases[:1], options)
    options.minutes = 0
    options.resume = True
    assert run.soak(cases, options)["cases"]["toy: b"]["skipped"] == run.LATE
    options.minutes = 1
    report = run.soak(cases, options)
    assert tried == ["a", "b"] and list(report["cases"]) == ["toy: a", "toy: b"]
    assert report["minutes"] == 2


def test_half_a_checkpoint_is_another_file(tmp_path):
    (tmp_path / "last.keras").write_bytes(b"PK half")
    with pytest.raises(frame.Failed, match="different: last.keras"):
        state.require_same(state.snapshot(tmp_path), {"last.keras": "of the whole one"})


def test_litter_and_other_files_are_seen(tmp_path):
    (tmp_path / "a").write_text("x")
    before = state.snapshot(tmp_path)
    (tmp_path / "a").write_text("y")
    with pytest.raises(frame.Failed, match="different: a"):
        state.require_same(state.snapshot(tmp_path), before)
    (tmp_path / ".tfproj-x").touch()
    with pytest.raises(frame.Failed, match="1 temporary files stay: .*tfproj-x"):
        state.require_clean(tmp_path)
    with pytest.raises(frame.Failed, match="left over: .tfproj-x"):
        state.require_same(state.snapshot(tmp_path), before)
