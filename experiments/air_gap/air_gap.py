"""Tables and pictures of the air-gap study: ``python experiments/air_gap/air_gap.py outputs --out experiments/air_gap``.

Reads the predictions of the sweeps ``air_gap``, ``loso``, ``transfer``, ``folds`` and ``ablation`` and of the evaluations
``unseen``, ``flite`` and ``recorded``, each from the folder of that name in ``outputs``. What is not there is left out.
"""

import argparse
import csv
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from digits.recognition import calibration
from digits.recognition.score import wilson
from experiments import tables
from experiments.air_gap import ablation, confidence, pictures
from experiments.air_gap.answers import (
    MODELS,
    PROTOCOLS,
    Run,
    battery,
    bootstrap_macro,
    by_speaker,
    corrupted,
    macro,
    mcnemar,
    read,
    select,
)
from experiments.tables import accuracy, interval, percent

FEW_ERRORS = 0.02  # below this share, a clip or two would be a large part of them


def pooled(found: Sequence[Run]) -> str:
    """Accuracy and Wilson's interval over runs that tested different clips."""
    rows = [row for run in found for row in run.of("clean")]
    return f"{100 * accuracy(rows):.2f} {interval(*wilson(accuracy(rows) * len(rows), len(rows)))}"


def same_clips(found: Sequence[Run], condition: str = "clean") -> str:
    """Mean and deviation over seeds that tested the same clips, and Wilson's interval of the mean."""
    values, n = [accuracy(run.of(condition)) for run in found], len(found[0].of(condition))
    return f"{percent(values)} {interval(*wilson(statistics.fmean(values) * n, n))}"


def loso_cell(found: Sequence[Run]) -> str:
    speakers = [(accuracy(run.of("clean")), run.rows[0]["speaker"]) for run in found]
    worst, name = min(speakers)
    return f"{pooled(found)} / {100 * worst:.1f} ({name})"


def unseen_cell(found: Sequence[Run]) -> str:
    return f"{percent([macro(run.of('clean')) for run in found])} {interval(*bootstrap_macro(found))}"


def headline(runs: list[Run], models: Sequence[str] = MODELS) -> str:
    """One row per protocol, one column per model."""
    cells: list[tuple[str, str, Callable[[list[Run]], str]]] = [
        ("official test (n = 300)", "air_gap", same_clips),
        ("ten folds by take (n = 3,000)", "folds", pooled),
        ("leave one speaker out: mean / worst (n = 3,000)", "loso", loso_cell),
        ("lucas and yweweler left out (n = 1,000)", "transfer", same_clips),
        ("unseen speakers, macro by speaker (n = 150, 53 people; development set)", "unseen", unseen_cell),
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
    rows = []
    for name, protocol, cell in cells:
        found = [select(runs, protocol, model) for model in models]
        if any(found):
            rows.append([name, *(cell(r) if r else "-" for r in found)])
    return tables.table(["per cent right", *(f"`{model}`" for model in models)], rows)


def condition_table(runs: list[Run], protocol: str) -> str:
    """Mean and deviation over seeds for each condition, and the share of the baseline's errors that ``live`` removes."""
    found = {model: select(runs, protocol, model) for model in MODELS}
    rows = []
    for name in next(r for r in found.values() if r)[0].conditions:
        values = {model: [accuracy(run.of(name)) for run in r] for model, r in found.items()}
        gone = "-"
        if values["baseline"] and values["live"] and (errors := 1 - statistics.fmean(values["baseline"])) > FEW_ERRORS:
            gone = f"{100 * (1 - (1 - statistics.fmean(values['live'])) / errors):.0f} %"
        rows.append([name, *(percent(values[model]) for model in MODELS), gone])
    return tables.table(["condition", *MODELS, "errors gone"], rows)


def speaker_table(runs: list[Run]) -> str:
    scores = {model: by_speaker(row for run in select(runs, "loso", model) for row in run.of("clean")) for model in MODELS}
    rows = [[speaker, *(percent([scores[m][speaker]] if scores[m] else [], 1) for m in MODELS)] for speaker in scores["live"]]
    return tables.table(["speaker left out (n = 500)", *MODELS], rows)


def mcnemar_table(runs: list[Run]) -> str:
    """``live`` against the two others on the same clips, seed 0."""
    rows = []
    for protocol in PROTOCOLS[:-1]:
        answers = {m: [row for run in select(runs, protocol, m) if run.metrics["seed"] == 0 for row in run.rows] for m in MODELS}
        for other in MODELS[:-1]:
            if answers["live"] and answers[other]:
                only_live, only_other, p = mcnemar(answers["live"], answers[other])
                rows.append([protocol, other, str(only_live), str(only_other), f"{p:.1g}"])
    return tables.table(["protocol", "against", "only live right", "only the other right", "p"], rows, left=2)


def write_csv(path: Path, runs: list[Run]) -> None:
    """One row per run and condition."""
    of_run = ("experiment", "seed", "split", "corpus")
    counted = ("condition", "correct", "total", "macro_by_speaker", "parameters", "train_s")
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["protocol", *of_run, *counted, "git_commit"])
        for run in runs:
            for condition in run.conditions:
                rows = run.of(condition)
                correct = sum(row["predicted"] == row["digit"] for row in rows)
                counts = [condition, correct, len(rows), round(macro(rows), 4), run.metrics["parameters"], run.metrics["train_s"]]
                writer.writerow([run.protocol, *(run.metrics.get(name) for name in of_run), *counts, run.metrics["git_commit"]])


