"""Tables and pictures of the air-gap study: ``python experiments/air_gap.py outputs --out experiments/air_gap``.

Reads the predictions of the sweeps ``air_gap``, ``loso``, ``transfer``, ``folds`` and ``ablation`` and of the evaluations
``strangers``, ``flite`` and ``recorded``, each in the folder of that name below ``outputs``; what is not there is left out.
"""

import argparse
import csv
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
from matplotlib.figure import Figure
from scipy.stats import binomtest
from torch import Tensor

from digits import calibration, figures, results, weights
from experiments.compare import mean_std, wilson

PROTOCOLS = ("air_gap", "folds", "loso", "transfer", "strangers", "flite", "recorded", "ablation")
MODELS = ("baseline", "robust", "live")
COLOURS = {"baseline": "#b0563f", "robust": "#c9a227", "live": "#2f6f9f"}
NOISES = {"white": "white noise", "pink": "pink noise", "hum": "mains hum", "babble": "babble, 8 talkers"}
BOOTSTRAPS = 10_000
FEW_ERRORS = 0.02  # below, a clip or two would be a large share of them

Row = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """One model's answers to one protocol."""

    protocol: str
    metrics: dict[str, Any]
    rows: list[Row]

    @property
    def experiment(self) -> str:
        return str(self.metrics["experiment"])

    def of(self, condition: str) -> list[Row]:
        return [row for row in self.rows if row["condition"] == condition]

    @property
    def conditions(self) -> list[str]:
        return list(dict.fromkeys(row["condition"] for row in self.rows))


def read(outputs: Path) -> list[Run]:
    """All finished runs of the study.

    Raises:
        ValueError: a run's files are damaged, or there is no run.
    """
    runs = [
        Run(protocol, metrics, results.read_predictions(run_dir))
        for protocol in PROTOCOLS
        for run_dir, metrics in results.read_metrics(outputs / protocol).items()
        if metrics.get("complete", True)
    ]
    if not runs:
        raise ValueError(f"{outputs}: no finished run of {', '.join(PROTOCOLS)} below it")
    return runs


def select(runs: Iterable[Run], protocol: str, experiment: str) -> list[Run]:
    return [run for run in runs if run.protocol == protocol and run.experiment == experiment]


def accuracy(rows: Sequence[Row]) -> float:
    """Share of rows that are right."""
    return statistics.fmean(row["predicted"] == row["digit"] for row in rows)


def by_speaker(rows: Iterable[Row]) -> dict[str, float]:
    """Accuracy of each speaker."""
    speakers = defaultdict(list)
    for row in rows:
        speakers[row["speaker"]].append(row)
    return {speaker: accuracy(own) for speaker, own in sorted(speakers.items())}


def macro(rows: Sequence[Row]) -> float:
    """Mean over speakers of each one's accuracy."""
    return statistics.fmean(by_speaker(rows).values())


def bootstrap_macro(runs: Sequence[Run]) -> tuple[float, float]:
    """95 % interval of the macro accuracy over other speakers of the same kind: speakers are drawn again, seeds averaged."""
    per_run = [by_speaker(run.of("clean")) for run in runs]
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


def percent(values: Sequence[float]) -> str:
    mean, std = mean_std(values)
    return f"{100 * mean:.2f} ± {100 * std:.2f}" if len(values) > 1 else f"{100 * mean:.2f}"


def interval(low: float, high: float) -> str:
    return f"({100 * low:.1f}-{100 * high:.1f})"


def pooled(runs: Sequence[Run]) -> str:
    """Accuracy and Wilson's interval over runs that tested different clips."""
    rows = [row for run in runs for row in run.of("clean")]
    return f"{100 * accuracy(rows):.2f} {interval(*wilson(accuracy(rows) * len(rows), len(rows)))}"


def same_clips(runs: Sequence[Run], condition: str = "clean") -> str:
    """Mean and deviation over seeds that tested the same clips, and Wilson's interval of the mean."""
    values, n = [accuracy(run.of(condition)) for run in runs], len(runs[0].of(condition))
    return f"{percent(values)} {interval(*wilson(statistics.fmean(values) * n, n))}"


def battery(run: Run) -> list[float]:
    return [accuracy(run.of(condition)) for condition in run.conditions]


def corrupted(run: Run) -> list[float]:
    """All conditions but the clean one."""
    return [accuracy(run.of(condition)) for condition in run.conditions if condition != "clean"]


