"""Tables of ``experiment=public``: ``python experiments/public/public.py outputs --out experiments/public``.

Reads its runs of the protocols of the air-gap study, each from the folder of that name in ``outputs``.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from digits.calibrate import answers_to_other_corpora
from digits.corpora.corpus import N_DIGITS
from digits.recognition import calibration, torch_models
from digits.training.runs import read_metrics
from experiments import tables
from experiments.air_gap import air_gap, confidence
from experiments.air_gap.answers import Run, by_speaker, read, select
from experiments.tables import percent

MODEL = "public"
NAMES = {"loso": "FSDD speakers left out", "air_gap": "FSDD, official test", "unseen": "unseen speakers"}


def speakers(runs: Sequence[Run]) -> str:
    scores = by_speaker(row for run in select(runs, "loso", MODEL) for row in run.of("clean"))
    return tables.table(["speaker left out (n = 500)", MODEL], [[name, percent([score], 1)] for name, score in scores.items()])


def trust(runs: Sequence[Run], calibrated: calibration.Calibration) -> str:
    """Calibration error, and what the shipped threshold accepts."""
    header = ["clips", "calibration error", "of accepted answers", "accepted", "wrong among accepted", "wrong without a threshold"]
    rows = []
    for protocol, name in NAMES.items():
        if found := select(runs, protocol, MODEL):
            logits, labels, _ = confidence.answers(found)
            probabilities = calibration.probabilities(logits, calibrated.temperature)
            best, predicted = probabilities.max(dim=1)
            accepted, wrong = best >= calibrated.threshold, predicted != labels
            errors = [
                calibration.expected_calibration_error(probabilities[chosen], labels[chosen])
                for chosen in (accepted | True, accepted)
            ]
            shares = [float(share.float().mean()) for share in (accepted, wrong[accepted], wrong)]
            rows.append([name, *(f"{100 * value:.1f}" for value in (*errors, *shares))])
    return tables.table(header, rows)


def by_digit(outputs: Path, runs: Sequence[Run]) -> str:
    """Wrong answers of the official split's runs: a digit that a network knows by its channel would fail in another corpus."""
    truth: dict[str, list[tuple[int, bool]]] = {}  # corpus -> digit, right
    for protocol in ("air_gap", "unseen"):
        rows = [row for run in select(runs, protocol, MODEL) for row in run.of("clean")]
        truth[NAMES[protocol]] = [(row["digit"], row["predicted"] == row["digit"]) for row in rows]
    for run_dir, metrics in read_metrics(outputs / "air_gap").items():
        if metrics["experiment"] == MODEL:
            for source, logits, labels in answers_to_other_corpora(run_dir):
                digits = labels < N_DIGITS
                right = logits[digits, :N_DIGITS].argmax(dim=1) == labels[digits]
                truth.setdefault(source, []).extend(zip(labels[digits].tolist(), right.tolist(), strict=True))
    found = {name: answers for name, answers in truth.items() if answers}
    counts = []
    for digit in range(N_DIGITS):
        own = [[right for label, right in answers if label == digit] for answers in found.values()]
        counts.append([str(digit), *(f"{right.count(False)} of {len(right)}" for right in own)])
    return tables.table(["wrong", *found], counts)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Tables of experiment=public.")
    parser.add_argument("outputs", type=Path, help="the folder that holds air_gap, loso, unseen and others of the air-gap study")
    parser.add_argument("--out", type=Path, required=True, help="where to write")
    options = parser.parse_args(arguments)
    try:
        runs = [run for run in read(options.outputs) if run.experiment == MODEL]
        calibrated = torch_models.load("pretrained").calibration
        digits = by_digit(options.outputs, runs) if select(runs, "air_gap", MODEL) else ""
    except (ValueError, OSError) as error:
        sys.exit(f"public: {error}")
    options.out.mkdir(parents=True, exist_ok=True)
    sections = {"Summary": air_gap.headline(runs, (MODEL,))}
    if select(runs, "loso", MODEL):
        sections |= {"Speakers left out": speakers(runs), "Confidence": f"{trust(runs, calibrated)}\n\n{calibrated}"}
    if digits:
        sections["Digits"] = digits
    tables.write_report(options.out / "report.md", "Public voices", sections, tables.provenance([run.metrics for run in runs]))
    air_gap.write_csv(options.out / "results.csv", runs)
    print("\n\n".join(sections.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
