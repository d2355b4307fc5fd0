"""``tfproj tune``: a study of runs that ends bad ones early and outlives its workers."""

import contextlib
import json
import sqlite3
import subprocess
import sys
import time

import pytest

optuna = pytest.importorskip("optuna", reason="the extra tune is not installed")

from optuna.trial import TrialState  # noqa: E402

from tfproj.cli.main import main  # noqa: E402
from tfproj.core.files import write_json  # noqa: E402
from tfproj.errors import InputError, NotWritten  # noqa: E402
from tfproj.experiment.presets import make_config  # noqa: E402
from tfproj.runs.lock import this_process  # noqa: E402
from tfproj.runs.run import Run  # noqa: E402
from tfproj.search import space as spaces  # noqa: E402
from tfproj.search import study as studies  # noqa: E402

TOY = ["--data", "digits", "--preset", "original", "--limit", "64", "--batch-size", "32"]
TOY += ["--augment", "none", "--epochs", "2"]
SPACE = "learning_rate: {low: 1e-3, high: 1e-2, log: true}\n"


@pytest.fixture
def tune(tmp_path):
    """Runs the command on a study of digits; returns the exit code."""
    (tmp_path / "space.yaml").write_text(SPACE)

    def run(*args, task="classify", space="space.yaml", study="a.journal"):
        at = study if "://" in study else str(tmp_path / study)
        command = ["tune", task, "--study", at, "--space", str(tmp_path / space), *TOY]
        return main([*command, "--runs-dir", str(tmp_path / "runs"), *args])

    return run


def opened(path):
    backend = optuna.storages.journal.JournalFileBackend(str(path))
    return optuna.load_study(study_name="tfproj", storage=optuna.storages.JournalStorage(backend))


