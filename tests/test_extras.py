"""Sweepers, launchers and loggers of other packages, each really run: ``make test-extras``."""

import os
import signal
from pathlib import Path

import pytest
from support import shell, start, wait_until

from digits.training import runs
from experiments.compare import compare

pytestmark = pytest.mark.extras


@pytest.fixture
def tiny(tiny_corpus: Path) -> list[str]:
    """Settings of runs that last a second."""
    place = ["data=folder", f"data.root={tiny_corpus}", "trainer.accelerator=cpu", "export=false", "data.batch_size=20"]
    return [*place, "conditions=clean", "max_epochs=1"]


def test_a_search_goes_on_up_to_its_number_of_trials(tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep = tmp_path / "search"
    search = ["train", *tiny, "hparams_search=optuna", f"hydra.sweep.dir={sweep}"]
    done = shell(*search, "hydra.sweeper.n_trials=2")
    assert done.returncode == 0, done.stderr
    other = shell(*search, "hydra.sweeper.n_trials=3", "resume=true", "seed=3")
    assert "holds a search with other settings" in other.stderr
    again = shell(*search, "hydra.sweeper.n_trials=3")
    assert "holds a search of 2 trials: resume=true goes on" in again.stderr
    assert again.returncode == 1
    assert shell(*search, "hydra.sweeper.n_trials=3", "resume=true").returncode == 0
    losses = [metrics["val/loss"] for metrics in runs.read_metrics(sweep).values()]
    assert len(losses) == len(set(losses)) == 3
    assert shell(*search, "hydra.sweeper.n_trials=3", "resume=true").returncode == 0
    assert len(runs.read_metrics(sweep)) == 3
    assert compare.main([str(sweep)]) == 0
    table = capsys.readouterr().out
    best = table.splitlines()[2].split("|")
    assert float(best[2]) == pytest.approx(min(losses), abs=1e-4)
    assert (sweep / "search.png").stat().st_size > 10_000
    assert f"best_value: {min(losses)}" in (sweep / "optimization_results.yaml").read_text()


@pytest.mark.parametrize("launcher", ["two", "submitit_local", "ray_local"])
def test_a_launcher_runs_a_sweep(tiny: list[str], tmp_path: Path, launcher: str) -> None:
    sweep = ["train", "-m", *tiny, f"hydra/launcher={launcher}", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    done = shell(*sweep, timeout_s=600)
    assert done.returncode == 0, done.stderr
    assert {metrics["seed"] for metrics in runs.read_metrics(tmp_path / "sweep").values()} == {0, 1}


def test_a_killed_worker_is_told_and_resume_does_what_is_missing(tiny: list[str], tmp_path: Path) -> None:
    sweep = ["train", "-m", *tiny, "max_epochs=200", "hydra/launcher=two", "seed=0,1", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    process = start(*sweep)
    wait_until(lambda: len(list(tmp_path.rglob("last.ckpt"))) == 2 or process.poll() is not None)
    victim = next(pid for pid in _children(process.pid) if "LokyProcess" in _command(pid))
    os.kill(victim, signal.SIGKILL)
    _, told = process.communicate()
    assert process.returncode == 1
    assert "a process of the sweep was killed" in told
    assert "resume=true" in told
    assert shell(*sweep, "resume=true", timeout_s=600).returncode == 0
    assert len(runs.read_metrics(tmp_path / "sweep")) == 2


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _command(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_wandb_keeps_runs_apart_and_offline(tiny: list[str], tmp_path: Path) -> None:
    done = shell("train", "-m", *tiny, "logger=wandb", "seed=0,1", f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert len(runs.read_metrics(tmp_path)) == 2
    kept = list(tmp_path.rglob("wandb/offline-run-*/run-*.wandb"))
    assert len(kept) == 2
    assert all(b"test/acc" in path.read_bytes() for path in kept)


def test_mlflow_has_a_run_s_scores(tiny: list[str], tmp_path: Path) -> None:
    import mlflow

    address = f"sqlite:///{tmp_path / 'mlflow.db'}"
    done = shell("train", *tiny, "logger=mlflow", f"logger.mlflow.tracking_uri={address}", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    client = mlflow.MlflowClient(address)
    (run,) = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.metrics["test/acc"] == pytest.approx(runs.read_json(tmp_path / "run" / "metrics.json")["test/acc"])
    assert run.data.params["experiment"] == "baseline"