def loso_cell(runs: Sequence[Run]) -> str:
    speakers = [(accuracy(run.of("clean")), run.rows[0]["speaker"]) for run in runs]
    worst, name = min(speakers)
    return f"{pooled(runs)} / {100 * worst:.1f} ({name})"


def strangers_cell(runs: Sequence[Run]) -> str:
    return f"{percent([macro(run.of('clean')) for run in runs])} {interval(*bootstrap_macro(runs))}"


def headline(runs: list[Run]) -> str:
    """A row a protocol, a column a model."""
    rows: list[tuple[str, str, Callable[[list[Run]], str]]] = [
        ("official test (n = 300)", "air_gap", same_clips),
        ("ten folds by take (n = 3,000)", "folds", pooled),
        ("leave one speaker out: mean / worst (n = 3,000)", "loso", loso_cell),
        ("lucas and yweweler unheard (n = 1,000)", "transfer", same_clips),
        ("strangers, macro by speaker (n = 150, 53 people; development set)", "strangers", strangers_cell),
        ("synthetic voices of flite, macro by voice", "flite", lambda r: percent([macro(run.of("clean")) for run in r])),
        ("babble 10 dB", "air_gap", lambda r: same_clips(r, "babble_10")),
        ("babble 5 dB", "air_gap", lambda r: same_clips(r, "babble_5")),
        ("white noise 0 dB", "air_gap", lambda r: same_clips(r, "white_0")),
        ("room, RT60 1.0 s", "air_gap", lambda r: same_clips(r, "room_1000ms")),
        ("telephone", "air_gap", lambda r: same_clips(r, "telephone")),
        ("battery: mean of all conditions", "air_gap", lambda r: percent([statistics.fmean(battery(run)) for run in r])),
        ("battery: worst condition", "air_gap", lambda r: percent([min(battery(run)) for run in r])),
        ("real noises and rooms: mean of all", "recorded", lambda r: percent([statistics.fmean(corrupted(run)) for run in r])),
    ]
    lines = [f"| per cent right | {' | '.join(f'`{model}`' for model in MODELS)} |", "|---|" + "--:|" * len(MODELS)]
    for name, protocol, cell in rows:
        found = [select(runs, protocol, model) for model in MODELS]
        if any(found):
            lines.append(f"| {name} | {' | '.join(cell(r) if r else '-' for r in found)} |")
    return "\n".join(lines)


def condition_table(runs: list[Run], protocol: str) -> str:
    """Mean and deviation over seeds in each condition, and the share of the baseline's errors that is gone, where it makes some."""
    found = {model: select(runs, protocol, model) for model in MODELS}
    names = next(r for r in found.values() if r)[0].conditions
    lines = [f"| condition | {' | '.join(MODELS)} | errors gone |", "|---|" + "--:|" * (len(MODELS) + 1)]
    for name in names:
        values = {model: [accuracy(run.of(name)) for run in r] for model, r in found.items()}
        cells = [percent(values[model]) if values[model] else "-" for model in MODELS]
        gone = "-"
        if values["baseline"] and values["live"] and (errors := 1 - statistics.fmean(values["baseline"])) > FEW_ERRORS:
            gone = f"{100 * (1 - (1 - statistics.fmean(values['live'])) / errors):.0f} %"
        lines.append(f"| {name} | {' | '.join(cells)} | {gone} |")
    return "\n".join(lines)


def speaker_table(runs: list[Run]) -> str:
    lines = ["| unheard speaker (n = 500) | " + " | ".join(MODELS) + " |", "|---|" + "--:|" * len(MODELS)]
    scores = {model: by_speaker(row for run in select(runs, "loso", model) for row in run.of("clean")) for model in MODELS}
    for speaker in scores["live"]:
        lines.append(f"| {speaker} | {' | '.join(f'{100 * scores[m][speaker]:.1f}' if scores[m] else '-' for m in MODELS)} |")
    return "\n".join(lines)


