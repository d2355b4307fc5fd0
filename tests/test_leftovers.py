"""What a killed process left goes with the next write, and nothing else does."""

import errno
import os
import subprocess
import sys
import time

import pytest

from tfproj.core import files, leftovers
from tfproj.core.files import replacing, replacing_directory, write_text
from tfproj.core.leftovers import scratch
from tfproj.errors import InputError, TfprojError

pytestmark = pytest.mark.light

DIE = """
import os, signal, sys
from pathlib import Path
from tfproj.core import files, leftovers
place = Path(sys.argv[1])
with files.replacing(place / "a.txt"), files.replacing_directory(place / "b") as b:
    (b / "half").touch()
    with leftovers.scratch():
        print("in", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def writer(tmp_path, monkeypatch):
    """A process in the middle of writing a file, a directory, and something temporary."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setattr(leftovers, "_swept", set())
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    command = [sys.executable, "-c", DIE, str(tmp_path)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, env=environment) as process:
        assert process.stdout.readline().strip() == b"in"
        yield process
        process.kill()


def litter(folder):
    return sorted(path.name for path in folder.rglob(f"{leftovers.MARK}*"))


@pytest.mark.skipif(sys.platform == "win32", reason="there one can't tell who runs")
def test_what_the_dead_left_goes_and_what_the_living_have_stays(writer, tmp_path, monkeypatch):
    (tmp_path / ".hidden").touch()
    write_text(tmp_path / "c", "x")
    assert len(litter(tmp_path)) == 3
    writer.kill()
    writer.wait()
    write_text(tmp_path / "c", "x")
    assert len(litter(tmp_path)) == 3  # one look is enough, however many files are written
    monkeypatch.setattr(leftovers, "_swept", set())
    write_text(tmp_path / "c", "x")
    assert len(litter(tmp_path)) == 1
    with scratch() as folder:
        assert litter(tmp_path) == [folder.name]
    assert not litter(tmp_path) and {".hidden", "c"} <= {p.name for p in tmp_path.iterdir()}


def test_what_another_machine_left_goes_when_it_is_old(tmp_path, monkeypatch):
    old, new = (tmp_path / f"{leftovers.MARK}0-1-2-{name}" for name in ("old", "new"))
    old.mkdir()
    new.touch()
    long_ago = time.time() - leftovers.FOREIGN - 60
    os.utime(old, (long_ago, long_ago))
    leftovers.sweep(tmp_path)
    assert litter(tmp_path) == [new.name]


def test_what_made_room_for_nothing_is_put_back(tmp_path):
    gone = f"{leftovers.MARK}{leftovers._host()}-99999999-0-x{leftovers.WAS}"
    for name in ("here", "missing"):
        (tmp_path / f"{gone}{name}").write_text("old")
    (tmp_path / "here").write_text("new")
    leftovers.sweep(tmp_path)
    assert not litter(tmp_path) or sys.platform == "win32"
    if sys.platform != "win32":
        found = {path.name: path.read_text() for path in tmp_path.iterdir()}
        assert found == {"here": "new", "missing": "old"}


def test_a_file_system_that_renames_over_nothing(tmp_path, monkeypatch):
    def replace(source, target, rename=os.rename):
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    for text in ("one", "two"):
        write_text(tmp_path / "a", text)
        assert (tmp_path / "a").read_text() == text
        with replacing_directory(tmp_path / "b") as folder:
            (folder / text).touch()
        assert [path.name for path in (tmp_path / "b").iterdir()] == [text]
    assert not litter(tmp_path)


def test_a_file_takes_no_directory_s_place(tmp_path):
    (tmp_path / "a" / "kept").mkdir(parents=True)
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path / "a", "x")
    assert (tmp_path / "a" / "kept").is_dir() and not litter(tmp_path)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_the_old_one_is_back_where_the_new_one_does_not_come(tmp_path, monkeypatch, kind):
    if kind == "file":
        (tmp_path / "a").write_text("old")
    else:
        (tmp_path / "a" / "old").mkdir(parents=True)
    place = replacing if kind == "file" else replacing_directory

    def fails(*args):
        raise OSError(errno.EEXIST, "File exists")

    rename = type(tmp_path).rename

    def no_new(path, target):
        if leftovers.WAS not in f"{path}{target}":
            raise OSError(errno.EIO, "Input/output error")
        return rename(path, target)

    monkeypatch.setattr(files.os, "replace", fails)
    monkeypatch.setattr(type(tmp_path), "rename", no_new)
    with pytest.raises(TfprojError, match="Input/output error"), place(tmp_path / "a"):
        pass
    old = tmp_path / "a"
    assert old.read_text() == "old" if kind == "file" else (old / "old").is_dir()
    assert not litter(tmp_path)
