"""Accuracy of networks against what they cost: ``python -m experiments.lean.lean outputs/lean`` writes report.md and pareto.png.

The folder holds the sweeps ``official``, ``folds`` and ``loso`` of the same networks; the first row of the table is the one that
the others are compared with.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from omegaconf import OmegaConf
from torch import nn

from digits import networks
from digits.recognition.score import wilson
from digits.training import runs
from experiments import tables

Key = tuple[tuple[int, ...], int, int]  # convolutions, first kernel, epochs
Metrics = dict[str, Any]
BASELINE: Key = ((2, 2, 2), 3, 10)
INPUT = (1, 1, 40, 101)


def read(folder: Path) -> dict[Key, list[Metrics]]:
    """The runs of a sweep by network and epochs."""
    found: dict[Key, list[Metrics]] = {}
    for run_dir, metrics in runs.read_metrics(folder).items():
        cfg = OmegaConf.load(run_dir / ".hydra" / "config.yaml")
        key = (tuple(cfg.model.convolutions), cfg.model.first_kernel, cfg.max_epochs)
        found.setdefault(key, []).append(metrics)
    return found


def build(key: Key) -> nn.Module:
    return networks.build("DigitCNN", convolutions=key[0], first_kernel=key[1])


def million_macs(network: nn.Module) -> float:
    """Multiplications of convolutions and linear layers for one clip, in millions."""
    counts: list[int] = []

    def count(layer: Any, _: Any, output: torch.Tensor) -> None:
        positions = output[0, 0].numel() if output.dim() == 4 else 1
        counts.append(positions * layer.weight.numel())

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    network.eval()(torch.zeros(INPUT))
    return sum(counts) / 1e6


def name(key: Key) -> str:
    """``1-2-2, first 5x5, 7 epochs``."""
    convolutions, kernel, epochs = key
    return f"{'-'.join(map(str, convolutions))}, first {kernel}x{kernel}, {epochs} epochs"


def mean(found: Sequence[Metrics], metric: str = "test/acc") -> str:
    return tables.percent([metrics[metric] for metrics in found], 1 if metric != "test/acc" else 2)


def pooled(found: Sequence[Metrics]) -> str:
    """Over runs that tested different clips."""
    right, total = (sum(metrics[f"test/{what}"] for metrics in found) for what in ("correct", "total"))
    return f"{100 * right / total:.2f} {tables.interval(*wilson(right, total))}"


def seconds(found: Sequence[Metrics]) -> float:
    return statistics.median(metrics["train_s"] for metrics in found if metrics["train_s"])  # null if it was resumed


def table(official: dict[Key, list[Metrics]], folds: dict[Key, list[Metrics]], loso: dict[Key, list[Metrics]]) -> str:
    rows = []
    for key in sorted(official, key=lambda key: -seconds(official[key])):
        found, network = official[key], build(key)
        accuracies = [mean(found), *(mean(found, f"test/acc_{condition}") for condition in ("snr10", "snr0"))]
        cost = [f"{seconds(found):.1f}", f"{seconds(found) / seconds(official[BASELINE]):.2f}", f"{million_macs(network):.1f}"]
        parameters = sum(parameter.numel() for parameter in network.parameters())
        rows.append([name(key), *accuracies, pooled(folds[key]), pooled(loso[key]), *cost, f"{parameters:,}"])
    n_seeds, n_folds = (len(found[BASELINE]) for found in (official, folds))
    columns = [f"official test ({n_seeds} seeds)", "white noise 10 dB", "0 dB", f"{n_folds} folds", "leave one speaker out"]
    return tables.table(["convolutions", *columns, "training, s", "ratio", "M MACs per clip", "parameters"], rows)


def picture(official: dict[Key, list[Metrics]]) -> Figure:
    """Accuracy on the official test, clean and in noise, against training time and arithmetic: means and their standard errors."""
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    grid = figure.subplots(2, 2, sharex="col", sharey="row")
    for key, found in official.items():
        for row, metric in zip(grid, ("test/acc", "test/acc_snr10"), strict=True):
            accuracy, deviation = tables.mean_std([100 * metrics[metric] for metrics in found])
            for axes, cost in zip(row, (seconds(found), million_macs(build(key))), strict=True):
                axes.errorbar(cost, accuracy, deviation / len(found) ** 0.5, fmt="o", capsize=3, label=name(key))
    for axes in grid.flat:
        axes.grid(alpha=0.3)
        axes.set_xlim(left=0)
    grid[0, 0].set(ylabel="official test, % right")
    grid[1, 0].set(ylabel="white noise 10 dB, % right", xlabel="training, s")
    grid[1, 1].set(xlabel="million multiplications per clip")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Accuracy of networks against what they cost.")
    parser.add_argument("folder", type=Path, help="holds the sweeps official, folds and loso")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write")
    options = parser.parse_args(arguments)
    official, folds, loso = (read(options.folder / protocol) for protocol in ("official", "folds", "loso"))
    if missing := {BASELINE, *official} - (set(official) & set(folds) & set(loso)):
        sys.exit(f"lean: {options.folder}: no runs in one of the sweeps: {'; '.join(map(name, sorted(missing)))}")
    options.out.mkdir(parents=True, exist_ok=True)
    picture(official).savefig(options.out / "pareto.png", dpi=100)
    all_runs = [metrics for found in (official, folds, loso) for of_key in found.values() for metrics in of_key]
    sections = {"Networks": table(official, folds, loso)}
    tables.write_report(options.out / "report.md", "Lean networks", sections, tables.provenance(all_runs))
    print(sections["Networks"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
