"""What each threshold buys: digits lost against other sounds accepted, averaged over the models of the live study."""

import csv
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter

from experiments import tables

THRESHOLDS = (*numpy.linspace(0.02, 0.98, 49).round(2).tolist(), 0.99, 0.995, 0.999)
SHOWN = (0.5, 0.6, 0.7, 0.86, 0.9, 0.96)  # beside the chosen one
COLUMNS = {
    "digits in quiet": ("FSDD, quiet", "right"),
    "digits at 10 dB": ("FSDD, 10 dB", "right"),
    "unseen speakers in quiet": ("unseen speakers, quiet", "right"),
    "other words (espeak)": ("other words, espeak", "taken"),
    "other words (flite)": ("other words, flite", "taken"),
    "similar words (espeak)": ("near words, espeak", "taken"),
    "similar words (flite)": ("near words, flite", "taken"),
    "false digits per hour of noise": ("noise", "false_per_hour"),
    "false digits per hour of speech": ("other speech, flite", "false_per_hour"),
}


@dataclass(frozen=True)
class Choice:
    """One stream at one threshold, averaged over models."""

    stream: str
    threshold: float
    right: float | None  # share of the digits found and right
    taken: float | None  # share of other words accepted as digits
    false_per_hour: float  # digits where none was spoken


Choices = dict[tuple[str, float], Choice]


def write_csv(path: Path, scores: Sequence[Mapping[str, Any]]) -> None:
    """Average the scores of several models and write one row per stream and threshold."""
    groups: dict[tuple[str, float], list[Mapping[str, Any]]] = defaultdict(list)
    for score in scores:
        groups[score["stream"], float(score["threshold"])].append(score)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["stream", "threshold", "right", "taken", "false_per_hour"], lineterminator="\n")
        writer.writeheader()
        for (stream, threshold), own in groups.items():
            if any(stream == shown for shown, _ in COLUMNS.values()):
                choice = asdict(Choice(stream, threshold, *_shares(own)))
                writer.writerow({name: round(value, 5) if isinstance(value, float) else value for name, value in choice.items()})


def _shares(own: Sequence[Mapping[str, Any]]) -> tuple[float | None, float | None, float]:
    def share(count: str, total: str) -> float | None:
        return statistics.fmean(int(s[count]) / int(s[total]) for s in own) if int(own[0][total]) else None

    false = statistics.fmean(int(s["false"]) / float(s["hours"]) for s in own)
    return share("right", "spoken"), share("taken_for_digits", "other_words"), false


def read_csv(path: Path) -> Choices:
    """What :func:`write_csv` wrote, by stream and threshold."""
    with path.open(newline="") as file:
        rows = [
            {name: value if name == "stream" else float(value) if value else None for name, value in row.items()}
            for row in csv.DictReader(file)
        ]
    choices = [Choice(**row) for row in rows]  # type: ignore[arg-type]
    return {(choice.stream, choice.threshold): choice for choice in choices}


def table(choices: Choices, chosen: float) -> str:
    """Per cent, and false digits per hour, at some thresholds; the chosen one in bold."""
    columns = {title: (stream, part) for title, (stream, part) in COLUMNS.items() if (stream, chosen) in choices}
    rows = []
    for threshold in sorted({*SHOWN, chosen}):
        cells = []
        for stream, part in columns.values():
            value = getattr(choices[stream, threshold], part)
            cells.append(f"{value:.1f}" if part == "false_per_hour" else f"{100 * value:.1f}")
        rows.append([f"**{threshold}**" if threshold == chosen else f"{threshold:.2f}", *cells])
    return tables.table(["threshold", *columns], rows, left=0)


def figure(choices: Choices, chosen: float) -> Figure:
    """Detection error trade-off over the thresholds; the chosen one as a dot."""
    names = list(dict.fromkeys(stream for stream, _ in choices))
    panels = (
        ("taken", 100, "other words accepted, %", [name for name in names if " words, " in name]),
        ("false_per_hour", 1, "false digits per hour", [name for name in names if name == "noise" or "speech" in name]),
    )
    picture = Figure(figsize=(11, 4.5), layout="constrained")
    for axes, (part, scale, label, others) in zip(picture.subplots(1, 2, sharey=True), panels, strict=True):
        for colour, other in zip(("#2f6f9f", "#5b9f5b", "#b0563f", "#8a6bb0"), others, strict=False):
            for digits, style in (("quiet", "-"), ("10 dB", "--")):
                points = {
                    t: (scale * getattr(choices[other, t], part), 100 - 100 * (choices[f"FSDD, {digits}", t].right or 0))
                    for t in sorted({threshold for _, threshold in choices})
                }
                shown = [point for point in points.values() if point[0] > 0]
                axes.plot(*zip(*shown, strict=True), style, color=colour, label=f"{other}; digits: {digits}")
                axes.plot(*points[chosen], "o", color=colour)
        axes.set(xlabel=label, xscale="log", yscale="log", ylim=(0.3, 100))
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15), ncols=2, frameon=False)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FormatStrFormatter("%g"))
    picture.axes[0].set_ylabel("digits not found and right, %")
    return picture
