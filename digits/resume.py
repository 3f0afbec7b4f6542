"""How a run begins: from nothing, from its own ``last.ckpt``, or only to evaluate a checkpoint."""

import logging
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from digits import checkpoint, results

log = logging.getLogger(__name__)

RESULTS = ("metrics.json", "predictions.csv", "error.txt")
STATE = ("best.ckpt", "last.ckpt", "events.out.tfevents.*", "hparams.yaml")  # what a resumed run goes on with


def finished(cfg: DictConfig) -> dict[str, Any] | None:
    """The metrics of the run in ``cfg.run_dir`` if this one would only repeat it."""
    path = Path(cfg.run_dir) / "metrics.json"
    metrics = results.read_same(path, cfg)
    if metrics is None and path.is_file():
        log.info("%s: its settings or the code differ, or files are not committed: run again", path.parent)
    return metrics


def begin(cfg: DictConfig) -> str | None:
    """Clear the run's folder for what is to come and return the checkpoint to go on from, if any.

    A resumed run goes on in the folder of its checkpoint, since the best epoch so far lies there. An evaluated checkpoint brings
    its own network, front end, name, seed and, on the corpus it was trained on, split: no clip it has seen is taken for a test.

    Raises:
        ValueError, FileNotFoundError: no usable checkpoint, or one trained with other settings.
    """
    run_dir = Path(cfg.run_dir)
    ckpt_path: str | None = cfg.ckpt_path and str(Path(cfg.ckpt_path).expanduser())
    if ckpt_path is None and not cfg.fit:
        raise ValueError("fit=false evaluates a trained model: it needs ckpt_path=.../best.ckpt")
    if ckpt_path is None and cfg.resume and results.read_same(run_dir / "started.json", cfg):
        ckpt_path = str(run_dir / "last.ckpt") if (run_dir / "last.ckpt").is_file() else None
    if ckpt_path is not None:
        trained = checkpoint.read(ckpt_path)
        if cfg.fit:
            _must_match(cfg, trained, ckpt_path)
            run_dir = Path(ckpt_path).parent
            with open_dict(cfg):
                cfg.run_dir = str(run_dir)
        else:
            _adopt(cfg, trained)
    run_dir.mkdir(parents=True, exist_ok=True)
    resumed = cfg.fit and ckpt_path is not None
    for pattern in RESULTS if resumed else RESULTS + STATE:  # of an earlier run of the same name
        for path in run_dir.glob(pattern):
            if ckpt_path is None or not path.samefile(ckpt_path):
                path.unlink()
    results.write_json(run_dir / "started.json", results.identity(cfg))
    return ckpt_path


def _must_match(cfg: DictConfig, trained: dict[str, Any], ckpt_path: str) -> None:
    resolved: Any = OmegaConf.to_container(cfg, resolve=True)
    for group, part in (("data", "datamodule_hyper_parameters"), ("classifier", "hyper_parameters")):
        for name, value in resolved[group].items():
            if name.startswith("_") or name == "root":
                continue
            if (before := trained[part].get(name)) != value:
                raise ValueError(f"{ckpt_path} was trained with {group}.{name} = {before}, this run has {value}: give the same")


def _adopt(cfg: DictConfig, trained: dict[str, Any]) -> None:
    hparams, data = trained["hyper_parameters"], trained["datamodule_hyper_parameters"]
    with open_dict(cfg):
        cfg.name, cfg.seed, cfg.model = hparams["run"]["experiment"], hparams["run"]["seed"], hparams["network"]
        cfg.classifier.run = hparams["run"]
        cfg.data.front_end = data["front_end"]
        if cfg.data.source == data["source"] and cfg.data.split != "test_only":
            for name in ("split", "fold", "test_speakers"):
                cfg.data[name] = data[name]
