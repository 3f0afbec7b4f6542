"""The runs of the air-gap study and what they answered."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
from scipy.stats import binomtest

from digits.training import runs
from experiments.tables import Row, accuracy

PROTOCOLS = ("air_gap", "folds", "loso", "transfer", "unseen", "flite", "recorded", "ablation")
MODELS = ("baseline", "robust", "live")
BOOTSTRAPS = 10_000


@dataclass(frozen=True)
class Run:
    """One model's answers under one protocol."""

    protocol: str
    metrics: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def experiment(self) -> str:
        return str(self.metrics["experiment"])

    def of(self, condition: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["condition"] == condition]

    @property
    def conditions(self) -> list[str]:
        return list(dict.fromkeys(row["condition"] for row in self.rows))


def read(outputs: Path) -> list[Run]:
    """All finished runs of the study.

    Raises:
        ValueError: a run's files are damaged, or there are no runs.
    """
    found = [
        Run(protocol, metrics, runs.read_predictions(run_dir))
        for protocol in PROTOCOLS
        for run_dir, metrics in runs.read_metrics(outputs / protocol).items()
        if metrics.get("complete", True)
    ]
    if not found:
        raise ValueError(f"{outputs}: no finished run of {', '.join(PROTOCOLS)} in it")
    return found


def select(found: Iterable[Run], protocol: str, experiment: str) -> list[Run]:
    return [run for run in found if run.protocol == protocol and run.experiment == experiment]


def by_speaker(rows: Iterable[Row]) -> dict[str, float]:
    """Accuracy of each speaker."""
    speakers = defaultdict(list)
    for row in rows:
        speakers[row["speaker"]].append(row)
    return {speaker: accuracy(own) for speaker, own in sorted(speakers.items())}


def macro(rows: Sequence[Row]) -> float:
    """Mean over speakers of each one's accuracy."""
    return statistics.fmean(by_speaker(rows).values())


def bootstrap_macro(found: Sequence[Run]) -> tuple[float, float]:
    """95 % interval of the macro accuracy over other speakers of the same kind: speakers are resampled, seeds averaged."""
    per_run = [by_speaker(run.of("clean")) for run in found]
    means = numpy.array([[speakers[speaker] for speaker in per_run[0]] for speakers in per_run]).mean(axis=0)
    drawn = numpy.random.default_rng(0).choice(means, size=(BOOTSTRAPS, len(means))).mean(axis=1)
    low, high = numpy.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def mcnemar(one: Sequence[Row], other: Sequence[Row]) -> tuple[int, int, float]:
    """Clips that only the one, and only the other, gets right, and McNemar's exact p (Psychometrika 12, 1947, 153-157)."""
    right = [{(row["condition"], row["clip"]): row["predicted"] == row["digit"] for row in rows} for rows in (one, other)]
    assert right[0].keys() == right[1].keys(), "both models must have heard the same clips"
    only_one = sum(right[0][key] and not right[1][key] for key in right[0])
    only_other = sum(right[1][key] and not right[0][key] for key in right[0])
    return only_one, only_other, float(binomtest(only_one, max(1, only_one + only_other)).pvalue)


def battery(run: Run) -> list[float]:
    """Accuracy under every condition."""
    return [accuracy(run.of(condition)) for condition in run.conditions]


def corrupted(run: Run) -> list[float]:
    """Accuracy under every condition but the clean one."""
    return [accuracy(run.of(condition)) for condition in run.conditions if condition != "clean"]
