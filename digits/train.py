"""Train, test and record one run (``digits train``, ``python -m digits.train``), or many (``-m``, ``+sweep=NAME``)."""

import os

# Threads that wait for work should sleep instead of spinning, for the sake of a process that becomes busy during a training; on an
# idle machine that costs a quarter of the time (experiments/bench). OpenMP reads this when torch loads it, so it comes before all
# other imports.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import contextlib
import logging
import re
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from digits import cli, settings
from digits.training import runs, saved_settings

if TYPE_CHECKING:  # torch and Lightning take seconds to import, and no mistake or --help should wait for them
    import lightning

    from digits.training.classifier import DigitClassifier
    from digits.training.datamodule import DigitsDataModule
    from digits.training.resume import Plan

log = logging.getLogger(__name__)

NOT_RESULTS = {"train.log", ".lock"}  # what lies in a run's folder before anything has happened
KILLED = {  # what launchers raise if a run's process was killed
    ("joblib", "TerminatedWorkerError"),
    ("submitit", "UncompletedJobError"),
    ("ray", "WorkerCrashedError"),
    ("ray", "OutOfMemoryError"),
}
QUIET = (  # hints from Lightning that do not apply here: batches come from memory-mapped files, without workers
    ".*does not have many workers.*",
    ".*`isinstance\\(treespec, LeafSpec\\)` is deprecated.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*multiple `ModelCheckpoint` callbacks.*",  # the first one keeps the best epoch, as it should
    ".*The dirpath has changed.*",  # an evaluation in a folder of its own
    ".*sync_dist=True.*",  # with several processes, the learning rate is the same in all of them
)

# For names of folders; "short" also rounds the numbers that a search draws.
OmegaConf.register_new_resolver("flat", lambda text: str(text).replace("/", "_"), replace=True)
OmegaConf.register_new_resolver(
    "short", lambda text: re.sub(r"\d+\.\d{5,}(e-\d+)?", lambda number: f"{float(number[0]):.3g}", str(text)), replace=True
)


def main() -> None:
    try:
        cli.run(job, "digits train", saved_settings.complete)
    except Exception as error:
        if (type(error).__module__.partition(".")[0], type(error).__name__) not in KILLED:
            raise
        sys.exit(
            "digits train: a process of the sweep was killed, perhaps because memory ran out; the same command with resume=true "
            "keeps the finished runs and does the others"
        )


@hydra.main(version_base="1.3", config_path=cli.CONF, config_name="train")
def job(cfg: DictConfig) -> float | None:
    """One job; returns the metric that a sweeper optimises, if it has a value."""
    from digits.training.locks import BusyError

    in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
    try:
        if in_sweep and cfg.ckpt_path and cfg.fit:
            raise ValueError("ckpt_path resumes a single run; resume=true continues a sweep")
        if cfg.resume is True and (finished := _finished(cfg)):
            log.info("%s: already finished, kept", cfg.run_dir)
            return finished[cfg.optimized_metric]
        return train(cfg)[cfg.optimized_metric]
    except BusyError:
        raise  # nothing in that folder is ours
    except BaseException as error:
        if in_sweep:
            _record(error, cfg)
        else:
            _tidy_up(Path(HydraConfig.get().runtime.output_dir))
        if type(error).__name__ == "MisconfigurationException":  # importing it from Lightning would take seconds
            raise ValueError(f"Lightning's Trainer: {error}") from error  # a mistake, and told as one
        raise


def _finished(cfg: DictConfig) -> dict[str, Any] | None:
    from digits.training import resume

    return resume.finished(cfg)


def _record(error: BaseException, cfg: DictConfig) -> None:
    """``error.txt`` says how a sweep's run ended, and the sweep goes on."""
    run_dir = Path(str(cfg.run_dir))
    run_dir.mkdir(parents=True, exist_ok=True)
    saved_settings.write(cfg, run_dir)
    (run_dir / runs.ERROR).write_text(_explained(error))
    if isinstance(error, Exception):
        log.error("%s: failed: %s", run_dir, cli.explain(error))


def _explained(error: BaseException) -> str:
    return f"{traceback.format_exc()}\n{cli.explain(error) or type(error).__name__}\n"


def _tidy_up(made_by_hydra: Path) -> None:
    """Remove the folder of a single run in which nothing has happened, and those above it that are then empty."""
    if not made_by_hydra.is_dir() or not {path.name for path in made_by_hydra.iterdir()} <= NOT_RESULTS:
        return
    shutil.rmtree(made_by_hydra)
    for parent in list(made_by_hydra.parents)[:2]:
        if "outputs" in (parent.name, parent.parent.name):
            with contextlib.suppress(OSError):  # not empty
                parent.rmdir()