def mcnemar_table(runs: list[Run]) -> str:
    """Live against the two others on the same clips; where there are several seeds, those of seed 0."""
    lines = ["| protocol | against | only live right | only the other right | p |", "|---|---|--:|--:|--:|"]
    for protocol in PROTOCOLS[:-1]:
        answers = {m: [row for run in select(runs, protocol, m) if run.metrics["seed"] == 0 for row in run.rows] for m in MODELS}
        for other in MODELS[:-1]:
            if answers["live"] and answers[other]:
                only_live, only_other, p = mcnemar(answers["live"], answers[other])
                lines.append(f"| {protocol} | {other} | {only_live} | {only_other} | {p:.1g} |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Ablation:
    """What is left when one ingredient is left out; each a list over seeds."""

    name: str
    clean: list[float]
    mean: list[float]
    worst: list[float]
    strangers: list[float]


def ablations(runs: list[Run]) -> list[Ablation]:
    """Live itself first; the seeds that it shares with the others."""
    ablated = [run for run in runs if run.protocol == "ablation"]
    seeds = {run.metrics["seed"] for run in ablated}
    ablated += [
        run
        for run in runs
        if run.protocol in ("air_gap", "strangers") and run.experiment == "live" and run.metrics["seed"] in seeds
    ]
    found = []
    for name in sorted({run.experiment for run in ablated}, key=lambda name: (name != "live", name)):
        own = [run for run in ablated if run.experiment == name]
        tested, heard = [run for run in own if len(run.conditions) > 1], [run for run in own if len(run.conditions) == 1]
        found.append(
            Ablation(
                name.removeprefix("live_").replace("_", " "),
                [accuracy(run.of("clean")) for run in tested],
                [statistics.fmean(battery(run)) for run in tested],
                [min(battery(run)) for run in tested],
                [macro(run.of("clean")) for run in heard],
            )
        )
    return found


def ablation_table(runs: list[Run]) -> str:
    """What each ingredient is worth: the battery and the strangers without it."""
    lines = ["| | clean | battery mean | worst | strangers, macro | seeds |", "|---|--:|--:|--:|--:|--:|"]
    for a in ablations(runs):
        cells = [percent(values) if values else "-" for values in (a.clean, a.mean, a.worst, a.strangers)]
        lines.append(f"| {a.name} | {' | '.join(cells)} | {len(a.clean)} |")
    return "\n".join(lines)


# ---- confidence


def answers(runs: Sequence[Run], condition: str = "clean") -> tuple[Tensor, Tensor, list[str]]:
    """Logits, labels and speakers."""
    rows = [row for run in runs for row in run.of(condition)]
    return torch.tensor([r["logits"] for r in rows]), torch.tensor([r["digit"] for r in rows]), [r["speaker"] for r in rows]


def cross_fitted(logits: Tensor, labels: Tensor, speakers: list[str]) -> Tensor:
    """Each speaker's probabilities at the temperature that fits the other speakers."""
    probabilities = calibration.probabilities(logits)
    for speaker in set(speakers):
        own = torch.tensor([s == speaker for s in speakers])
        probabilities[own] = calibration.probabilities(logits[own], calibration.fit_temperature(logits[~own], labels[~own]))
    return probabilities


def confidences(runs: list[Run]) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Name -> probabilities before and after calibration, and labels, of live."""
    loso = answers(select(runs, "loso", "live"))
    temperature = calibration.fit_temperature(*loso[:2])
    found = {"unheard FSDD speakers": (calibration.probabilities(loso[0]), cross_fitted(*loso), loso[1])}
    for name, protocol in (("FSDD, official test", "air_gap"), ("strangers", "strangers")):
        if live := select(runs, protocol, "live"):
            logits, labels, _ = answers(live)
            found[name] = (calibration.probabilities(logits), calibration.probabilities(logits, temperature), labels)
    return found


def confidence_table(found: dict[str, tuple[Tensor, Tensor, Tensor]], threshold: float) -> str:
    lines = [
        "| clips | error, uncalibrated | error, calibrated | accepted | wrong among accepted | wrong without a threshold |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, (before, after, labels) in found.items():
        errors = [100 * calibration.expected_calibration_error(probabilities, labels) for probabilities in (before, after)]
        confidence, predicted = after.max(dim=1)
        accepted, wrong = confidence >= threshold, predicted != labels
        shares = [accepted.float().mean(), wrong[accepted].float().mean(), wrong.float().mean()]
        cells = [f"{error:.1f}" for error in errors] + [f"{100 * float(share):.1f}" for share in shares]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def reliability_figure(found: dict[str, tuple[Tensor, Tensor, Tensor]]) -> Figure:
    """Accuracy against confidence in ten bins; the size of a dot is the share of the clips."""
    figure = Figure(figsize=(4 * len(found), 4), layout="constrained")
    for axes, (name, (before, after, labels)) in zip(figure.subplots(1, len(found), squeeze=False)[0], found.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
        for probabilities, colour, label in ((before, "0.55", "as trained"), (after, COLOURS["live"], "calibrated")):
            confidence, predicted = probabilities.max(dim=1)
            bins = (confidence * 10).long().clamp(max=9)
            used = [b for b in range(10) if (bins == b).any()]
            x = [float(confidence[bins == b].mean()) for b in used]
            y = [float((predicted == labels)[bins == b].float().mean()) for b in used]
            size = [10 + 300 * float((bins == b).float().mean()) for b in used]
            axes.scatter(x, y, s=size, color=colour, alpha=0.6, linewidths=0)
            axes.plot(x, y, color=colour, linewidth=1, label=label)
        axes.set(title=name, xlabel="confidence", ylabel="accuracy", xlim=(0, 1.02), ylim=(0, 1.05))
        axes.legend(loc="upper left", frameon=False)
    return figure


def risk_figure(found: dict[str, tuple[Tensor, Tensor, Tensor]], threshold: float) -> Figure:
    """Share of wrong answers among the accepted against the share accepted, from the most confident on."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for (name, (_, after, labels)), colour in zip(found.items(), ("#2f6f9f", "#5b9f5b", "#b0563f"), strict=False):
        confidence, predicted = after.max(dim=1)
        thresholds, coverage, risk = calibration.risk_coverage(confidence, predicted == labels)
        axes.plot(100 * coverage, 100 * risk, color=colour, label=name)
        chosen = int((thresholds >= threshold).sum()) - 1
        axes.plot(100 * coverage[chosen], 100 * risk[chosen], "o", color=colour)
    axes.set(xlabel="accepted, %", ylabel="wrong among accepted, %", title=f"dots: the stored threshold, {threshold:.2f}")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


# ---- pictures


def snr_figure(runs: list[Run]) -> Figure:
    """Accuracy against SNR, a panel a noise; bars from the worst to the best seed."""
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    for axes, (noise, title) in zip(figure.subplots(1, len(NOISES), sharey=True), NOISES.items(), strict=True):
        for model in MODELS:
            snrs = [20, 10, 5, 0]
            values = [[100 * accuracy(run.of(f"{noise}_{snr}")) for run in select(runs, "air_gap", model)] for snr in snrs]
            if not values[0]:
                continue
            means = [statistics.fmean(v) for v in values]
            spread = [
                [m - min(v) for m, v in zip(means, values, strict=True)],
                [max(v) - m for m, v in zip(means, values, strict=True)],
            ]
            axes.errorbar(snrs, means, yerr=spread, fmt="o-", capsize=3, linewidth=1.2, color=COLOURS[model], label=model)
        axes.set(title=title, xlabel="SNR below 4 kHz, dB")
        axes.invert_xaxis()
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("accuracy, %")
    figure.axes[0].legend(loc="lower left", frameon=False)
    return figure


def speaker_figure(runs: list[Run]) -> Figure:
    """Accuracy on each speaker that the model had not heard."""
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots()
    for position, model in enumerate(MODELS):
        scores = by_speaker(row for run in select(runs, "loso", model) for row in run.of("clean"))
        x = [index + 0.27 * (position - 1) for index in range(len(scores))]
        bars = axes.bar(x, [100 * score for score in scores.values()], width=0.25, color=COLOURS[model], label=model)
        axes.bar_label(bars, fmt="%.0f", fontsize=8)
        axes.set_xticks(range(len(scores)), list(scores))
    axes.set(ylabel="accuracy, %", ylim=(0, 112), title="trained on the other five speakers")
    axes.legend(loc="upper center", frameon=False, ncols=3)
    return figure


def ablation_figure(runs: list[Run]) -> Figure:
    """Errors in the battery and on strangers without each ingredient."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    found = ablations(runs)[::-1]
    for axes, (title, part) in zip(
        figure.subplots(1, 2, sharey=True), (("battery", "mean"), ("strangers, macro", "strangers")), strict=True
    ):
        errors = [100 - 100 * statistics.fmean(getattr(a, part) or [math.nan]) for a in found]
        bars = axes.barh([a.name for a in found], errors, color=[COLOURS["live"] if a.name == "live" else "0.65" for a in found])
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
        axes.set(title=title, xlabel="wrong, %")
        axes.margins(x=0.12)
    return figure


def strangers_figure(runs: Sequence[Run]) -> Figure:
    rows = [row for run in runs for row in run.of("clean")]
    title = f"strangers, live, {len(runs)} seeds together"
    return figures.confusion([row["digit"] for row in rows], [row["predicted"] for row in rows], title)


def write_csv(path: Path, runs: list[Run]) -> None:
    """A row a run and condition."""
    names = (
        "protocol",
        "experiment",
        "seed",
        "split",
        "corpus",
        "condition",
        "correct",
        "total",
        "macro_by_speaker",
        "parameters",
        "train_s",
    )
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*names, "git_commit"])
        for run in runs:
            of_run = [run.metrics.get(name) for name in ("experiment", "seed", "split", "corpus")]
            for condition in run.conditions:
                rows = run.of(condition)
                correct = sum(row["predicted"] == row["digit"] for row in rows)
                counted = [condition, correct, len(rows), round(macro(rows), 4), run.metrics["parameters"], run.metrics["train_s"]]
                writer.writerow([run.protocol, *of_run, *counted, run.metrics["git_commit"]])


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Tables and pictures of the air-gap study.")
    parser.add_argument("outputs", type=Path, help="the folder that holds " + ", ".join(PROTOCOLS))
    parser.add_argument("--out", type=Path, required=True, help="where to write")
    options = parser.parse_args(arguments)
    try:
        runs = read(options.outputs)
    except ValueError as error:
        sys.exit(f"air_gap: {error}")
    options.out.mkdir(parents=True, exist_ok=True)
    have = {protocol for protocol in PROTOCOLS if select(runs, protocol, "live")}
    sections = [("Summary", headline(runs)), ("McNemar's exact test, seed 0", mcnemar_table(runs))]
    pictures: dict[str, Figure] = {}
    if "loso" in have:
        logits, labels, _ = answers(select(runs, "loso", "live"))
        calibrated, found = weights.calibrate(logits, labels), confidences(runs)
        sections += [("Unheard speakers", speaker_table(runs)), ("Confidence", confidence_table(found, calibrated.threshold))]
        sections[-1] = ("Confidence", f"{calibrated}\n\n{sections[-1][1]}")
        pictures |= {"speakers": speaker_figure(runs), "reliability": reliability_figure(found)}
        pictures["risk_coverage"] = risk_figure(found, calibrated.threshold)
    if "air_gap" in have:
        sections.append(("Battery", condition_table(runs, "air_gap")))
        pictures["snr"] = snr_figure(runs)
    if "recorded" in have:
        sections.append(("Real noises and rooms", condition_table(runs, "recorded")))
    if "strangers" in have:
        pictures["strangers"] = strangers_figure(select(runs, "strangers", "live"))
    if any(run.protocol == "ablation" for run in runs):
        sections.append(("Ablation", ablation_table(runs)))
        pictures["ablation"] = ablation_figure(runs)
    text = "\n\n".join(f"## {title}\n\n{body}" for title, body in sections)
    (options.out / "report.md").write_text(f"# The air gap\n\n{text}\n\n{provenance(runs)}\n")
    write_csv(options.out / "results.csv", runs)
    for name, figure in pictures.items():
        figure.savefig(options.out / f"{name}.png", dpi=100)
    print(f"{headline(runs)}\n\nwritten: {options.out / 'report.md'}")
    return 0


def provenance(runs: list[Run]) -> str:
    first = runs[0].metrics
    commits = ", ".join(sorted({str(run.metrics["git_commit"]) for run in runs}))
    packages = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    times = {m: [r.metrics["train_s"] for r in select(runs, "air_gap", m) if r.metrics["train_s"]] for m in MODELS}
    trained = ", ".join(f"{model} {statistics.fmean(seconds):.0f} s" for model, seconds in times.items() if seconds)
    sizes = ", ".join(f"{m} {r[0].metrics['parameters']:,}" for m in MODELS if (r := select(runs, "air_gap", m)))
    return f"Machine: {first['machine']}. Commit: {commits}. {packages}.\nParameters: {sizes}. Training: {trained}."


if __name__ == "__main__":
    sys.exit(main())
