"""Pictures for TensorBoard, where :class:`digits.training.callbacks.Dashboard` puts them, and for reports."""

from collections.abc import Mapping, Sequence

import numpy
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix
from torch import Tensor


def confusion(labels: Sequence[int], predicted: Sequence[int], title: str) -> Figure:
    """Confusion matrix over the ten digits: rows are spoken, columns recognised."""
    figure = Figure(figsize=(5, 4.6), layout="constrained")
    matrix = confusion_matrix(labels, predicted, labels=range(10))
    axes = figure.subplots()
    display = ConfusionMatrixDisplay(matrix, display_labels=range(10))
    display.plot(ax=axes, cmap="Blues", colorbar=False, values_format="d")
    for text in numpy.asarray(display.text_).flat:
        text.set_text("" if text.get_text() == "0" else text.get_text())
    axes.set(title=title, xlabel="recognised", ylabel="spoken")
    return figure


def learning_curve(epochs: Sequence[Mapping[str, float]]) -> Figure:
    """Losses, and accuracy on the validation clips, after each epoch: ``train/loss``, ``val/loss`` and ``val/acc``."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    losses, accuracies = figure.subplots(1, 2)
    numbers = range(1, len(epochs) + 1)
    for name, axes in (("train/loss", losses), ("val/loss", losses), ("val/acc", accuracies)):
        values = [100 * epoch[name] if axes is accuracies else epoch[name] for epoch in epochs if name in epoch]
        axes.plot(numbers[len(epochs) - len(values) :], values, marker="o", markersize=3, label=name)
    losses.set(yscale="log", title="loss")
    accuracies.set(title="accuracy on the validation clips, %")
    for axes in (losses, accuracies):
        axes.set(xlabel="epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    return figure


def condition_bars(accuracies: Mapping[str, float]) -> Figure:
    """Accuracy (0 to 1) under each test condition."""
    figure = Figure(figsize=(7, 0.8 + 0.19 * len(accuracies)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(list(accuracies), [100 * value for value in accuracies.values()], color="#4878a8")
    axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=7)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=7)
    axes.set(xlim=(0, 108), ylim=(len(accuracies) - 0.4, -0.6), xlabel="accuracy, %", title="test clips under each condition")
    return figure


def before_and_after(before: Tensor, after: Tensor, labels: Tensor) -> Figure:
    """Log-mels, (clips, 1, n_mels, frames) each, from the front end (top row) and as training sees them (bottom row)."""
    figure = Figure(figsize=(1.6 * len(before), 3.6), layout="constrained")
    grid = figure.subplots(2, len(before), sharex=True, sharey=True, squeeze=False)
    for column, (clean, augmented, label) in enumerate(zip(before, after, labels, strict=True)):
        for axes, log_mel in zip(grid[:, column], (clean, augmented), strict=True):
            axes.imshow(
                log_mel[0].numpy(), origin="lower", aspect="auto", cmap="magma", vmin=float(clean.min()), vmax=float(clean.max())
            )
        grid[0, column].set_title(f"“{int(label)}”")
        grid[1, column].set_xlabel("frame (10 ms)")
    grid[0, 0].set_ylabel("before")
    grid[1, 0].set_ylabel("as trained on")
    return figure
