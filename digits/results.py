"""What a run leaves behind: ``metrics.json``, written last, and ``predictions.csv``."""

import csv
import hashlib
import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

PLACE = ("run_dir", "resume", "ckpt_path")  # settings that say where a run is, not what it computes
PACKAGES = ("torch", "torchaudio", "lightning", "hydra-core", "numpy")


def environment() -> dict[str, Any]:
    """Packages and machine that a result came from."""
    return {
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
    }


def git_commit() -> str | None:
    """The project's commit, ``-dirty`` if tracked files differ from it; None outside of a git checkout."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit + ("-dirty" if changed.strip() else "")


def config_digest(cfg: DictConfig) -> str:
    """A short hash of every setting that can change a run's figures."""
    settings: Any = OmegaConf.to_container(cfg)
    what = {key: value for key, value in settings.items() if key not in PLACE}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]


def identity(cfg: DictConfig) -> dict[str, Any]:
    """What two runs must share for one to stand for the other: settings and code."""
    return {"config": config_digest(cfg), "git_commit": git_commit()}


def read_same(path: Path, cfg: DictConfig) -> dict[str, Any] | None:
    """The content of a run's json file if a run of ``cfg`` would repeat it; uncommitted changes never do."""
    if not path.is_file():
        return None
    content = json.loads(path.read_text())
    same = all(content[name] == value for name, value in identity(cfg).items())
    return content if same and not str(content["git_commit"]).endswith("-dirty") else None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write whole or not at all: the existence of ``metrics.json`` says that the run finished."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=2) + "\n")
    temporary.replace(path)


def write_predictions(path: Path, rows: list[dict[str, Any]]) -> None:
    """One row a test clip and condition."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=["condition", "clip", "speaker", "digit", "predicted", "probability"])
        writer.writeheader()
        writer.writerows(rows)
