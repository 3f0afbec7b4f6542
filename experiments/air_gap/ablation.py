"""What each ingredient of ``live`` is worth, from ``ablation.csv``: the battery and unseen speakers without it."""

import csv
import math
import statistics
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from experiments import tables


@dataclass(frozen=True)
class Ablation:
    """What is left without one ingredient; each list is over seeds."""

    name: str
    clean: list[float]
    mean: list[float]
    worst: list[float]
    unseen: list[float]


def read(path: Path) -> list[Ablation]:
    """The ablations in a file of :func:`experiments.air_gap.air_gap.write_csv`, ``live`` itself first."""
    runs: dict[str, dict[str, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    unseen: dict[str, list[float]] = defaultdict(list)
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["corpus"].startswith("folder"):
                unseen[row["experiment"]].append(float(row["macro_by_speaker"]))
            else:
                runs[row["experiment"]][row["seed"]][row["condition"]] = int(row["correct"]) / int(row["total"])
    return [
        Ablation(
            name.removeprefix("live_").replace("_", " "),
            [accuracies["clean"] for accuracies in runs[name].values()],
            [statistics.fmean(accuracies.values()) for accuracies in runs[name].values()],
            [min(accuracies.values()) for accuracies in runs[name].values()],
            unseen[name],
        )
        for name in sorted(runs, key=lambda name: (name != "live", name))
    ]


def table(found: list[Ablation]) -> str:
    header = ["model", "clean", "battery mean", "worst", "unseen speakers, macro", "seeds"]
    rows = [
        [a.name, *(tables.percent(values) for values in (a.clean, a.mean, a.worst, a.unseen)), str(len(a.clean))] for a in found
    ]
    return tables.table(header, rows)


def figure(found: list[Ablation], colour: str) -> Figure:
    """Errors under the battery and on unseen speakers without each ingredient."""
    picture = Figure(figsize=(9, 3.6), layout="constrained")
    panels = (("battery", "mean"), ("unseen speakers, macro", "unseen"))
    for axes, (title, part) in zip(picture.subplots(1, 2, sharey=True), panels, strict=True):
        errors = [100 - 100 * statistics.fmean(getattr(a, part) or [math.nan]) for a in found[::-1]]
        bars = axes.barh([a.name for a in found[::-1]], errors, color=[colour if a.name == "live" else "0.65" for a in found[::-1]])
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
        axes.set(title=title, xlabel="wrong, %")
        axes.margins(x=0.12)
    return picture
