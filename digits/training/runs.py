"""What a run leaves behind: ``predictions.csv`` and, written last, ``metrics.json``; and which finished run is the best."""

import csv
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from digits.corpora.corpus import N_DIGITS, NO_DIGIT
from digits.files import write_whole
from digits.recognition.model_files import PRETRAINED

if TYPE_CHECKING:
    from lightning import Trainer
    from omegaconf import DictConfig

METRICS, PREDICTIONS, STARTED, ERROR = "metrics.json", "predictions.csv", "started.json", "error.txt"
OF_TEST = ".test"  # ends the name of the event file that holds the test
FOR_OTHERS = "ckpt_path=pretrained is made for other people's voices"
FEW_CLIPS = {"train_clips": 1000, "test/total": 100}  # below, a run says little about a listener's digits
_NUMBER, _COUNT = int | float | None, int | None
KINDS = {  # what some of the metrics are, where a file has them
    **dict.fromkeys(("experiment", "corpus", "split"), str | None),
    **dict.fromkeys(("val/acc", "test/acc"), _NUMBER),
    **dict.fromkeys(("seed", "train_clips", "test/total", "n_outputs"), _COUNT),
}
PLACE = ("run_dir", "resume", "ckpt_path", "export", "logger", "optimized_metric")  # settings that change no figure
PACKAGES = ("torch", "torchaudio", "lightning", "hydra-core", "numpy", "soxr")


def environment() -> dict[str, Any]:
    """Packages, machine and number of threads behind a result; other threads sum in another order and change the last bits."""
    import torch

    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
    }


@cache
def git_commit() -> str | None:
    """The project's commit when this process first asked, ``-dirty`` if tracked files differ from it; None outside git."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("-dirty" if changed.strip() else "")


def config_digest(cfg: "DictConfig", without_seed: bool = False) -> str:
    """A short hash of every setting that can change a run's figures; unresolved, so that the seed appears in it only once."""
    from omegaconf import OmegaConf

    settings: Any = OmegaConf.to_container(cfg)
    left_out = (*PLACE, "seed") if without_seed else PLACE
    what = {key: value for key, value in settings.items() if key not in left_out}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def identity(cfg: "DictConfig", recordings: str | None = None) -> dict[str, Any]:
    """What two runs must share for one to stand for the other: settings, code and, where these may change, recordings.

    Args:
        cfg: of the run.
        recordings: digest of its corpus, if that has been read.
    """
    from digits.corpora import catalog  # here, because recognising needs none

    found = {"config": config_digest(cfg), "git_commit": git_commit()}
    source = catalog.get(cfg.data.source)
    if address := cfg.data.get("shards"):
        from digits.training import shards

        found["recordings"] = recordings or shards.recordings(address)
    elif source.may_change:
        found["recordings"] = recordings or source.load(cfg.data.root and str(cfg.data.root)).digest
    return found


