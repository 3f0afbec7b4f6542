"""The pictures of the air-gap study."""

import statistics
from collections.abc import Sequence

from matplotlib.figure import Figure

from digits.training import figures
from experiments.air_gap.answers import MODELS, Run, by_speaker, select
from experiments.tables import accuracy

COLOURS = {"baseline": "#b0563f", "robust": "#c9a227", "live": "#2f6f9f"}
NOISES = {"white": "white noise", "pink": "pink noise", "hum": "mains hum", "babble": "babble, 8 talkers"}


def snr_figure(found: list[Run]) -> Figure:
    """Accuracy against SNR, one panel per noise; bars from the worst to the best seed."""
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    for axes, (noise, title) in zip(figure.subplots(1, len(NOISES), sharey=True), NOISES.items(), strict=True):
        for model in MODELS:
            snrs = [20, 10, 5, 0]
            values = [[100 * accuracy(run.of(f"{noise}_{snr}")) for run in select(found, "air_gap", model)] for snr in snrs]
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


def speaker_figure(found: list[Run]) -> Figure:
    """Accuracy on each speaker left out of the training."""
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    axes = figure.subplots()
    for position, model in enumerate(MODELS):
        scores = by_speaker(row for run in select(found, "loso", model) for row in run.of("clean"))
        x = [index + 0.27 * (position - 1) for index in range(len(scores))]
        bars = axes.bar(x, [100 * score for score in scores.values()], width=0.25, color=COLOURS[model], label=model)
        axes.bar_label(bars, fmt="%.0f", fontsize=8)
        axes.set_xticks(range(len(scores)), list(scores))
    axes.set(ylabel="accuracy, %", ylim=(0, 112), title="trained on the other five speakers")
    axes.legend(loc="upper center", frameon=False, ncols=3)
    return figure


def confusion_figure(found: Sequence[Run]) -> Figure:
    """Confusion matrix of the unseen speakers."""
    rows = [row for run in found for row in run.of("clean")]
    title = f"unseen speakers, live, {len(found)} seeds together"
    return figures.confusion([row["digit"] for row in rows], [row["predicted"] for row in rows], title)