def test_trials_are_runs_and_the_best_is_a_config(tune, tmp_path, capsys):
    assert tune("--trials", "2", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    first, second = result["trials"]
    assert first["values"]["learning_rate"] == make_config("classify", "original").learning_rate
    best = max((first, second), key=lambda trial: trial["value"])
    run = Run(tmp_path / "runs" / "classify" / f"a-{best['number']}")
    assert result["best"]["run"] == str(run.path)
    assert run.config().to_dict() == result["best"]["config"]
    assert best["value"] == max(row["val_accuracy"] for row in run.history())

    # Four trials that were better from the first epoch on, then one that can't keep up.
    study = opened(tmp_path / "a.journal")
    done = optuna.trial.create_trial(
        state=TrialState.COMPLETE, value=1.0, intermediate_values={1: 1.0, 2: 1.0},
        params={"learning_rate": 2e-3}, distributions=study.trials[0].distributions,
    )  # fmt: skip
    study.add_trials([done] * 4)
    assert tune("--trials", "7", "--json") == 0
    last = json.loads(capsys.readouterr().out)["trials"][-1]
    assert last["state"] == "pruned"
    pruned = Run(tmp_path / "runs" / "classify" / "a-6")
    assert len(pruned.history()) == 1 and "after epoch 1" in pruned.warnings()["pruned"]
    assert main(["runs", "--state", "pruned", "--runs-dir", str(tmp_path / "runs")]) == 0
    assert "classify/a-6" in capsys.readouterr().out
    assert tune("--trials", "7") == 0  # nothing is left to do
    said = capsys.readouterr()
    assert "trial 7" not in said.err and "tfproj train classify --config" in said.out


def test_a_killed_workers_trial_is_taken_up_where_it_was(tune, tmp_path, capsys):
    (tmp_path / "space.yaml").write_text(SPACE)
    more = ["--epochs", "6", "--limit", "1000", "--batch-size", "4", "--trials", "1"]
    command = [
        sys.executable, "-m", "tfproj", "tune", "classify", *TOY, *more,
        "--study", tmp_path / "a.journal", "--space", tmp_path / "space.yaml",
        "--runs-dir", tmp_path / "runs",
    ]  # fmt: skip
    run = Run(tmp_path / "runs" / "classify" / "a-0")
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as worker:
        while not run.history_file.exists() and worker.poll() is None:
            time.sleep(0.02)
        worker.kill()
    before = run.history()
    assert 1 <= len(before) < 6
    assert tune(*more, "--json") == 0
    said = capsys.readouterr()
    assert "trial 0: its worker is gone" in said.err
    (trial,) = json.loads(said.out)["trials"]
    assert (trial["number"], trial["run"]) == (1, str(run.path))
    history = run.history()
    assert len(history) == 6 and history[: len(before)] == before
    values = opened(tmp_path / "a.journal").trials[1].intermediate_values
    assert values == {row["epoch"]: row["val_accuracy"] for row in history}


def test_trials_that_fail_are_recorded_and_all_of_them_are_an_error(tune, tmp_path, capsys):
    (tmp_path / "wild.yaml").write_text("learning_rate: [1e38, 3e38]")
    assert tune("--trials", "2", space="wild.yaml") == 1
    said = capsys.readouterr().err
    assert "trial 0 failed" in said and "trial 1 failed" in said
    assert "no trial of 2 reached its end; the last: the loss is not a number" in said


def test_an_interrupted_trial_is_queued_for_the_next_worker(tune, tmp_path, monkeypatch, capsys):
    from tfproj.search import tune as searching
    from tfproj.training.callbacks import Interrupted

    def stop(*args, **kwargs):
        raise Interrupted("of the training")

    monkeypatch.setattr(searching, "train", stop)
    assert tune("--trials", "2") == 1
    assert "the same command goes on" in capsys.readouterr().err
    stopped, queued = opened(tmp_path / "a.journal").trials
    assert (stopped.state, queued.state) == (TrialState.FAIL, TrialState.WAITING)
    assert queued.user_attrs == {"run": "a-0", "instead_of": 0, "worker": this_process()}
    assert studies.counted(opened(tmp_path / "a.journal")) == []


def test_a_run_that_is_there_is_no_fault_of_the_values(tune, tmp_path, monkeypatch, capsys):
    other = Run(tmp_path / "runs" / "classify" / "a-0")
    other.path.mkdir(parents=True)
    write_json(other.config_file, make_config("classify").to_dict())
    other.last_weights.touch()
    assert tune("--trials", "3") == 2
    assert "a-0 exists; choose another --name" in capsys.readouterr().err
    (trial,) = opened(tmp_path / "a.journal").trials
    assert trial.state == TrialState.FAIL and "run" not in trial.user_attrs
    monkeypatch.setattr(studies, "is_running", lambda worker: False)
    assert tune("--trials", "1", "--name", "b", "--json") == 0
    (trial,) = json.loads(capsys.readouterr().out)["trials"]
    assert trial["run"] == str(other.path.with_name("b-0"))
    assert {path.name for path in other.path.iterdir()} == {"config.json", "last.keras"}


@pytest.fixture
def begun(tmp_path):
    """A study of digits, of which nothing was trained, as another worker left it."""
    config = make_config("classify", "original", data="digits")
    record = {**config.to_dict(), "space": spaces.default_space(config)}
    studies.open_study(str(tmp_path / "a.journal"), record, {"learning_rate": 1e-3})
    return record


def test_a_study_of_something_else_is_refused(begun, tmp_path, tune, capsys):
    at = str(tmp_path / "a.journal")
    assert len(studies.open_study(at, begun, {}).trials) == 1  # the first values, once
    for key, value in {"task": "segment", "epochs": 99, "space": {}}.items():
        with pytest.raises(InputError, match=f"begun with {key} .*another --study"):
            studies.open_study(at, {**begun, key: value}, {})
    fewer = {key: value for key, value in begun.items() if key != "probe"}
    with pytest.raises(InputError, match="begun with probe False, now it is None"):
        studies.open_study(at, fewer, {})
    other = optuna.create_study(storage=f"sqlite:///{tmp_path / 'b.db'}", study_name="tfproj")
    other.add_trial(optuna.trial.create_trial(value=1.0))
    with pytest.raises(InputError, match="begun with task None"):
        studies.open_study(f"sqlite:///{tmp_path / 'b.db'}", begun, {})


def test_a_database_holds_studies_by_name(begun, tmp_path):
    at = f"sqlite:///{tmp_path / 'studies.db'}"
    for name, epochs in (("one", 1), ("two", 2)):
        study = studies.open_study(f"{at}#{name}", {**begun, "epochs": epochs}, {})
        assert study.study_name == name
        assert studies.open_study(f"{at}#{name}", {**begun, "epochs": epochs}, {}).trials
    trial = study.ask()
    trial.set_user_attr("worker", {**this_process(), "started": "before the machine was"})
    studies.take_up_dead(study)
    assert [t.user_attrs.get("instead_of") for t in study.trials] == [None, 0]
    trial = study.ask()
    trial.set_user_attr("worker", this_process())
    studies.take_up_dead(study)  # it lives
    assert study.trials[-1].state == TrialState.RUNNING


def test_a_journal_with_half_a_line_is_gone_on_with(begun, tmp_path):
    path, other = tmp_path / "a.journal", tmp_path / "mine.txt"
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    assert len(studies.open_study(str(path), begun, {}).trials) == 1
    assert path.read_bytes().startswith(whole)
    assert all(map(json.loads, path.read_text().splitlines()))
    other.write_text("one line\nand a half")
    with pytest.raises(InputError):
        studies.open_study(str(other), begun, {})
    assert other.read_text() == "one line\nand a half"


def test_a_trial_killed_as_it_began_or_before_it_was_queued_is_taken_up(begun, tmp_path):
    study = studies.open_study(str(tmp_path / "a.journal"), begun, {})
    gone = {**this_process(), "started": "long ago"}
    study.ask().set_user_attr("worker", gone)
    studies.take_up_dead(study)
    queued = study.trials[-1]
    assert queued.system_attrs["fixed_params"] == {"learning_rate": 1e-3}
    again = study.ask()
    again.set_user_attr("worker", gone)
    study.tell(again, state=TrialState.FAIL)
    for _ in range(2):  # and once only
        studies.take_up_dead(study)
        assert [t.user_attrs.get("instead_of") for t in study.trials] == [None, 0, 1]
    studies.enqueue(study, {})
    assert [studies.ordinal(study, t.number) for t in study.trials] == [0, 0, 0, 1]


def test_a_full_disk_is_no_fault_of_the_values(tune, tmp_path, monkeypatch, capsys):
    from tfproj.search import tune as searching

    def full(*args, **kwargs):
        raise NotWritten("last.keras: writing failed (No space left on device)")

    monkeypatch.setattr(searching, "train", full)
    assert tune("--trials", "2") == 1
    assert capsys.readouterr().err.endswith("No space left on device)\n")
    states = [trial.state for trial in opened(tmp_path / "a.journal").trials]
    assert states == [TrialState.FAIL, TrialState.WAITING]


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("missing/a.journal", "directory that exists"),
        ("text.txt", "text.txt: "),
        ("nosuch://me:secret@host/db", "--study nosuch://host/db: "),
        ("nosuch://me:sec/secret@host/db", "--study nosuch://host/db: "),
        ("nosuch://host/db?user=me&password=secret", "password=: "),
    ],
)
def test_a_place_that_holds_no_study_is_one_line(tmp_path, monkeypatch, begun, where, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("not a journal\n" * 3)
    with pytest.raises(InputError, match=words) as error:
        studies.open_study(where, begun, {})
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rat: [1, 2]", "did you mean 'learning_rate'"),
        ("data: [a, b]", "data can't be searched"),
        ("seed: [1, 2]", "--seed sets it"),
        ("learning_rate: {low: 2, high: 1}", "empty range"),
        ("learning_rate: {low: 0, high: 1}", "must be above 0"),
        ("weight_decay: {low: 0, high: 1, log: true}", "on a logarithmic scale"),
        ("weight_decay: {low: 0, top: 1}", "unknown key 'top'"),
        ("weight_decay: {low: 0}", "low and high must be numbers"),
        ("epochs: {low: 1, high: 2.5}", "whole number"),
        ("augment: {low: 0, high: 1}", "give choices"),
        ("augment: [none, shift, wrap]", "unknown augment 'wrap'"),
        ("augment: [none]", "two or more different"),
        ("augment: 3", "a list of choices"),
        ("dice: [0, 1]", "for segment only"),
        ("{}", "names no field"),
    ],
)
def test_a_wrong_space_is_one_line_that_says_where(tmp_path, text, words):
    file = tmp_path / "space.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=words) as error:
        spaces.read_space(file, make_config("classify", data="digits"), {"seed": 0})
    assert str(error.value).startswith(str(file))


