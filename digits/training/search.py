"""Searches for settings (``hparams_search=optuna``) that go on where an earlier command stopped."""

import sys
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, open_dict

FREE = {"resume", "hparams_search", "logger", "export"}  # may differ between the commands of one search


class UpTo(Callback):
    """A Hydra callback that makes ``n_trials`` the number of a search's trials, not of a command's.

    A search that has trials is refused without ``resume=true``, or with other settings than theirs.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        from optuna.study import get_all_study_summaries, load_study
        from optuna.trial import TrialState

        sweeper, where = config.hydra.sweeper, config.hydra.sweep.dir
        if sweeper.study_name not in {study.study_name for study in get_all_study_summaries(sweeper.storage)}:
            return
        trials = load_study(study_name=sweeper.study_name, storage=sweeper.storage).get_trials(deepcopy=False)
        done = [trial for trial in trials if trial.state == TrialState.COMPLETE]  # one that failed is made up for
        if done and config.resume is not True:
            _refuse(
                f"{where} holds a search of {len(done)} trials: resume=true goes on to hydra.sweeper.n_trials={sweeper.n_trials}, "
                "another hydra.sweep.dir starts anew"
            )
        wanted = _fixed(config.hydra.overrides.task)
        for trial in done:
            if (before := {name: str(value) for name, value in trial.user_attrs.items() if name not in FREE}) != wanted:
                _refuse(f"{where} holds a search with other settings, {before or 'none'}: give these, or another hydra.sweep.dir")
        with open_dict(config):
            sweeper.n_trials = max(0, sweeper.n_trials - len(done))
            sweeper.sampler.seed += len(trials)  # not the trials of before again


def _fixed(arguments: list[str]) -> dict[str, str]:
    """Settings of a command line that are the same for all trials."""
    overrides = OverridesParser.create().parse_overrides(list(arguments))
    fixed = {one.get_key_element(): one.get_value_element_as_str() for one in overrides if not one.is_sweep_override()}
    return {name: value for name, value in fixed.items() if name not in FREE}


def _refuse(why: str) -> None:
    sys.exit(f"digits train: {why}")  # Hydra turns what a callback raises into a warning, but for this
