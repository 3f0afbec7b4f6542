"""What a run leaves behind: ``metrics.json``, written last, and ``predictions.csv``."""

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
from typing import Any

from omegaconf import DictConfig, OmegaConf

PLACE = ("run_dir", "resume", "ckpt_path")  # settings that say where a run is, not what it computes
OWN_SOURCES = ("folder",)  # people's own recordings, which may change between runs
PACKAGES = ("torch", "torchaudio", "lightning", "hydra-core", "numpy", "soxr")


def environment() -> dict[str, Any]:
    """Packages and machine that a result came from."""
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


@cache
def git_commit() -> str | None:
    """The project's commit when this process first asked, ``-dirty`` if tracked files differ from it; None outside of git."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("-dirty" if changed.strip() else "")


def config_digest(cfg: DictConfig, without_seed: bool = False) -> str:
    """A short hash of every setting that can change a run's figures; unresolved, so that the seed stands in it only once."""
    settings: Any = OmegaConf.to_container(cfg)
    left_out = (*PLACE, "seed") if without_seed else PLACE
    what = {key: value for key, value in settings.items() if key not in left_out}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def identity(cfg: DictConfig) -> dict[str, Any]:
    """What two runs must share for one to stand for the other: settings and code."""
    return {"config": config_digest(cfg), "git_commit": git_commit()}


def read_same(path: Path, cfg: DictConfig) -> dict[str, Any] | None:
    """The content of a run's json file if a run of ``cfg`` would repeat it.

    Uncommitted code and people's own recordings may have changed since: they never do.
    """
    if not path.is_file() or cfg.data.source in OWN_SOURCES:
        return None
    content, wanted = read_json(path), identity(cfg)
    committed = wanted["git_commit"] is not None and not wanted["git_commit"].endswith("-dirty")
    return content if committed and all(content.get(name) == value for name, value in wanted.items()) else None


def read_json(path: Path) -> dict[str, Any]:
    """Read what :func:`write_json` wrote.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: not readable as json: delete it, or the run that it belongs to") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not a run's json file: delete it, or the run that it belongs to")
    return content


def read_metrics(folder: Path) -> dict[Path, dict[str, Any]]:
    """``metrics.json`` of every finished run below a folder, by the run's folder.

    Raises:
        ValueError: a file of that name that is none of a run.
    """
    found = {path.parent: read_json(path) for path in sorted(folder.rglob("metrics.json"))}
    for run_dir, metrics in found.items():
        if missing := {"experiment", "corpus", "split", "seed", "val/acc", "test/acc"} - set(metrics):
            raise ValueError(f"{run_dir / 'metrics.json'}: not a run's: it lacks {', '.join(sorted(missing))}")
    return found


def find_best(outputs: str | Path, prefer: Sequence[str]) -> Path | None:
    """The best checkpoint of all finished runs below a folder, or None without any.

    Experiments come in the order of ``prefer``, the others after them; then the higher val/acc, then the newer run.
    Runs trained on synthetic voices come last of all; runs on a part of the data (``trainer=smoke``) do not count,
    nor do those that have heard what they are validated on (``data.split=all``).
    """
    rank = {name: -position for position, name in enumerate(prefer)}
    found: list[tuple[bool, int, float, float, Path]] = []
    for run_dir, metrics in read_metrics(Path(outputs).expanduser()).items():
        best = run_dir / "best.ckpt"
        if best.is_file() and metrics.get("complete", True) and metrics["split"] != "all":
            preference = rank.get(metrics["experiment"], -len(rank))
            real = metrics.get("trained_on") != "espeak"
            found.append((real, preference, metrics["val/acc"] or 0.0, best.stat().st_mtime, best))
    return max(found)[-1] if found else None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write whole or not at all: the existence of ``metrics.json`` says that the run finished."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


COLUMNS = ("condition", "clip", "speaker", "digit", "predicted", "probability", "logits")


def write_predictions(path: Path, rows: list[dict[str, Any]]) -> None:
    """One row a test clip and condition; the logits stand in one column, apart by spaces."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=COLUMNS)
        writer.writeheader()
        writer.writerows(row | {"logits": " ".join(f"{logit:.3f}" for logit in row["logits"])} for row in rows)


def read_predictions(run_dir: Path) -> list[dict[str, Any]]:
    """What :func:`write_predictions` wrote into a run's folder.

    Raises:
        ValueError: the file is missing, or not one of these.
    """
    path = run_dir / "predictions.csv"
    try:
        with path.open(newline="") as file:
            return [
                row
                | {"digit": int(row["digit"]), "predicted": int(row["predicted"]), "probability": float(row["probability"])}
                | {"logits": [float(logit) for logit in row["logits"].split()]}
                for row in csv.DictReader(file)
            ]
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{path}: no predictions of a run: {error}") from error
