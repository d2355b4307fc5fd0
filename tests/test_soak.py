"""The soak in ``tests/soak`` works: a few of its attempts, what it writes, and that it can fail."""

import json
import random
import socket
import subprocess
import sys
from pathlib import Path

import pytest

if sys.platform != "linux":
    pytest.skip("the soak looks into /proc", allow_module_level=True)

from soak import frame, hostile, run, state, watch  # noqa: E402


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


def test_damaged_inputs_are_tried_and_counted(tmp_path):
    trial = frame.Trial(0, tmp_path, random.Random(0), 1.0)
    counts = hostile.inputs("idx", trial, None)
    assert counts.tried > 100 and counts.failed == 0
    assert "refused" in counts.notes[0]


def test_what_ends_a_process_is_kept_and_the_next_goes_on(tmp_path, monkeypatch):
    def ends(command, **more):
        kind, number, count, _, folder, _ = command[3:]
        if int(number) % 2:
            row = frame.record(frame.Counts(int(count), 0, [kind]))
            return subprocess.CompletedProcess(command, 0, json.dumps(row), "")
        (Path(folder) / "number").write_text(str(int(number) + 4))
        (Path(folder) / "current").write_bytes(b"0000000a-GIF")
        return subprocess.CompletedProcess(command, -11, "", "Segmentation fault")

    monkeypatch.setattr(hostile, "FOUND", tmp_path / "found")
    monkeypatch.setattr(hostile.subprocess, "run", ends)
    counts = hostile.inputs("picture", frame.Trial(0, tmp_path, random.Random(0), 60.0), None)
    assert (counts.tried, counts.failed) == (hostile.MOST, 1)
    assert ": exit code -11: Segmentation fault " in counts.notes[0]
    (kept,) = (tmp_path / "found" / "picture").iterdir()
    assert kept.read_bytes() == b"GIF" and kept.name.startswith("0000000a-")


def test_what_an_input_must_not_lead_to_is_seen(tmp_path):
    inside = tmp_path / "inside"
    inside.mkdir()
    guard = watch.Guard(inside)
    guard.on = True
    (inside / "a").write_text("may be")
    (inside / "a").read_text()
    assert guard.seen == []
    (inside / "a").rename(tmp_path / "moved")
    assert guard.seen.pop().startswith("os.rename")
    (tmp_path / "b").write_text("may not")
    with socket.socket() as one:
        one.connect_ex(("127.0.0.1", 9))
    subprocess.run(["true"], check=True)
    guard.on = False
    assert [words.split()[0] for words in guard.seen][:2] == ["open", "socket.__new__"]
    assert {"socket.connect", "subprocess.Popen"} <= {words.split()[0] for words in guard.seen}


def test_what_reaches_more_is_damaged_further(tmp_path):
    from tfproj.core.file_kinds import kind_of

    guide = watch.Guide(tmp_path, tmp_path / "found")
    given = []

    def change(data, rng, other):
        given.append(data)
        return b"GIF8" + data

    for number in (0, 1, watch.GUIDED):
        with guide.watching(number):
            kind_of(guide.damage(b"seed", random.Random(0), b"", change))
    assert given == [b"seed", b"seed", b"GIF8seed"] and guide.reached > 0
    watch.keep(tmp_path, tmp_path / "found")
    again = watch.Guide(tmp_path, tmp_path / "found")
    with again.watching(0):
        again.damage(b"seed", random.Random(0), b"", change)
    assert given[-1] == b"GIF8GIF8seed"