def is_complete(trainer: "Trainer") -> bool:
    """Whether a trainer uses all of its data."""
    flags: Any = trainer
    limits = (flags.limit_train_batches, flags.limit_val_batches, flags.limit_test_batches)
    all_of_them = all(isinstance(limit, float) and limit == 1.0 for limit in limits)  # the integer 1 is one batch
    return all_of_them and not flags.fast_dev_run and not flags.overfit_batches


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write the whole file or nothing: the existence of ``metrics.json`` says that the run has finished."""
    write_whole(path, (json.dumps(content, indent=2) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read what :func:`write_json` wrote.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        content = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON: delete it, or the run that it belongs to") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a run's JSON file: delete it, or the run that it belongs to")
    return content


def read_metrics(folder: Path) -> dict[Path, dict[str, Any]]:
    """``metrics.json`` of every finished run in a folder and its subfolders, by the run's folder.

    Raises:
        ValueError: a file of that name that does not belong to a run.
    """
    found = {path.parent: read_json(path) for path in sorted(folder.rglob(METRICS))}
    for run_dir, metrics in found.items():
        if not all(isinstance(metrics.get(name), kinds) for name, kinds in KINDS.items()):
            raise ValueError(f"{run_dir / METRICS}: not a run's metrics: delete it, or the run that it belongs to")
        if missing := {"experiment", "corpus", "split", "seed", "val/acc", "test/acc"} - set(metrics):
            raise ValueError(f"{run_dir / METRICS}: not a run's metrics: it lacks {', '.join(sorted(missing))}")
    return found


def find_best(outputs: str | Path, prefer: Sequence[str]) -> Path | None:
    """The best model of all finished runs in a folder, or None if there are none.

    Experiments rank in the order of ``prefer``, the others after them; then the higher val/acc wins, then the newer run. Runs
    trained on synthetic voices come last. Runs on a part of the data (``trainer=smoke``) do not count, nor do those validated on
    clips they were trained on (``data.split=all``).

    Returns:
        The run's ``best.onnx``, which needs no torch, if it has one; otherwise its ``best.ckpt``.
    """
    rank = {name: -position for position, name in enumerate(prefer)}
    found: list[tuple[bool, int, float, float, Path]] = []
    for run_dir, metrics in read_metrics(Path(outputs).expanduser()).items():
        best = run_dir / "best.ckpt"
        if best.is_file() and metrics.get("complete", True) and metrics["split"] != "all":
            preference = rank.get(metrics["experiment"], -len(rank))
            is_real = not metrics.get("is_synthetic", metrics.get("trained_on") == "espeak")
            found.append((is_real, preference, metrics["val/acc"] or 0.0, best.stat().st_mtime, best))
    if not found:
        return None
    best = max(found)[-1]
    return onnx if (onnx := best.with_suffix(".onnx")).is_file() else best


def choose_model(outputs: str | Path, prefer: Sequence[str], note: str = FOR_OTHERS) -> tuple[str, str]:
    """What ``digits mic`` and ``digits predict`` use if no model is named: the best run's, else the pretrained one.

    Args:
        outputs: the folder with the runs.
        prefer: experiments, best first.
        note: closes the note on a run's model, in the grammar of the command.

    Returns:
        The model's path or name, and a note on the choice.
    """
    best = find_best(outputs, prefer)
    if best is None:
        return PRETRAINED, f"no finished run in {outputs}"
    lacks = _lacks(read_json(best.with_name(METRICS)))
    return str(best), f"your own run{lacks and f', which {lacks}'}; {note}"


def _lacks(metrics: dict[str, Any]) -> str:
    """What a listener should know about a run's model; empty if nothing."""
    lacks = []
    if metrics.get("n_outputs") == N_DIGITS:
        lacks.append("takes every sound for a digit")
    for name, what in (("train_clips", "trained"), ("test/total", "tested")):
        n_clips = metrics.get(name)  # None in runs of an earlier version, and where a checkpoint was only evaluated
        if n_clips is not None and n_clips < FEW_CLIPS[name]:
            lacks.append(f"was {what} on {n_clips} clips only" if n_clips else f"was never {what}")
    return " and ".join([", ".join(lacks[:-1]), lacks[-1]] if len(lacks) > 1 else lacks)


COLUMNS = ("condition", "clip", "speaker", "digit", "predicted", "probability", "logits")


def write_predictions(path: Path, rows: list[dict[str, Any]]) -> None:
    """One row per test clip and condition; the logits share a column, separated by spaces."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        writer.writerows(row | {"logits": " ".join(f"{logit:.3f}" for logit in row["logits"])} for row in rows)


def read_predictions(run_dir: Path) -> list[dict[str, Any]]:
    """What :func:`write_predictions` wrote into a run's folder.

    Raises:
        ValueError: the file is missing, or not one of these.
    """
    path = run_dir / PREDICTIONS
    try:
        with path.open(newline="") as file:
            rows = [
                row
                | {"digit": int(row["digit"]), "predicted": int(row["predicted"]), "probability": float(row["probability"])}
                | {"logits": [float(logit) for logit in row["logits"].split()]}
                for row in csv.DictReader(file)
            ]
        if wrong := [row["digit"] for row in rows if row["digit"] not in range(NO_DIGIT + 1)]:
            raise ValueError(f"{wrong[0]} is no digit")
        return rows
    except (OSError, KeyError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path}: not a run's predictions: {error}") from error
