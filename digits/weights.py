"""A trained model as one plain file: ``python -m digits.weights CHECKPOINT OUT --held-out FOLDER``.

A numpy archive (npz, no pickle) of the network's arrays and, as JSON, its settings, front end, calibration and origin.
``digits/pretrained`` holds the one whose export ``predict`` and ``mic`` use where there is no checkpoint.
"""

import argparse
import json
import math
import sys
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from digits import calibration, checkpoint, model, results
from digits.calibration import Calibration
from digits.corpus import N_DIGITS
from digits.features import FrontEnd
from digits.recognizer import PRETRAINED, PRETRAINED_PATH, Recognizer

PLAIN_PRETRAINED_PATH = PRETRAINED_PATH.with_suffix(".npz")
FORMAT = 1
MAX_RISK = 0.02  # of answers that the stored threshold accepts, on held-out speakers
MAX_FALSE = 0.05  # of other words that it accepts, none of which training has heard


@dataclass(frozen=True)
class Trained:
    """A trained network (in eval mode), its front end and its calibration."""

    network: nn.Module
    front_end: FrontEnd
    calibration: Calibration = field(default_factory=Calibration)

    def probabilities(self, windows: Tensor) -> Tensor:
        """Of windows of the front end, (batch, samples) -> (batch, 10): what an exported model holds."""
        return calibration.probabilities(self.network(self.front_end.log_mel(windows)), self.calibration.temperature)

    def recognizer(self) -> Recognizer:
        """As :class:`digits.recognizer.Recognizer`, run by torch."""

        def run(windows: NDArray[numpy.float32]) -> NDArray[numpy.float32]:
            with torch.inference_mode():
                return self.probabilities(torch.from_numpy(windows)).numpy()

        return Recognizer(self.front_end.window, run, self.calibration.threshold)


def load(path: str | Path) -> Trained:
    """``pretrained``, a plain file (.npz), or a checkpoint, which has no calibration.

    Raises:
        FileNotFoundError, ValueError: as :func:`digits.checkpoint.restore` and :func:`read`.
    """
    if str(path) == PRETRAINED:
        path = PLAIN_PRETRAINED_PATH
    return read(path) if Path(path).suffix == ".npz" else Trained(*checkpoint.restore(path))


def write(path: str | Path, ckpt_path: str | Path, calibrated: Calibration) -> None:
    """Turn a checkpoint of ``digits.train`` into a plain file.

    Raises:
        FileNotFoundError, ValueError: as :func:`digits.checkpoint.restore`; or a path that does not end in .npz.
    """
    if Path(path).suffix != ".npz":
        raise ValueError(f"{path}: the file's name must end in .npz")
    trained = checkpoint.read(ckpt_path)
    network, _ = checkpoint.restore(ckpt_path)
    settings = {
        "format": FORMAT,
        "network": trained["hyper_parameters"]["network"],
        "front_end": trained["datamodule_hyper_parameters"]["front_end"],
        "calibration": asdict(calibrated),
        "about": {**trained["hyper_parameters"]["run"], "git_commit": results.git_commit()},
    }
    arrays = {name: value.numpy() for name, value in network.state_dict().items() if "num_batches" not in name}
    numpy.savez(path, settings=numpy.array(json.dumps(settings)), **arrays)


def read(path: str | Path) -> Trained:
    """A plain file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, of another version, or not one of these.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such model")
    try:
        with numpy.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        settings: dict[str, Any] = json.loads(str(arrays.pop("settings")))
        if settings["format"] != FORMAT:
            raise ValueError(f"format {settings['format']}, this version of digits reads {FORMAT}")
        network = model.build(**settings["network"])
        missing, unexpected = network.load_state_dict(
            {name: torch.from_numpy(array) for name, array in arrays.items()}, strict=False
        )
        if unexpected or any("num_batches" not in name for name in missing):
            raise ValueError(f"weights that do not fit {settings['network']['name']}")
        return Trained(network.eval(), FrontEnd(**settings["front_end"]), Calibration(**settings["calibration"]))
    except (ValueError, KeyError, TypeError, RuntimeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a model that digits.weights wrote, or damaged ({str(error).splitlines()[0]})") from error


def held_out(folder: Path) -> tuple[Tensor, Tensor]:
    """Logits (clips, outputs) and labels of the clean test clips of all runs below a folder.

    Raises:
        ValueError: there is no finished run.
    """
    runs = results.read_metrics(folder)
    for run_dir, metrics in runs.items():
        if not metrics.get("complete", True):
            raise ValueError(f"{run_dir}: heard only a part of its clips; calibrate on whole runs")
    rows = [row for run_dir in runs for row in results.read_predictions(run_dir) if row["condition"] == "clean"]
    if not rows:
        raise ValueError(f"{folder}: no finished run with test clips below it")
    if len({len(row["logits"]) for row in rows}) > 1:
        raise ValueError(f"{folder}: holds runs with and without an output for no digit; calibrate on runs of one recipe")
    logits = torch.tensor([row["logits"] for row in rows])
    return logits, torch.tensor([row["digit"] for row in rows])


def other_words(trained: Trained) -> Tensor | None:
    """Logits of synthetic words that are no digits and that no training hears; None for a network that knows no such sounds."""
    from digits import data, espeak  # here, since reading a file needs neither

    n_outputs = trained.network.head[-1].out_features  # type: ignore[index,union-attr]
    if n_outputs == N_DIGITS:
        return None
    log_mel = data.log_mels(espeak.load("espeak-words-validation").clips, trained.front_end.settings)
    with torch.inference_mode():
        return trained.network(log_mel)


def calibrate(logits: Tensor, labels: Tensor, others: Tensor | None = None) -> Calibration:
    """Temperature and threshold from held-out clips: the higher of the lowest that keeps :data:`MAX_RISK` and of that for
    :data:`MAX_FALSE`.

    Args:
        logits, labels: of digits.
        others: logits of sounds that are no digits.
    """
    temperature = calibration.fit_temperature(logits, labels)
    confidence, predicted = calibration.probabilities(logits, temperature).max(dim=1)
    threshold = calibration.choose_threshold(confidence, predicted == labels, MAX_RISK)
    if others is not None:
        confidence = calibration.probabilities(others, temperature).max(dim=1).values
        threshold = max(threshold, float(confidence.quantile(1 - MAX_FALSE)))
    return Calibration(round(temperature, 4), math.ceil(1e4 * threshold) / 1e4)  # never below what was found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m digits.weights", description="Write a checkpoint as one plain file.")
    parser.add_argument("ckpt_path", metavar="CHECKPOINT")
    parser.add_argument("out", metavar="OUT", help="the file to write, .npz")
    parser.add_argument("--held-out", type=Path, required=True, help="runs of the same recipe on clips they had not heard")
    options = parser.parse_args(arguments)
    try:
        calibrated = calibrate(*held_out(options.held_out), other_words(load(options.ckpt_path)))
        write(options.out, options.ckpt_path, calibrated)
    except (ValueError, OSError) as error:
        print(f"digits.weights: {error}", file=sys.stderr)
        return 1
    print(f"{options.out}: temperature {calibrated.temperature}, not sure below {calibrated.threshold}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