def test_the_default_space_is_around_the_preset_and_leaves_flags_alone():
    for task in ("classify", "segment"):
        config = make_config(task, "best", data="digits", augment="flip")
        space = spaces.default_space(config, {"batch_size": 64})
        assert "batch_size" not in space and len(space) == 4
        assert spaces.own_values(config, space)["learning_rate"] == config.learning_rate
        low = {
            name: values.get("low", values.get("choices", [0])[-1])
            for name, values in space.items()
        }
        assert spaces.with_values(config, low).augment in ("shift", "photo")


def test_without_optuna_it_says_what_to_install(tune, monkeypatch, capsys):
    monkeypatch.setattr("tfproj.cli.tune.importlib.util.find_spec", lambda name: None)
    assert tune() == 2
    assert "pip install 'tfproj[tune]'" in capsys.readouterr().err


def drawn_study(path, **record):
    """A journal of three trials, one of which was ended early, without a training."""
    config = make_config("classify", "original").to_dict()
    facts = {**config, "data": "0f", "space": {}, **record}
    study = studies.open_study(str(path), facts, {"learning_rate": 1e-3, "augment": "flip"})
    shape = optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)
    names = optuna.distributions.CategoricalDistribution(["flip", "none"])
    for rate, augment, values in (
        (1e-3, "flip", (0.5, 0.6)),
        (2e-3, "none", (0.6, 0.8)),
        (0.1, "flip", (0.1,)),
    ):
        ended = len(values) == 1
        study.add_trial(
            optuna.trial.create_trial(
                state=TrialState.PRUNED if ended else TrialState.COMPLETE,
                value=values[-1], intermediate_values=dict(enumerate(values, 1)),
                params={"learning_rate": rate, "augment": augment},
                distributions={"learning_rate": shape, "augment": names},
                user_attrs={"run": f"<b>-{rate}"},
            )
        )  # fmt: skip
    return study