def train(cfg: DictConfig) -> dict[str, Any]:
    """Build, fit, validate and test on the best checkpoint; writes ``metrics.json`` last and returns its content.

    Raises:
        ValueError, OSError: a setting, a file of the corpus or a checkpoint that cannot be used, or a training that diverged,
            named in the message.
        BusyError: another process is at work in the run's folder.
    """
    settings.check(cfg)  # before the imports, which take seconds
    from lightning.fabric.utilities.rank_zero import rank_zero_only

    from digits.training import resume
    from digits.training.locks import lock

    quieten()
    plan = resume.plan(cfg)
    is_first = getattr(rank_zero_only, "rank", 0) == 0  # of several processes
    with lock(plan.run_dir) if is_first else contextlib.nullcontext():
        if is_first:
            log.info("%s on %s, seed %d -> %s", plan.cfg.name, plan.cfg.data.source, plan.cfg.seed, plan.run_dir)
        return _run(plan)


def _run(plan: "Plan") -> dict[str, Any]:
    import lightning
    from hydra.utils import instantiate

    from digits.training import resume, threads

    cfg = plan.cfg
    n_threads = threads.use_free_cores(plan.threads)
    lightning.seed_everything(cfg.seed, workers=True, verbose=False)
    data: DigitsDataModule = instantiate(cfg.data)
    classifier: DigitClassifier = instantiate(cfg.classifier)
    trainer: lightning.Trainer = instantiate(cfg.trainer, **_parts_of_trainer(cfg))
    data.setup("fit")
    resume.prepare(plan, n_threads, data.recordings)  # not before: a mistake found until here must not cost an earlier run
    try:
        with _ends_in_a_file(plan.run_dir):
            return _fit_and_measure(plan, trainer, classifier, data)
    finally:
        if wandb := sys.modules.get("wandb"):
            wandb.finish()  # otherwise the next run of a sweep would go on with this one's


def _parts_of_trainer(cfg: DictConfig) -> dict[str, Any]:
    from hydra.utils import instantiate

    made = (instantiate(cfg.get(group) or {}).values() for group in ("callbacks", "logger"))
    callbacks, loggers = ([part for part in group if part is not None] for group in made)
    shows_bar = cfg.trainer.get("enable_progress_bar")
    return {
        "callbacks": callbacks,
        "logger": loggers,
        "enable_progress_bar": sys.stdout.isatty() if shows_bar is None else shows_bar,
    }


@contextlib.contextmanager
def _ends_in_a_file(run_dir: Path) -> Iterator[None]:
    """If the run fails from here on, ``error.txt`` says how."""
    try:
        yield
    except BaseException as error:
        with contextlib.suppress(OSError):
            (run_dir / runs.ERROR).write_text(_explained(error))
        if isinstance(error, OSError) and error.filename is None and error.errno is not None:
            raise OSError(error.errno, error.strerror, str(run_dir)) from error  # a full disk, say
        raise


def _fit_and_measure(
    plan: "Plan", trainer: "lightning.Trainer", classifier: "DigitClassifier", data: "DigitsDataModule"
) -> dict[str, Any]:
    from digits.training import metrics

    cfg = plan.cfg
    hparams = metrics.hparams(cfg, data)
    for logger in trainer.loggers:
        logger.log_hyperparams(hparams)

    started = time.perf_counter()
    if cfg.fit:
        _fit(trainer, classifier, data, plan.ckpt_path)
    train_s = round(time.perf_counter() - started, 2) if cfg.fit and not plan.continues else None  # of a whole training
    measured = metrics.measure(plan, trainer, classifier, data) | {"train_s": train_s}
    if trainer.is_global_zero:
        runs.write_json(plan.run_dir / runs.METRICS, measured)
        metrics.tell_loggers(trainer, hparams, measured)
        if measured["test/total"]:
            log.info("  test/acc %.4f (%d/%d)", measured["test/acc"], measured["test/correct"], measured["test/total"])
    return measured


def quieten() -> None:
    """Silence what Lightning says in every run; its other warnings stay."""
    for message in QUIET:
        warnings.filterwarnings("ignore", message)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


def _fit(trainer: "lightning.Trainer", classifier: "DigitClassifier", data: "DigitsDataModule", ckpt_path: str | None) -> None:
    try:
        trainer.fit(classifier, data, ckpt_path=ckpt_path, weights_only=True)
    except SystemExit:  # Lightning's answer to Ctrl-C
        if trainer.interrupted:
            raise KeyboardInterrupt from None
        raise


if __name__ == "__main__":
    import importlib

    # Under its own name: Hydra's launchers send the job to other processes, which cannot import __main__.
    importlib.import_module("digits.train").main()
