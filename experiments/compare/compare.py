"""Compare the runs of a sweep: ``python experiments/compare/compare.py FOLDER`` writes report.md, results.csv and pictures.

Every ``metrics.json`` in the folder and its subfolders counts. Runs that should be there and are not are named; the exit status is
then 1. Of a search for settings (``hparams_search=optuna``) it lists the trials.
"""

import argparse
import csv
import re
import statistics
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from digits.recognition.score import wilson
from digits.training import figures, runs
from experiments import tables
from experiments.compare import search

Metrics = dict[str, Any]
SAME = ("experiment", "corpus", "split", "settings", "trained_on")  # what the runs of one group have in common


@dataclass(frozen=True)
class Group:
    """Runs of one experiment on one corpus and split that differ only in their seeds."""

    experiment: str
    corpus: str
    split: str
    members: list[tuple[Path, Metrics]]

    @property
    def label(self) -> str:
        return f"{self.experiment} ({self.corpus}, {self.split})"

    def values(self, name: str) -> list[float]:
        return [metrics[name] for _, metrics in self.members if metrics.get(name) is not None]


def read_groups(folder: Path) -> list[Group]:
    """All finished runs in a folder and its subfolders, grouped.

    Raises:
        ValueError: two runs do not differ at all, not even in their seed.
    """
    found: dict[tuple[str, ...], list[tuple[Path, Metrics]]] = defaultdict(list)
    for run_dir, metrics in runs.read_metrics(folder).items():
        if metrics["test/acc"] is None:  # data.split=all has no test part
            continue
        found[tuple(str(metrics.get(name)) for name in SAME)].append((run_dir, metrics))
    names = Counter(key[:3] for key in found)
    groups = []
    for (experiment, corpus, split, *_), members in found.items():
        seeds = Counter(metrics["seed"] for _, metrics in members)
        if max(seeds.values()) > 1:
            raise ValueError(f"{folder}: several runs of {experiment} with the same seed and settings: compare one sweep at a time")
        details = _overrides(members[0][0]) if names[experiment, corpus, split] > 1 else ""
        groups.append(Group(f"{experiment} {details}".strip(), corpus, split, members))
    return groups


def _overrides(run_dir: Path) -> str:
    """What else was set on a run's command line."""
    path = run_dir / ".hydra" / "overrides.yaml"
    overrides = [str(override) for override in OmegaConf.load(path)] if path.is_file() else [run_dir.name]
    return " ".join(o for o in overrides if o.split("=")[0] not in ("experiment", "seed", "data", "resume", "+sweep"))


def unfinished(folder: Path) -> list[str]:
    """Runs that were started or requested by a sweep's ``multirun.yaml`` but have no result, with the reason if known."""
    begun = {path.parent.parent: OmegaConf.load(path) for path in sorted(folder.rglob(".hydra/overrides.yaml"))}
    lines = [f"{path.relative_to(folder)}: {_reason(path)}" for path in begun if not (path / "metrics.json").is_file()]
    have = {frozenset(overrides) for overrides in begun.values()}
    for path in folder.rglob("multirun.yaml"):
        config = OmegaConf.load(path).hydra
        asked = [f"{name}={values}" for name, values in (config.sweeper.params or {}).items()]
        overrides = OverridesParser.create().parse_overrides([*asked, *config.overrides.task])
        for batch in BasicSweeper.split_arguments(overrides, None):
            lines += [f"{' '.join(job)}: never started" for job in batch if frozenset(job) not in have]
    return lines


def _reason(run: Path) -> str:
    path = run / runs.ERROR
    return path.read_text().strip().splitlines()[-1] if path.is_file() else "not finished"


def conditions(groups: list[Group]) -> list[str]:
    """Names of the test accuracies, clean first, in the order of the configs."""
    names = dict.fromkeys(
        name for group in groups for _, metrics in group.members for name in metrics if name.startswith("test/acc")
    )
    return list(names)


def title(name: str) -> str:
    return name.removeprefix("test/acc").removeprefix("_") or "clean"


def table(groups: list[Group]) -> str:
    """Markdown: mean and deviation over seeds for each group and condition."""
    names = conditions(groups)
    header = ["experiment", "corpus", "split", "seeds", "parameters", "training", *(f"{title(name)} %" for name in names)]
    rows = []
    for group in groups:
        first = group.members[0][1]
        times = group.values("train_s")  # of the runs that were not resumed
        training = f"{first['epochs']} epochs" + (f", {statistics.fmean(times):.1f} s" if times else "")
        cells = [group.experiment, group.corpus, group.split, str(len(group.members)), f"{first['parameters']:,}", training]
        cells += [tables.percent(group.values(name)) for name in names]
        correct, total = statistics.fmean(group.values("test/correct")), first["test/total"]
        low, high = wilson(correct, total)
        rows.append([*cells, f"{correct:.1f}/{total}", f"{100 * low:.1f}-{100 * high:.1f}"])
    return tables.table([*header, "clean, right of n", "95 % interval"], rows, left=3)


