"""The trials of a search for settings (``hparams_search=optuna``): a table, and a picture of what was tried."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullFormatter
from omegaconf import OmegaConf

from experiments import tables

DATABASE = "search.db"


def is_search(folder: Path) -> bool:
    return (folder / DATABASE).is_file()


def read(folder: Path) -> tuple[Any, str]:
    """Optuna's study of a search, and the name of what it optimises.

    Raises:
        ValueError: the extra [optuna] is not installed, no trial has finished, or there are no runs.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ValueError(f"{folder} holds a search: pip install '.[optuna]' to read it") from error
    storage = f"sqlite:///{folder / DATABASE}"
    (summary,) = optuna.study.get_all_study_summaries(storage)
    study = optuna.load_study(study_name=summary.study_name, storage=storage)
    if not finished(study):
        raise ValueError(f"{folder}: no trial has finished")
    config = next(folder.rglob(".hydra/config.yaml"), None)
    if config is None:
        raise ValueError(f"{folder}: its runs are gone")
    return study, str(OmegaConf.load(config).optimized_metric)


def finished(study: Any) -> list[Any]:
    """Trials with a value, in their order."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.value is not None]


def table(study: Any, metric: str) -> str:
    """Markdown: one row for each finished trial, the best first."""
    trials = sorted(finished(study), key=lambda trial: trial.value, reverse=study.direction.name == "MAXIMIZE")
    rows = [[str(trial.number), f"{trial.value:.4f}", *map(_short, trial.params.values())] for trial in trials]
    unfinished = len(study.trials) - len(trials)
    note = f"\n\n{unfinished} more trials failed or were interrupted." if unfinished else ""
    return tables.table(["trial", metric, *trials[0].params], rows) + note


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def picture(study: Any, metric: str) -> Figure:
    """The value of each trial in their order, with the best so far, and against each setting."""
    trials = finished(study)
    numbers, values = [trial.number for trial in trials], [trial.value for trial in trials]
    best = max if study.direction.name == "MAXIMIZE" else min
    distributions = trials[0].distributions
    figure = Figure(figsize=(3 * (1 + len(distributions)), 3.4), layout="constrained")
    history, *others = figure.subplots(1, 1 + len(distributions), sharey=True)
    history.plot(numbers, values, "o", label="trial")
    history.step(numbers, _so_far(values, best), where="post", label="best so far")
    history.set(xlabel="trial", ylabel=metric)
    history.xaxis.set_major_locator(MaxNLocator(integer=True))
    history.legend(frameon=False)
    for axes, (name, distribution) in zip(others, distributions.items(), strict=True):
        points = axes.scatter([trial.params[name] for trial in trials], values, c=numbers, cmap="viridis")
        axes.set(xlabel=name, xscale="log" if "Log" in type(distribution).__name__ else "linear")
        if hasattr(distribution, "low"):
            axes.set_xlim(distribution.low, distribution.high)
        axes.xaxis.set_minor_formatter(NullFormatter())
    figure.colorbar(points, ax=others, label="trial", ticks=MaxNLocator(integer=True))
    for axes in (history, *others):
        axes.grid(alpha=0.3)
    return figure


def _so_far(values: Sequence[float], best: Any) -> list[float]:
    return [best(values[: n + 1]) for n in range(len(values))]
