"""How a run begins: from scratch, from its own ``last.ckpt``, or with a checkpoint to evaluate."""

import logging
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.fabric.utilities.rank_zero import rank_zero_only
from omegaconf import DictConfig, OmegaConf, open_dict

from digits.recognition import torch_models
from digits.training import runs, saved_settings

log = logging.getLogger(__name__)

SPLIT: dict[str, Any] = {"split": "official", "fold": 0, "test_speakers": []}  # the settings of the split and their defaults
RESULTS = (runs.METRICS, runs.PREDICTIONS, runs.ERROR, "best.onnx", "*.png", f"events.out.tfevents.*{runs.OF_TEST}")
STATE = ("best.ckpt", "last.ckpt", "events.out.tfevents.*", "hparams.yaml")  # what a resumed run continues with


@dataclass(frozen=True)
class Plan:
    """What a run is going to do.

    Args:
        cfg: its settings, completed by those that an evaluated checkpoint brings along.
        run_dir: its folder.
        ckpt_path: the checkpoint it continues from or evaluates, if any.
    """

    cfg: DictConfig
    run_dir: Path
    ckpt_path: str | None

    @property
    def continues(self) -> bool:
        """Whether a training goes on from a checkpoint."""
        return self.cfg.fit and self.ckpt_path is not None

    @property
    def threads(self) -> int | None:
        """The number of threads of the training that is continued, if it is known."""
        started = self.run_dir / runs.STARTED
        return runs.read_json(started).get("threads") if self.continues and started.is_file() else None

    @property
    def evaluated(self) -> str | None:
        """The checkpoint that is only evaluated, if any."""
        return None if self.cfg.fit else self.ckpt_path


def finished(cfg: DictConfig) -> dict[str, Any] | None:
    """The metrics of the run in ``cfg.run_dir`` if this one would only repeat it."""
    path = Path(cfg.run_dir) / runs.METRICS
    metrics = read_same(path, cfg)
    if metrics is None and path.is_file():
        log.info("%s: run again, because settings, code or recordings differ, or there are uncommitted changes", path.parent)
    return metrics


def read_same(path: Path, cfg: DictConfig) -> dict[str, Any] | None:
    """The content of a run's JSON file if a run of ``cfg`` would repeat that run; None with uncommitted code, which may differ."""
    if not path.is_file():
        return None
    content, wanted = runs.read_json(path), runs.identity(cfg)
    is_same = all(content.get(name) == value for name, value in wanted.items())
    return content if is_same and _is_committed(wanted) else None


def _is_committed(identity: dict[str, Any]) -> bool:
    """Whether a commit says what the code is."""
    return identity["git_commit"] is not None and not identity["git_commit"].endswith("-dirty")


def plan(cfg: DictConfig) -> Plan:
    """Decide how a run begins. Changes nothing.

    A resumed run continues in the folder of its checkpoint, which also holds its best epoch. An evaluated checkpoint brings its
    own network, front end, name, seed and, on the corpus it was trained on, split, so that no clip it has seen is tested.

    Raises:
        ValueError, FileNotFoundError: there is no usable checkpoint, or it was trained with other settings.
    """
    run_dir = Path(cfg.run_dir)
    ckpt_path: str | None = cfg.ckpt_path and str(Path(cfg.ckpt_path).expanduser())
    if cfg.fit and cfg.data.split == "test_only":
        raise ValueError("data.split=test_only leaves nothing to train on: use it with fit=false ckpt_path=.../best.ckpt")
    if ckpt_path is None and not cfg.fit:
        raise ValueError("fit=false evaluates a trained model: it needs ckpt_path=.../best.ckpt")
    if ckpt_path is None and cfg.resume:
        ckpt_path = _interrupted(cfg, run_dir)
    if ckpt_path is None:
        return Plan(cfg, run_dir, None)
    if Path(ckpt_path).suffix != ".ckpt":
        raise ValueError(
            f"ckpt_path must be a checkpoint (.ckpt), got {ckpt_path}; digits predict --score FOLDER measures a model of any kind"
        )
    checkpoint = _read(Path(ckpt_path))
    if not cfg.fit:
        return Plan(_adopt(cfg, checkpoint), run_dir, ckpt_path)
    _must_match(cfg, checkpoint, ckpt_path)
    if (n_trained := checkpoint.get("epoch", 0) + 1) > cfg.trainer.max_epochs:
        raise ValueError(f"{ckpt_path} was trained for {n_trained} epochs, which is more than max_epochs={cfg.trainer.max_epochs}")
    _must_be_same_recordings(Path(ckpt_path).parent, runs.identity(cfg))
    resumed = deepcopy(cfg)
    resumed.run_dir = str(Path(ckpt_path).parent)
    return Plan(resumed, Path(ckpt_path).parent, ckpt_path)