def accuracy_figure(groups: list[Group]) -> Figure:
    """Accuracy under each condition: mean over seeds, bars from the worst to the best seed."""
    names = conditions(groups)
    figure = Figure(figsize=(1.6 + 1.1 * len(names), 4.2), layout="constrained")
    axes = figure.subplots()
    for position, group in enumerate(groups):
        offset = 0.12 * (position - (len(groups) - 1) / 2)
        known = [(x + offset, [100 * value for value in group.values(name)]) for x, name in enumerate(names) if group.values(name)]
        means = [statistics.fmean(values) for _, values in known]
        below = [mean - min(values) for mean, (_, values) in zip(means, known, strict=True)]
        above = [max(values) - mean for mean, (_, values) in zip(means, known, strict=True)]
        axes.errorbar([x for x, _ in known], means, yerr=[below, above], fmt="o-", capsize=4, linewidth=1, label=group.label)
    axes.set_xticks(range(len(names)), [title(name) for name in names])
    axes.set(xlabel="test condition", ylabel="accuracy, %", title="Mean over seeds; bars: worst to best seed")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(loc="lower left", frameon=False)
    return figure


def confusion_figure(group: Group) -> Figure:
    """Confusion matrix of the clean test clips, summed over the seeds."""
    labels, predicted = [], []
    for run, _ in group.members:
        with (run / "predictions.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                if row["condition"] == "clean":
                    labels.append(int(row["digit"]))
                    predicted.append(int(row["predicted"]))
    return figures.confusion(labels, predicted, f"{group.label}\nclean, {len(group.members)} seeds together")


def write_csv(path: Path, groups: list[Group]) -> None:
    """One row per run: everything in ``metrics.json`` that is a plain value."""
    rows = [metrics for group in groups for _, metrics in group.members]
    names = list(dict.fromkeys(name for metrics in rows for name, value in metrics.items() if not isinstance(value, dict)))
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def write_report(path: Path, groups: list[Group], missing: list[str]) -> None:
    explanation = (
        "Per cent right, mean ± standard deviation over seeds. All seeds share the same test clips, so the interval (Wilson) is "
        "that of the mean count of right clips among n."
    )
    pictures = [f"![confusion matrix of {group.label}]({confusion_name(group)})" for group in groups]
    sections = {
        "Accuracy": f"{table(groups)}\n\n{explanation}\n\n![accuracy under each condition](accuracy.png)",
        "Confusions": "\n".join(pictures),
    }
    if missing:
        sections["Runs without a result"] = "\n".join(f"* {line}" for line in missing)
    metrics = [metrics for group in groups for _, metrics in group.members]
    tables.write_report(path, "Comparison", sections, tables.provenance(metrics))


def confusion_name(group: Group) -> str:
    return re.sub(r"[^\w.-]+", "_", f"confusion_{group.experiment}_{group.corpus}_{group.split}") + ".png"


def compare_trials(folder: Path, out: Path) -> int:
    """Report the trials of a search."""
    try:
        study, metric = search.read(folder)
    except ValueError as error:
        sys.exit(f"compare: {error}")
    out.mkdir(parents=True, exist_ok=True)
    trials = search.table(study, metric)
    sections = {"Trials": f"{trials}\n\n![what was tried](search.png)"}
    tables.write_report(out / "report.md", "Search", sections, tables.provenance(list(runs.read_metrics(folder).values())))
    search.picture(study, metric).savefig(out / "search.png", dpi=120)
    print(f"{trials}\n\nwritten: {out / 'report.md'}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare the runs of a sweep.")
    parser.add_argument("folder", type=Path, help="a folder with runs in it")
    parser.add_argument("--out", type=Path, help="where to write (default: that folder)")
    options = parser.parse_args(arguments)
    if not options.folder.is_dir():
        sys.exit(f"compare: {options.folder}: no such folder")
    if search.is_search(options.folder):
        return compare_trials(options.folder, options.out or options.folder)
    try:
        groups, missing = read_groups(options.folder), unfinished(options.folder)
    except ValueError as error:
        sys.exit(f"compare: {error}")
    out = options.out or options.folder
    out.mkdir(parents=True, exist_ok=True)
    if groups:
        write_report(out / "report.md", groups, missing)
        write_csv(out / "results.csv", groups)
        accuracy_figure(groups).savefig(out / "accuracy.png", dpi=120)
        for group in groups:
            confusion_figure(group).savefig(out / confusion_name(group), dpi=90)
        print(f"{table(groups)}\n\nwritten: {out / 'report.md'}")
    for line in missing:
        print(f"without a result: {line}", file=sys.stderr)
    if not groups:
        sys.exit(f"compare: {options.folder}: no finished run in it")
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