@pytest.mark.parametrize("database", [False, True])
def test_the_page_of_a_study(database, tmp_path, capsys):
    where = (
        f"sqlite:///{tmp_path / 'a.db'}#photos" if database else str(tmp_path / "photos.journal")
    )
    drawn_study(where)
    page = tmp_path / "out" / "page.html"
    assert main(["report", "--study", where, "--output", str(page), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["report"] == str(page)
    text = page.read_text()
    assert "<h1>photos</h1>" in text and text.count("<svg") >= 2 and "trial 2, the best" in text
    assert (
        "classify/&lt;b&gt;-0.002" in text and "<b>-" not in text and 'class="left">pruned' in text
    )
    assert "http" not in text.replace("http://www.w3.org/", "").replace("http-equiv", "")
    best = json.loads((page.with_suffix("") / "best.json").read_text())
    assert best["learning_rate"] == 2e-3 and best["augment"] == "none" and "space" not in best
    rows = (page.with_suffix("") / "trials.csv").read_text().splitlines()
    assert rows[0] == "trial,state,value,learning_rate,augment,run" and len(rows) == 4
    # What the page says can be typed.
    from tfproj.cli.train import build_config

    config = build_config(
        "classify", None, str(page.with_suffix("") / "best.json"), {"data": "digits"}
    )
    assert config.learning_rate == 2e-3 and config.epochs == 15


def test_a_page_changes_nothing_of_a_study(tmp_path):
    from tfproj.report import build_study

    drawn_study(tmp_path / "a.journal")
    (tmp_path / "a.journal.lock").unlink()
    text = (tmp_path / "a.journal").read_bytes() + b'{"op_code"'  # a worker is writing
    (tmp_path / "a.journal").write_bytes(text)
    page = build_study(str(tmp_path / "a.journal"), tmp_path / "out" / "a.html")
    assert "trial 2, the best" in page.read_text()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["a.journal"]
    assert (tmp_path / "a.journal").read_bytes() == text


def test_the_best_of_many_trials_is_among_the_curves(tmp_path):
    from tfproj.report import build_study

    study = drawn_study(tmp_path / "a.journal")
    study.add_trials([study.trials[1]] * 101)
    text = build_study(str(tmp_path / "a.journal"), tmp_path / "a.html").read_text()
    assert "trial 2, the best" in text


def test_studies_that_can_not_be_shown(tmp_path, capsys):
    from tfproj.report import build_study

    for where in (str(tmp_path / "no.journal"), f"sqlite:///{tmp_path / 'no.db'}"):
        with pytest.raises(InputError, match="no such file"):
            build_study(where, tmp_path / "a.html")
    assert not list(tmp_path.iterdir())
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as other:
        other.execute("CREATE TABLE mine (a)")
        with pytest.raises(InputError, match="other.db: .*no such table"):
            build_study(f"sqlite:///{tmp_path / 'other.db'}", tmp_path / "a.html")
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("mine",)]
    drawn_study(tmp_path / "a.journal")
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "b.journal"))
    )
    with pytest.raises(InputError, match="holds no such study"):
        build_study(str(tmp_path / "b.journal"), tmp_path / "a.html")
    optuna.create_study(storage=storage, study_name="tfproj")
    with pytest.raises(InputError, match="was not begun by tfproj tune"):
        build_study(str(tmp_path / "b.journal"), tmp_path / "a.html")
    assert main(["report", "some-run", "--study", str(tmp_path / "a.journal")]) == 2
    assert "leave out one" in capsys.readouterr().err
