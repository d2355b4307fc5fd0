"""A run in training belongs to one process, and a killed one holds nothing."""

import json
import os
import subprocess
import sys

import pytest

from tfproj.core.files import write_json
from tfproj.errors import InputError
from tfproj.experiment.presets import make_config
from tfproj.runs import lock
from tfproj.runs.lock import LOCK_FILE, locked, require_unlocked
from tfproj.runs.run import check_place, create_run

pytestmark = pytest.mark.light

HOLD = """
import sys, time
from pathlib import Path
from tfproj.runs.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path):
    made = create_run(tmp_path, "classify", "mine", "x", overwrite=False)
    write_json(made.config_file, make_config("classify").to_dict())
    return made


@pytest.fixture
def holder(run):
    """A process that trains the run."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdout=-1) as process:
        assert process.stdout.readline().strip() == b"held"
        yield process
        process.kill()


def no_locks(monkeypatch):
    """As on a file system that has none."""

    def unsupported(file):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(lock, "_lock", unsupported)


@pytest.mark.parametrize("file_system", ["with locks", "without"])
def test_a_run_in_training_is_not_replaced_and_a_killed_one_is(
    run, holder, tmp_path, monkeypatch, file_system
):
    if file_system == "without":
        no_locks(monkeypatch)
    for attempt in (
        lambda: check_place(tmp_path, "classify", "mine", overwrite=True),
        lambda: create_run(tmp_path, "classify", "mine", "x", overwrite=True),
        lambda: locked(run.path).__enter__(),
        lambda: require_unlocked(run.path),
    ):
        with pytest.raises(InputError, match=f"is being trained by process {holder.pid} on "):
            attempt()
    assert run.config_file.exists()
    holder.kill()
    holder.wait()
    assert json.loads((run.path / LOCK_FILE).read_text())["pid"] == holder.pid
    with locked(run.path):
        pass
    assert check_place(tmp_path, "classify", "mine", overwrite=True)


def test_a_number_that_another_process_has_now_holds_nothing(run, monkeypatch):
    no_locks(monkeypatch)
    record = {**lock.this_process(), "started": "long ago"}
    (run.path / LOCK_FILE).write_text(json.dumps(record))
    require_unlocked(run.path)
    write_json(run.path / LOCK_FILE, {**record, "host": "another"})
    with pytest.raises(InputError, match=f"process {os.getpid()} on another"):
        require_unlocked(run.path)
    (run.path / LOCK_FILE).write_text("[")
    require_unlocked(run.path)


def test_the_block_lets_go_whatever_happens(run):
    with pytest.raises(ZeroDivisionError), locked(run.path):
        raise ZeroDivisionError
    require_unlocked(run.path)


def test_a_run_that_was_killed_as_it_began_can_be_replaced(run, tmp_path):
    run.config_file.unlink()
    (run.path / LOCK_FILE).touch()
    run.spec_file.touch()
    assert check_place(tmp_path, "classify", "mine", overwrite=True)
    # The same command goes on, too, in the same directory; another's things are left alone.
    assert check_place(tmp_path, "classify", "mine", overwrite=False)
    assert create_run(tmp_path, "classify", "mine", "x", overwrite=False) == run
    assert run.spec_file.exists()
    with locked(run.path), pytest.raises(InputError, match="is being trained"):
        create_run(tmp_path, "classify", "mine", "x", overwrite=False)
    (run.path / LOCK_FILE).unlink()
    with pytest.raises(InputError, match="exists; choose another"):
        check_place(tmp_path, "classify", "mine", overwrite=False)


def test_who_comes_next_learns_of_a_killed_one(run, holder):
    holder.kill()
    holder.wait()
    for killed in (True, False):
        with locked(run.path) as found:
            assert found is killed
