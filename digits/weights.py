"""A trained model as one plain file: ``python -m digits.weights CHECKPOINT OUT --held-out FOLDER``.

A numpy archive (npz, no pickle) of the network's arrays and, as JSON, its settings, front end, calibration and origin.
``digits/pretrained`` holds the one that ``predict`` and ``mic`` use where there is no checkpoint.
"""

import argparse
import json
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy
import torch
from torch import Tensor, nn

from digits import calibration, checkpoint, model, results
from digits.calibration import Calibration
from digits.features import FrontEnd

PRETRAINED = Path(__file__).parent / "pretrained" / "live.npz"
FORMAT = 1
MAX_RISK = 0.02  # of answers that the stored threshold accepts, on held-out speakers


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


def read(path: str | Path) -> tuple[nn.Module, FrontEnd, Calibration]:
    """The network in eval mode, its front end and its calibration.

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
        return network.eval(), FrontEnd(**settings["front_end"]), Calibration(**settings["calibration"])
    except (ValueError, KeyError, TypeError, RuntimeError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: not a model that digits.weights wrote, or damaged ({str(error).splitlines()[0]})") from error


def held_out(folder: Path) -> tuple[Tensor, Tensor]:
    """Logits (clips, 10) and labels of the clean test clips of all runs below a folder.

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
    logits = torch.tensor([row["logits"] for row in rows])
    return logits, torch.tensor([row["digit"] for row in rows])


def calibrate(logits: Tensor, labels: Tensor, max_risk: float = MAX_RISK) -> Calibration:
    """Temperature and threshold from held-out clips."""
    temperature = calibration.fit_temperature(logits, labels)
    confidence, predicted = (logits / temperature).softmax(dim=1).max(dim=1)
    threshold = calibration.choose_threshold(confidence, predicted == labels, max_risk)
    return Calibration(round(temperature, 4), round(threshold, 4))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m digits.weights", description="Write a checkpoint as one plain file.")
    parser.add_argument("ckpt_path", metavar="CHECKPOINT")
    parser.add_argument("out", metavar="OUT", help="the file to write, .npz")
    parser.add_argument("--held-out", type=Path, required=True, help="runs of the same recipe on clips they had not heard")
    options = parser.parse_args(arguments)
    try:
        calibrated = calibrate(*held_out(options.held_out))
        write(options.out, options.ckpt_path, calibrated)
    except (ValueError, OSError) as error:
        print(f"digits.weights: {error}", file=sys.stderr)
        return 1
    print(f"{options.out}: temperature {calibrated.temperature}, not sure below {calibrated.threshold}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
