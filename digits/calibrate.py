"""Calibrate a model on held-out runs and write it as one plain file.

``digits calibrate CHECKPOINT OUT.npz --held-out FOLDER``
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from digits import cli

if TYPE_CHECKING:
    from torch import Tensor

    from digits.recognition.torch_models import Trained


def main(arguments: list[str] | None = None) -> int:
    parser = cli.Parser(
        prog="digits calibrate",
        description="Fit a checkpoint's temperature and threshold on runs of the same recipe, each tested on clips held out of its "
        "training, and write the calibrated model as one plain file without pickle.",
        epilog="example: digits calibrate outputs/pretrained/last.ckpt live.npz --held-out outputs/loso/fsdd/live",
    )
    parser.add_argument("ckpt_path", metavar="CHECKPOINT")
    parser.add_argument("out", metavar="OUT", help="the file to write, .npz")
    parser.add_argument("--held-out", type=Path, required=True, metavar="FOLDER", help="the runs, for example of +sweep=loso")
    options = parser.parse_args(arguments)

    from digits.recognition import calibration, torch_models  # here, so that --help is quick
    from digits.training import runs

    try:
        calibrated = calibration.calibrate(*held_out(options.held_out), other_words(torch_models.load(options.ckpt_path)))
        torch_models.write_plain(options.out, options.ckpt_path, calibrated, runs.git_commit())
    except (ValueError, OSError) as error:
        print(f"digits calibrate: {cli.printable(str(error))}", file=sys.stderr)
        return 1
    print(f"{options.out}: temperature {calibrated.temperature}, not sure below {calibrated.threshold}")
    return 0


def held_out(folder: Path) -> "tuple[Tensor, Tensor]":
    """Logits (clips, outputs) and labels (clips,) of the clean test clips of all runs in a folder.

    Raises:
        ValueError: there are no finished runs, a run is incomplete, or the runs have different numbers of outputs.
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
    logits = torch.tensor([row["logits"] for row in rows])
    return logits, torch.tensor([row["digit"] for row in rows])


def other_words(trained: "Trained") -> "Tensor | None":
    """Logits of synthetic words that no training hears; None for a network without a "no digit" output."""
    import torch

    from digits.corpora import catalog
    from digits.corpora.corpus import N_DIGITS
    from digits.training.log_mels import log_mels

    n_outputs = trained.network.head[-1].out_features  # type: ignore[index,union-attr]
    if n_outputs == N_DIGITS:
        return None
    log_mel = log_mels(catalog.get("espeak-words-validation").load(None).clips, trained.front_end.settings)
    with torch.inference_mode():
        return trained.network(log_mel)


if __name__ == "__main__":
    sys.exit(main())