def of_ablation(runs: list[Run]) -> list[Run]:
    """The runs to compare when an ingredient is left out: ``live`` itself with the same seeds, and those without."""
    ablated = [run for run in runs if run.protocol == "ablation"]
    seeds = {run.metrics["seed"] for run in ablated}
    whole = [run for run in runs if run.protocol in ("air_gap", "unseen") and run.experiment == "live"]
    return [run for run in whole if run.metrics["seed"] in seeds] + ablated


def collect(runs: list[Run], out: Path) -> tuple[dict[str, str], dict[str, Figure]]:
    """The sections and pictures that there are runs for."""
    have = {protocol for protocol in PROTOCOLS if select(runs, protocol, "live")}
    sections = {"Summary": headline(runs), "McNemar's exact test, seed 0": mcnemar_table(runs)}
    drawn: dict[str, Figure] = {}
    if "loso" in have:
        logits, labels, _ = confidence.answers(select(runs, "loso", "live"))
        calibrated, found = calibration.calibrate(logits, labels), confidence.confidences(runs)
        sections["Speakers left out"] = speaker_table(runs)
        sections["Confidence"] = f"{calibrated}\n\n{confidence.table(found, calibrated.threshold)}"
        drawn |= {"speakers": pictures.speaker_figure(runs), "reliability": confidence.reliability_figure(found)}
        drawn["risk_coverage"] = confidence.risk_figure(found, calibrated.threshold)
    if "air_gap" in have:
        sections["Battery"] = condition_table(runs, "air_gap")
        drawn["snr"] = pictures.snr_figure(runs)
    if "recorded" in have:
        sections["Real noises and rooms"] = condition_table(runs, "recorded")
    if "unseen" in have:
        drawn["unseen"] = pictures.confusion_figure(select(runs, "unseen", "live"))
    if any(run.protocol == "ablation" for run in runs):
        write_csv(out / "ablation.csv", of_ablation(runs))
    if (out / "ablation.csv").is_file():  # it may be older than the other runs
        ablations = ablation.read(out / "ablation.csv")
        sections["Ablation"] = ablation.table(ablations)
        drawn["ablation"] = ablation.figure(ablations, pictures.COLOURS["live"])
    return sections, drawn


def costs(runs: list[Run]) -> str:
    """Parameters and seconds of training."""
    times = {m: [r.metrics["train_s"] for r in select(runs, "air_gap", m) if r.metrics["train_s"]] for m in MODELS}
    trained = ", ".join(f"{model} {statistics.fmean(seconds):.0f} s" for model, seconds in times.items() if seconds)
    sizes = ", ".join(f"{m} {r[0].metrics['parameters']:,}" for m in MODELS if (r := select(runs, "air_gap", m)))
    return f"Parameters: {sizes}. Training: {trained}."


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
    sections, drawn = collect(runs, options.out)
    closing = f"{tables.provenance([run.metrics for run in runs])}\n{costs(runs)}"
    tables.write_report(options.out / "report.md", "The air gap", sections, closing)
    write_csv(options.out / "results.csv", runs)
    for name, figure in drawn.items():
        figure.savefig(options.out / f"{name}.png", dpi=100)
    print(f"{headline(runs)}\n\nwritten: {options.out / 'report.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
