"""An Optuna study: where it lies, what it is of, and the trials of workers that are gone.

What a study is of stands in its attributes, so that every worker searches the same.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import optuna
from optuna.storages.journal import (
    JournalFileBackend,
    JournalFileOpenLock,
    JournalFileSymlinkLock,
)
from optuna.trial import FrozenTrial, TrialState

from tfproj.core.files import cut_last_line
from tfproj.core.processes import is_running, this_process
from tfproj.core.words import without_password
from tfproj.errors import InputError, first_line

RECORD = "tfproj"  # the attribute with what the study is of, and its default name
INSTEAD_OF = "instead_of"  # the number of the trial that a trial takes up
FIRST = b'{"op_code"'  # how Optuna's journals begin
TIMEOUT = 10  # seconds until a database must answer
HEARTBEAT = 30  # seconds between signs of life in a database
GRACE = 120  # seconds without one until a worker counts as gone

optuna.logging.set_verbosity(optuna.logging.ERROR)  # what a trial did is said in our words


def open_study(where: str, record: Mapping[str, Any], first: Mapping[str, Any]) -> optuna.Study:
    """Open the study, or begin it.

    Args:
        where: a journal file, or the URL of a database, with ``#NAME`` for a study's name.
        record: what it is of, as JSON takes it.
        first: values that a new study tries first.

    Raises:
        InputError: the place can't be read or doesn't answer, or the study is of something else.
    """
    with _explained(where):
        study = optuna.create_study(
            **_place(where),
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=4),
            load_if_exists=True,
        )
    known = study.user_attrs.get(RECORD)
    if known is None and not study.get_trials(deepcopy=False):
        study.set_user_attr(RECORD, dict(record))
    elif known != record:
        _refuse(without_password(where), known or {}, record)
    if not study.get_trials(deepcopy=False):
        enqueue(study, first)
    return study


def read_study(where: str) -> optuna.Study:
    """A study that was begun by ``tfproj tune``, without writing anything: it may be another's.

    Raises:
        InputError: there is none.
    """
    address = where.partition("#")[0] if "://" in where else where
    file = address.removeprefix("sqlite:///")  # which would be made
    if "://" not in file and not Path(file).is_file():
        raise InputError(f"--study {where}: no such file")
    with _explained(where):
        study = optuna.load_study(**_place(where, reading=True))
    if RECORD not in study.user_attrs:
        raise InputError(f"--study {without_password(where)}: was not begun by tfproj tune")
    return study


def _place(where: str, reading: bool = False) -> dict[str, Any]:
    """``storage`` and ``study_name``."""
    if "://" not in where:
        return {"storage": _journal(where, reading), "study_name": RECORD}
    address, _, name = where.partition("#")
    return {"storage": _database(address, reading), "study_name": name or RECORD}


@contextlib.contextmanager
def _explained(where: str) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except KeyError:
        raise InputError(f"--study {without_password(where)}: holds no such study") from None
    except Exception as error:  # of optuna, SQLAlchemy, a driver, or of JSON
        said = without_password(first_line(error.__cause__ or error))  # Optuna's own says less
        raise InputError(f"--study {without_password(where)}: {said}") from None


def _journal(path: str, reading: bool) -> optuna.storages.JournalStorage:
    if reading:  # which takes no lock; half a line at the end is passed over
        return optuna.storages.JournalStorage(JournalFileBackend(path, JournalFileOpenLock(path)))
    if Path(path).is_dir() or not Path(path).parent.is_dir():
        raise InputError(f"--study {path}: must be a file, in a directory that exists")
    # A link is made whole also on network file systems; Windows lets few make one.
    lock = _lock(path)
    with _held(lock), contextlib.suppress(FileNotFoundError):
        with open(path, "rb") as file:
            ours = file.read(len(FIRST)) == FIRST
        if ours:  # and not another file, given by mistake
            cut_last_line(Path(path))  # of a worker that was killed, or had no space left
    return optuna.storages.JournalStorage(JournalFileBackend(path, lock))


@contextlib.contextmanager
def _held(lock: Any) -> Iterator[None]:
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


class _FileLock:
    """Of a journal. The system drops it when its process ends; Optuna's own then block for 30 s."""

    def __init__(self, path: str):
        self._path = path

    def acquire(self) -> bool:
        import fcntl  # noqa: PLC0415 (not on Windows)

        self._file = open(self._path, "ab")  # noqa: SIM115 (it is held until it is released)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        return True

    def release(self) -> None:
        self._file.close()


