"""Search for better settings: every trial is a run, and bad ones end early."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import optuna
from optuna.samplers import TPESampler
from optuna.trial import TrialState

from tfproj.core.processes import this_process
from tfproj.errors import NotWritten, TfprojError, first_line
from tfproj.experiment.plan import plan, plan_resume
from tfproj.runs.config import TrainConfig
from tfproj.runs.run import PRUNED, Run, check_place
from tfproj.search.space import Space, suggest, with_values
from tfproj.search.study import (
    INSTEAD_OF,
    counted,
    enqueue,
    importance,
    ordinal,
    take_up,
    take_up_dead,
)
from tfproj.training.callbacks import Interrupted
from tfproj.training.train import resume, train


class Failed(Exception):
    """A trial went wrong; the search goes on."""


class Pruning(keras.callbacks.Callback):
    """Report the epochs of a run to a trial; ends a run that is worse than most were by then.

    Args:
        trial: of an Optuna study.
        run: whose history is reported, also of the epochs before a resumption.
        monitored: the column of the history.
    """

    def __init__(self, trial: optuna.Trial, run: Run, monitored: str):
        super().__init__()
        self._trial, self._run, self._monitored = trial, run, monitored
        self._reported = 0

    def on_epoch_end(self, epoch, logs=None):
        for row in self._run.history()[self._reported :]:
            self._trial.report(row[self._monitored], self._reported + 1)
            self._reported += 1
        if self._trial.should_prune():
            value = f"{self._monitored} {logs[self._monitored]:.4f}"
            said = f"ended by the search after epoch {epoch + 1}: {value} is below the median"
            self._run.add_warnings({PRUNED: said})
            raise optuna.TrialPruned(said)


@dataclass(frozen=True)
class Search:
    """A study, the configuration that trials vary, the space, and where the runs go."""

    study: optuna.Study
    config: TrainConfig
    space: Space
    root: str | Path
    stem: str  # of the runs' names; a trial's number follows

    def go_on(self, trials: int) -> None:
        """Make trials until the study has so many, those of other workers included.

        Raises:
            InputError: a run of another study, or of none, has the name of a trial.
            TfprojError: interrupted; the trial under way is queued for whoever goes on.
        """
        take_up_dead(self.study)
        while len(counted(self.study)) < trials:
            if not self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                enqueue(self.study, {})
            self.study.optimize(self._trial, n_trials=1, catch=(Failed,))
            take_up_dead(self.study)

    def _trial(self, trial: optuna.Trial) -> float:
        trial.set_user_attr("worker", this_process())
        # Its draws depend on its number alone, so workers that start together don't try the same.
        number = ordinal(self.study, trial.number)
        self.study.sampler = TPESampler(seed=(self.config.seed + number) % 2**32)
        name = trial.user_attrs.get("run")
        if name is None:
            name = f"{self.stem}-{number}"
            check_place(self.root, self.config.task, name, False)  # it may be of another study
            trial.set_user_attr("run", name)
        run = Run(Path(self.root) / self.config.task / name)
        values = suggest(trial, self.space)
        shown = "  ".join(f"{key} {_short(value)}" for key, value in values.items())
        print(f"trial {trial.number}: {shown}", file=sys.stderr)
        try:
            self._train(trial, with_values(self.config, values), run)
            return run.kept_value()
        except (KeyboardInterrupt, Interrupted):
            take_up(self.study, trial)
            raise Interrupted("interrupted; the same command goes on with the search") from None
        except (OSError, NotWritten):  # what other values do not help against
            take_up(self.study, trial)
            raise
        except optuna.TrialPruned as pruned:
            print(f"trial {trial.number}: {pruned}", file=sys.stderr)
            raise
        except Exception as error:  # whatever it is, other values may do
            trial.set_user_attr("error", first_line(error))
            print(f"trial {trial.number} failed: {first_line(error)}", file=sys.stderr)
            raise Failed from error
        finally:
            keras.backend.clear_session()  # or the graphs of all trials stay in memory

    def _train(self, trial: optuna.Trial, config: TrainConfig, run: Run) -> None:
        listeners = [Pruning(trial, run, config.monitored)]
        again = INSTEAD_OF in trial.user_attrs
        if not (again and run.last_weights.is_file()):
            planned = plan(config)
            train(config, self.root, run.name, again, planned=planned, listeners=listeners)
            return
        if not run.ended():
            resume(run, planned=plan_resume(run), listeners=listeners)

    def result(self) -> dict[str, Any]:
        """The best trial, what matters, and all trials.

        Raises:
            TfprojError: no trial reached its end.
        """
        trials = [
            {
                "number": trial.number,
                "state": trial.state.name.lower(),
                "value": trial.value,
                "run": str(Path(self.root) / self.config.task / trial.user_attrs.get("run", "")),
                "values": trial.params,
                "error": trial.user_attrs.get("error"),
            }
            for trial in counted(self.study)
        ]
        done = [t for t in trials if t["state"] == TrialState.COMPLETE.name.lower()]
        if not done:
            errors = [trial["error"] for trial in trials if trial["error"]] or ["none has ended"]
            raise TfprojError(f"no trial of {len(trials)} reached its end; the last: {errors[-1]}")
        best = max(done, key=lambda trial: trial["value"])
        settings = with_values(self.config, best["values"]).to_dict()
        return {
            "metric": self.config.monitored,
            "best": {**best, "config": settings},
            "importance": importance(self.study),
            "trials": trials,
        }


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
