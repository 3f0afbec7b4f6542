"""Searches for settings (``hparams_search=optuna``) that go on where an earlier command stopped."""

import sys
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict


class UpTo(Callback):
    """A Hydra callback that makes ``n_trials`` the number of a search's trials, not of a command's.

    Without ``resume=true`` a search that has trials is refused.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        from optuna.study import get_all_study_summaries, load_study
        from optuna.trial import TrialState

        sweeper = config.hydra.sweeper
        if sweeper.study_name not in {study.study_name for study in get_all_study_summaries(sweeper.storage)}:
            return
        trials = load_study(study_name=sweeper.study_name, storage=sweeper.storage).get_trials(deepcopy=False)
        n_done = sum(trial.state == TrialState.COMPLETE for trial in trials)  # one that failed is made up for
        if n_done and config.resume is not True:
            where = config.hydra.sweep.dir
            sys.exit(  # Hydra turns what a callback raises into a warning, but for this
                f"digits train: {where} holds a search of {n_done} trials: resume=true goes on to hydra.sweeper.n_trials="
                f"{sweeper.n_trials}, another hydra.sweep.dir starts anew"
            )
        with open_dict(config):
            sweeper.n_trials = max(0, sweeper.n_trials - n_done)
            sweeper.sampler.seed += len(trials)  # not the trials of before again