def _lock(path: str) -> Any:
    """The system's lock, or a file of Optuna's where that has none."""
    if sys.platform == "win32":
        return JournalFileOpenLock(path)
    lock = _FileLock(f"{path}.lock")
    try:
        with _held(lock):
            return lock
    except OSError:
        # A relative link points nowhere from another directory; who waits then waits for ever.
        return JournalFileSymlinkLock(str(Path(path).absolute()))


def _database(url: str, reading: bool) -> optuna.storages.RDBStorage:
    # The heartbeat is called experimental; without it a worker killed elsewhere is never seen.
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    timeout = "timeout" if url.startswith("sqlite") else "connect_timeout"
    return optuna.storages.RDBStorage(
        url,
        engine_kwargs={"connect_args": {timeout: TIMEOUT}, "pool_pre_ping": True},
        heartbeat_interval=HEARTBEAT,
        grace_period=GRACE,
        heartbeat_stale_trial_callback=take_up,
        skip_table_creation=reading,
    )


def _refuse(where: str, known: Mapping[str, Any], record: Mapping[str, Any]) -> None:
    key = next(key for key in {**record, **known} if known.get(key) != record.get(key))
    raise InputError(
        f"--study {where}: was begun with {key} {known.get(key)!r}, now it is "
        f"{record.get(key)!r}; give the same settings, or another --study"
    )


def enqueue(study: optuna.Study, values: Mapping[str, Any], **attributes: Any) -> None:
    """Queue a trial. It has a worker from the first: that one may be gone before it begins."""
    study.enqueue_trial(dict(values), user_attrs={"worker": this_process(), **attributes})


def take_up(study: optuna.Study, trial: FrozenTrial | optuna.Trial) -> None:
    """Queue what a trial was to try: whoever is next goes on with its run."""
    attributes = {key: value for key, value in trial.user_attrs.items() if key == "run"}
    given = study.get_trials(deepcopy=False)[trial.number].system_attrs.get("fixed_params", {})
    enqueue(study, {**given, **trial.params}, **attributes, **{INSTEAD_OF: trial.number})


def take_up_dead(study: optuna.Study) -> None:
    """Queue the trials again whose worker, a process of this machine, is gone."""
    trials = study.get_trials(deepcopy=False)
    replaced = {trial.user_attrs.get(INSTEAD_OF) for trial in trials}
    for trial in trials:
        # One that failed without an error: who found it was killed before it was queued.
        lost = trial.state == TrialState.FAIL and "error" not in trial.user_attrs
        worker = trial.user_attrs.get("worker")
        if not (lost or trial.state == TrialState.RUNNING) or not worker or is_running(worker):
            continue
        try:
            if not lost:
                study.tell(trial.number, state=TrialState.FAIL)
        except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
            continue  # another worker was faster
        if trial.number not in replaced:
            print(f"trial {trial.number}: its worker is gone; it is taken up", file=sys.stderr)
            take_up(study, trial)


def ordinal(study: optuna.Study, number: int) -> int:
    """Which trial this is of a study that was never interrupted, counted from 0."""
    trials = study.get_trials(deepcopy=False)
    instead = {t.number: t.user_attrs[INSTEAD_OF] for t in trials if INSTEAD_OF in t.user_attrs}
    while number in instead:
        number = instead[number]
    return number - sum(other < number for other in instead)


def counted(study: optuna.Study) -> list[FrozenTrial]:
    """The trials begun, by number, without those that another one took up."""
    trials = study.get_trials(deepcopy=False)
    replaced = {trial.user_attrs.get(INSTEAD_OF) for trial in trials}
    return [t for t in trials if t.state != TrialState.WAITING and t.number not in replaced]


def importance(study: optuna.Study) -> dict[str, float]:
    """Share of each parameter in how the trials differ, the largest first; {} of too few trials."""
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    try:
        return dict(optuna.importance.get_param_importances(study, evaluator=evaluator))
    except (ValueError, RuntimeError):
        return {}
