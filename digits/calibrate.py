"""Calibrate a model on held-out runs and write it as one plain file.

``digits calibrate CHECKPOINT OUT.npz --held-out FOLDER``
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from digits import cli

if TYPE_CHECKING:
    from torch import Tensor

OTHERS = "espeak-words-validation"  # words that no training hears, for recipes without other sounds of real people


def main(arguments: list[str] | None = None) -> int:
    parser = cli.Parser(
        prog="digits calibrate",
        description="Fit a checkpoint's temperature and threshold on what runs of the same recipe make of clips held out of their "
        "training, and write the calibrated model as one plain file without pickle.",
        epilog="example: digits calibrate outputs/pretrained/last.ckpt mine.npz --held-out outputs/air_gap/fsdd/public",
    )
    parser.add_argument("ckpt_path", metavar="CHECKPOINT")
    parser.add_argument("out", metavar="OUT", help="the file to write, .npz")
    parser.add_argument("--held-out", type=Path, required=True, metavar="FOLDER", help="the runs, for example of +sweep=air_gap")
    options = parser.parse_args(arguments)

    from digits.recognition import calibration, torch_models  # here, so that --help is quick
    from digits.training import runs

    try:
        found = held_out(options.held_out)
        calibrated = calibration.calibrate(found.logits, found.labels, found.others)
        torch_models.write_plain(options.out, options.ckpt_path, calibrated, runs.git_commit())
    except (ValueError, OSError) as error:
        print(f"digits calibrate: {cli.printable(str(error))}", file=sys.stderr)
        return 1
    print(f"{options.out}: temperature {calibrated.temperature}, not sure below {calibrated.threshold}")
    return 0


@dataclass(frozen=True)
class HeldOut:
    """Answers to sounds that the training of the run that gave them did not hear.

    Args:
        logits: of digits, shape (clips, outputs).
        labels: of the same clips, shape (clips,).
        others: of other sounds, shape (sounds, 11), one tensor for each corpus; none for networks without a "no digit" output.
    """

    logits: "Tensor"
    labels: "Tensor"
    others: "list[Tensor]"


def held_out(folder: Path) -> HeldOut:
    """What all runs in a folder make of the clips held out of their training.

    These are their clean test clips and those of :func:`answers_to_other_corpora`.

    Raises:
        ValueError: there are no finished runs, a run is incomplete, or the runs have different numbers of outputs.
        FileNotFoundError: a run has no ``best.ckpt`` or ``predictions.csv``, or one of its corpora is not there.
    """
    import torch

    from digits.corpora.corpus import N_DIGITS
    from digits.training import runs

    finished = runs.read_metrics(folder)
    for run_dir, metrics in finished.items():
        if not metrics.get("complete", True):
            raise ValueError(f"{run_dir}: was tested on a part of its clips only; calibrate on complete runs")
    rows = [
        row
        for run_dir in finished
        for row in runs.read_predictions(run_dir)
        if row["condition"] == "clean" and row["digit"] < N_DIGITS
    ]
    if not rows:
        raise ValueError(f"{folder}: no finished run with test clips in it")
    if len({len(row["logits"]) for row in rows}) > 1:
        raise ValueError(f'{folder}: holds runs with and without a "no digit" output; calibrate on runs of one recipe')
    logits, labels = [torch.tensor([row["logits"] for row in rows])], [torch.tensor([row["digit"] for row in rows])]
    others: dict[str, list[Tensor]] = {}
    for run_dir in finished:
        for source, answers, truth in answers_to_other_corpora(run_dir):
            is_digit = truth < N_DIGITS
            logits.append(answers[is_digit])
            labels.append(truth[is_digit])
            if logits[0].shape[1] > N_DIGITS:
                others.setdefault(source, []).append(answers[~is_digit])
    return HeldOut(torch.cat(logits), torch.cat(labels), [torch.cat(answers) for answers in others.values() if len(answers[0])])


def answers_to_other_corpora(run_dir: Path) -> "Iterator[tuple[str, Tensor, Tensor]]":
    """Name, logits (clips, outputs) and labels (clips,) of each corpus besides its own from which a run kept clips apart.

    If it has a "no digit" output and these hold no other sounds, words of espeak-ng are among them.

    Raises:
        ValueError, OSError: the run's ``best.ckpt`` or a corpus cannot be read.
    """
    import torch

    from digits.corpora import catalog, corpus
    from digits.corpora.corpus import NO_DIGIT
    from digits.recognition import torch_models
    from digits.training.log_mels import log_mels
    from digits.training.render import Render

    path = run_dir / "best.ckpt"
    trained, checkpoint = torch_models.load(path), torch_models.read_checkpoint(path)
    kept_apart = {
        source: [clip for clip in catalog.get(source).load(None).clips if clip.fold in (corpus.TEST_FOLD, corpus.VAL_FOLD)]
        for source in checkpoint["datamodule_hyper_parameters"].get("val_sources", ())
    }
    knows_others = checkpoint["hyper_parameters"]["network"].get("n_outputs") == NO_DIGIT + 1
    if knows_others and not any(clip.digit == NO_DIGIT for clips in kept_apart.values() for clip in clips):
        kept_apart[OTHERS] = catalog.get(OTHERS).load(None).clips
    for source, clips in kept_apart.items():
        with torch.inference_mode():
            logits = trained.network(log_mels([Render(clips, trained.front_end.settings)])[0].all())
        yield source, logits, torch.tensor([clip.digit for clip in clips])


if __name__ == "__main__":
    sys.exit(main())
