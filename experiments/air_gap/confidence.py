"""How far the probabilities of ``live`` can be trusted, in the air-gap study."""

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from digits.recognition import calibration
from experiments import tables
from experiments.air_gap.answers import Run, select
from experiments.air_gap.pictures import COLOURS


def answers(found: Sequence[Run], condition: str = "clean") -> tuple[Tensor, Tensor, list[str]]:
    """Logits (clips, outputs), labels (clips,) and speakers."""
    rows = [row for run in found for row in run.of(condition)]
    return torch.tensor([r["logits"] for r in rows]), torch.tensor([r["digit"] for r in rows]), [r["speaker"] for r in rows]


def cross_fitted(logits: Tensor, labels: Tensor, speakers: list[str]) -> Tensor:
    """Probabilities of each speaker at the temperature that fits the other speakers."""
    probabilities = calibration.probabilities(logits)
    for speaker in set(speakers):
        own = torch.tensor([s == speaker for s in speakers])
        probabilities[own] = calibration.probabilities(logits[own], calibration.fit_temperature(logits[~own], labels[~own]))
    return probabilities


def confidences(runs: list[Run]) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
    """Name -> probabilities of ``live`` before and after calibration, and labels."""
    loso = answers(select(runs, "loso", "live"))
    temperature = calibration.fit_temperature(*loso[:2])
    found = {"FSDD speakers left out": (calibration.probabilities(loso[0]), cross_fitted(*loso), loso[1])}
    for name, protocol in (("FSDD, official test", "air_gap"), ("unseen speakers", "unseen")):
        if live := select(runs, protocol, "live"):
            logits, labels, _ = answers(live)
            found[name] = (calibration.probabilities(logits), calibration.probabilities(logits, temperature), labels)
    return found


def table(found: dict[str, tuple[Tensor, Tensor, Tensor]], threshold: float) -> str:
    """Expected calibration error, and what the threshold accepts."""
    header = ["clips", "error, uncalibrated", "error, calibrated", "accepted", "wrong among accepted", "wrong without a threshold"]
    rows = []
    for name, (before, after, labels) in found.items():
        errors = [100 * calibration.expected_calibration_error(probabilities, labels) for probabilities in (before, after)]
        confidence, predicted = after.max(dim=1)
        accepted, wrong = confidence >= threshold, predicted != labels
        shares = [accepted.float().mean(), wrong[accepted].float().mean(), wrong.float().mean()]
        rows.append([name, *(f"{error:.1f}" for error in errors), *(f"{100 * float(share):.1f}" for share in shares)])
    return tables.table(header, rows)


def reliability_figure(found: dict[str, tuple[Tensor, Tensor, Tensor]]) -> Figure:
    """Accuracy against confidence in ten bins; the size of a dot is its share of the clips."""
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
    """Share of wrong answers among the accepted against the share accepted, most confident first."""
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