def _read(path: Path) -> dict[str, Any]:
    try:
        return torch_models.read_checkpoint(path)
    except ValueError as error:
        other = path.with_name("best.ckpt" if path.name == "last.ckpt" else "last.ckpt")
        hint = f"; {other.name} beside it may be whole" if other.is_file() else ""
        raise ValueError(f"{error}{hint}") from error


def _interrupted(cfg: DictConfig, run_dir: Path) -> str | None:
    """The checkpoint of a run that was begun in ``run_dir`` with these settings and has not finished, if there is one."""
    last, best = run_dir / "last.ckpt", run_dir / "best.ckpt"
    if not last.is_file() or (run_dir / runs.METRICS).is_file():
        return None
    started, wanted = run_dir / runs.STARTED, runs.identity(cfg)
    begun = runs.read_json(started) if started.is_file() else {}
    if begun.get("config") != wanted["config"]:
        raise ValueError(
            f"{run_dir} holds an interrupted run with other settings: give its settings to continue it, "
            "or resume=false to delete it and start again"
        )
    _must_be_same_recordings(run_dir, wanted)
    if not _is_committed(wanted) or begun.get("git_commit") != wanted["git_commit"]:
        log.warning("%s: continues a run that was begun by other or uncommitted code; resume=false starts it again", run_dir)
    try:
        torch_models.read_checkpoint(last)
    except ValueError as error:
        if not best.is_file():
            raise ValueError(f"{error}; resume=false starts the run again") from error
        log.warning("%s; continuing from best.ckpt", error)
        return str(best)
    return str(last)


def _must_be_same_recordings(run_dir: Path, wanted: dict[str, Any]) -> None:
    started = run_dir / runs.STARTED
    before = runs.read_json(started).get("recordings") if started.is_file() else None
    if before not in (None, wanted.get("recordings")):
        raise ValueError(
            f"{run_dir}: the recordings have changed since this run was begun: put them back, or train anew (in another folder, "
            "or with resume=false)"
        )


@rank_zero_only
def prepare(begun: Plan, threads: int, recordings: str) -> None:
    """Make the run's folder and clear it of an earlier run's results; with several processes, only the first does so."""
    begun.run_dir.mkdir(parents=True, exist_ok=True)
    patterns = RESULTS if begun.continues else RESULTS + STATE
    found = {path for pattern in patterns for path in begun.run_dir.glob(pattern)}
    old = [path for path in found if begun.ckpt_path is None or not path.samefile(begun.ckpt_path)]
    if lost := [path.name for path in old if path.suffix in (".ckpt", ".onnx")]:
        log.warning("%s: deletes an earlier run's %s", begun.run_dir, " and ".join(sorted(lost)))
    for path in old:
        path.unlink()
    saved_settings.write(begun.cfg, begun.run_dir)
    runs.write_json(begun.run_dir / runs.STARTED, runs.identity(begun.cfg, recordings) | {"threads": threads})


def _must_match(cfg: DictConfig, checkpoint: dict[str, Any], ckpt_path: str) -> None:
    resolved: Any = OmegaConf.to_container(cfg, resolve=True)
    for group, part in (("data", "datamodule_hyper_parameters"), ("classifier", "hyper_parameters")):
        for name, value in resolved[group].items():
            if name.startswith("_") or name in ("root", "shards"):
                continue
            before = checkpoint[part].get(name, value)  # a checkpoint from before a setting existed fits
            if name == "network":
                before = value | before
            if before != value:
                raise ValueError(f"{ckpt_path} was trained with {group}.{name} = {before}, this run has {value}: they must match")


def _adopt(cfg: DictConfig, checkpoint: dict[str, Any]) -> DictConfig:
    """The settings of an evaluation.

    Raises:
        ValueError: another split than that of the training, whose test part may hold clips of the training.
    """
    hparams, data = checkpoint["hyper_parameters"], checkpoint["datamodule_hyper_parameters"]
    own_corpus = cfg.data.source == data["source"]
    if own_corpus and cfg.data.split == "test_only":
        log.warning("data.split=test_only on the corpus of the training: most of these clips were trained on")
    elif own_corpus:
        for name, default in SPLIT.items():
            if cfg.data[name] not in (default, data[name]):
                raise ValueError(
                    f"data.{name}={cfg.data[name]}: a checkpoint is evaluated on the split that it was trained with "
                    f"(data.{name}={data[name]}); only data.split=test_only tests on all clips"
                )
    adopted = deepcopy(cfg)
    with open_dict(adopted):
        adopted.name, adopted.seed, adopted.model = hparams["experiment"], hparams["seed"], hparams["network"]
        adopted.classifier.corpus = hparams["corpus"]
        adopted.data.front_end = data["front_end"]
        if own_corpus and cfg.data.split != "test_only":
            for name in [*SPLIT, *(("train_sets", "val_sources") if "shards" in cfg.data else ())]:
                adopted.data[name] = data[name]
    return adopted
