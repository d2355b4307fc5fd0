import csv
import errno
import json
import os
import stat

import pytest

from tfproj.core.files import replacing, write_csv, write_json, write_text
from tfproj.errors import InputError, TfprojError
from tfproj.experiment.presets import make_config
from tfproj.runs import environment
from tfproj.runs.run import create_run, find_run

pytestmark = pytest.mark.light


def new_run(root, task="classify", name=None, overwrite=False):
    run = create_run(root, task, name, "digits-default", overwrite)
    write_json(run.config_file, make_config(task).to_dict())
    run.best_weights.touch()
    return run


def test_names_count_up_and_a_name_is_kept(tmp_path):
    assert new_run(tmp_path).path.name == "digits-default-1"
    assert new_run(tmp_path).path.name == "digits-default-2"
    assert new_run(tmp_path, name="mine").path == tmp_path / "classify" / "mine"


def test_a_run_is_never_replaced_unless_told(tmp_path):
    run = new_run(tmp_path, name="mine")
    run.metrics_file.write_text("{}")
    with pytest.raises(InputError, match="--overwrite"):
        new_run(tmp_path, name="mine")
    assert run.metrics_file.exists()
    new_run(tmp_path, name="mine", overwrite=True)
    assert not run.metrics_file.exists()


def test_overwrite_spares_what_is_not_a_run(tmp_path):
    (tmp_path / "classify" / "mine").mkdir(parents=True)
    (tmp_path / "classify" / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match="not a run directory"):
        new_run(tmp_path, name="mine", overwrite=True)
    assert (tmp_path / "classify" / "mine" / "thesis.tex").exists()


@pytest.mark.parametrize("name", ["", "..", "a/b", ".hidden", "/tmp"])
def test_a_name_can_not_leave_the_folder(tmp_path, name):
    with pytest.raises(InputError, match="plain directory name"):
        create_run(tmp_path, "classify", name, "x", overwrite=True)


def test_finding_a_run(tmp_path):
    first, second = new_run(tmp_path, "classify", "a"), new_run(tmp_path, "segment", "b")
    os.utime(first.config_file, (1, 1))
    assert find_run(None, tmp_path) == second
    assert find_run(None, tmp_path, "classify") == first
    for name in ("a", "classify/a", str(first.path)):
        assert find_run(name, tmp_path) == first


def test_a_name_that_two_tasks_have(tmp_path):
    first, second = new_run(tmp_path, "classify", "demo"), new_run(tmp_path, "segment", "demo")
    with pytest.raises(InputError, match=r"classify.demo and of .*segment.demo; say which"):
        find_run("demo", tmp_path)
    assert find_run("demo", tmp_path, "segment") == second
    assert find_run("classify/demo", tmp_path) == first


def test_a_run_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="no run in .*tfproj train segment"):
        find_run(None, tmp_path, "segment")
    new_run(tmp_path, name="fashion")
    with pytest.raises(InputError, match="did you mean 'classify/fashion'"):
        find_run("clasify/fashon", tmp_path)
    with pytest.raises(InputError, match="config.json is missing"):
        find_run(str(tmp_path), tmp_path)
    with pytest.raises(InputError, match="unknown run"):
        find_run("9" * 5000, tmp_path)


def test_writes_are_whole_or_not_there(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise RuntimeError("power cut")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_text_is_the_same_bytes_on_every_system(tmp_path):
    write_text(tmp_path / "a", "é\n")
    assert (tmp_path / "a").read_bytes() == "é\n".encode()


def test_files_have_the_usual_permissions(tmp_path):
    write_text(tmp_path / "a", "x")
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~umask


def test_writing_where_one_may_not_is_wrong_input(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        create_run(tmp_path / "file", "classify", None, "x", overwrite=False)
    with pytest.raises(InputError, match="cannot be written"):
        write_text(tmp_path / "file" / "below", "x")


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.json"
    write_text(path, "old")
    message = r"a\.json: writing failed \(No space left"
    with pytest.raises(TfprojError, match=message) as caught, replacing(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.exit_code == 1
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_history_keeps_every_digit(tmp_path):
    run = new_run(tmp_path)
    assert run.history() == []
    rows = [{"epoch": 1.0, "loss": 0.1 + 0.2}, {"epoch": 2.0, "loss": 1e-17}]
    write_csv(run.history_file, rows)
    assert run.history() == rows
    for text in ("epoch,loss\n1,abc\n", "epoch,loss\ninf,1\n", "loss\n1\n", "epoch,loss\n2,1\n"):
        run.history_file.write_text(text)
        with pytest.raises(InputError, match="history.csv: damaged"):
            run.history()


def test_a_table_gives_back_what_it_was_given(tmp_path):
    rows = [{"image": name, "error": ""} for name in ("a\rb", "a\nb", "a\r\nb", 'a"b', "a,b")]
    write_csv(tmp_path / "a.csv", rows)
    assert (tmp_path / "a.csv").read_bytes().startswith(b"image,error\n")
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.DictReader(file)) == rows


def test_damaged_json_is_one_line(tmp_path):
    run = new_run(tmp_path)
    run.config_file.write_text("{")
    with pytest.raises(InputError, match="config.json: damaged"):
        run.config()
    run.config_file.write_text(json.dumps({"task": "classify", "epoch": 1}))
    with pytest.raises(InputError, match="did you mean 'epochs'"):
        run.config()
    with pytest.raises(InputError, match=r"last\.keras is missing"):
        run.require(run.last_weights)


def test_a_run_does_not_keep_the_password_of_a_study(monkeypatch):
    url = "postgresql://me:my/secret@host/db#photos"
    monkeypatch.setattr("sys.argv", ["tfproj", "tune", "classify", "--study", url, "--data", "a@b"])
    command = environment.describe("float32")["command"]
    assert command[3:] == ["--study", "postgresql://host/db#photos", "--data", "a@b"]
