import csv
import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from conftest import tiny_run
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from digits import results
from digits.train import train

REPOSITORY = Path(__file__).parent.parent


def cli(*arguments: str, cwd: Path = REPOSITORY) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "digits.train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=os.environ, check=False)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def test_a_run_leaves_everything_it_promises(tiny_checkpoint: Path) -> None:
    run_dir = tiny_checkpoint.parent
    metrics = json.loads((run_dir / "metrics.json").read_text())
    named = "experiment corpus split seed parameters epochs train_s val/acc test/acc test/correct test/total git_commit versions"
    assert set(named.split()) <= set(metrics)
    assert metrics["corpus"] == "folder-recordings"
    assert metrics["split"] == "official"
    assert metrics["epochs"] == 8
    assert metrics["test/acc"] > 0.8  # it did learn; chance is 0.1
    with (run_dir / "predictions.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["condition"] == "clean"]
    assert len(rows) == metrics["test/total"] == 100
    right = sum(row["digit"] == row["predicted"] for row in rows)
    assert right == metrics["test/correct"] == round(metrics["test/acc"] * 100)
    assert torch.load(run_dir / "last.ckpt", weights_only=True)["epoch"] == 7  # not the best, the last


def test_tensorboard_shows_scalars_figures_and_hparams(tiny_checkpoint: Path) -> None:
    accumulators, hparams = [], set()
    for path in tiny_checkpoint.parent.glob("events.out.tfevents.*"):
        accumulator = EventAccumulator(str(path))
        accumulator.Reload()
        accumulators.append(accumulator.Tags())
        hparams |= set(accumulator.summary_metadata)
        if "val/acc" in accumulator.Tags()["scalars"]:
            assert min(event.step for event in accumulator.Scalars("val/acc")) > 0
    scalars = {tag for tags in accumulators for tag in tags["scalars"]}
    images = {tag for tags in accumulators for tag in tags["images"]}
    assert {"train/loss", "val/loss", "val/acc", "val/f1", "test/acc"} <= scalars
    assert {"test/confusion", "log_mel/augmentation"} <= images
    assert "_hparams_/session_start_info" in hparams


def test_misclassified_clips_can_be_heard(tiny_corpus: Path, tmp_path: Path) -> None:
    metrics = train(
        tiny_run(tiny_corpus, tmp_path / "run", "trainer=smoke", "data.batch_size=10", "trainer.limit_test_batches=1.0")
    )
    assert metrics["test/correct"] < metrics["test/total"]
    sounds = set()
    for path in (tmp_path / "run").glob("events.out.tfevents.*"):
        accumulator = EventAccumulator(str(path))
        accumulator.Reload()
        sounds |= set(accumulator.Tags()["audio"])
    assert sounds
    assert all("_heard_as_" in tag for tag in sounds)


def test_a_normal_run_warns_of_nothing(tiny_corpus: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        train(tiny_run(tiny_corpus, tmp_path / "run", "trainer=smoke", "trainer.limit_train_batches=1", "data.batch_size=10"))
    assert [str(warning.message) for warning in caught] == []


def test_same_command_same_weights(tiny_corpus: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        train(tiny_run(tiny_corpus, tmp_path / name, "experiment=robust", "trainer.max_epochs=2", "data.batch_size=20"))
    first, second = weights(tmp_path / "a" / "last.ckpt"), weights(tmp_path / "b" / "last.ckpt")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_killed_in_an_epoch_resumes_as_if_nothing_had_happened(tiny_corpus: Path, tmp_path: Path) -> None:
    """kill -9, then ckpt_path=last.ckpt: the weights are those of an unbroken run, to the bit."""
    shared = ["experiment=robust", "trainer.max_epochs=40", "data.batch_size=10"]
    place = ["data=folder", f"data.root={tiny_corpus}", "trainer.accelerator=cpu"]
    unbroken = train(tiny_run(tiny_corpus, tmp_path / "unbroken", *shared, "name=robust"))
    command = [sys.executable, "-m", "digits.train", *place, *shared, f"hydra.run.dir={tmp_path / 'killed'}"]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=os.environ, stdout=subprocess.DEVNULL)
    last = tmp_path / "killed" / "last.ckpt"
    deadline = time.monotonic() + 60
    while not last.is_file() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "metrics.json").exists()
    assert torch.load(last, weights_only=True)["epoch"] < 39
    resumed = train(tiny_run(tiny_corpus, tmp_path / "killed", *shared, "name=robust", f"ckpt_path={last}"))
    assert resumed["test/correct"] == unbroken["test/correct"]
    one, other = weights(tmp_path / "unbroken" / "last.ckpt"), weights(last)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_run_can_be_given_more_epochs(tiny_corpus: Path, tmp_path: Path) -> None:
    train(tiny_run(tiny_corpus, tmp_path, "trainer.max_epochs=2", "data.batch_size=20"))
    longer = ("trainer.max_epochs=4", "data.batch_size=20", f"ckpt_path={tmp_path / 'last.ckpt'}")
    assert train(tiny_run(tiny_corpus, tmp_path, *longer))["epochs"] == 4
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 3


def test_evaluation_only_uses_the_checkpoint_s_own_settings(tiny_checkpoint: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    trained = json.loads((tiny_checkpoint.parent / "metrics.json").read_text())
    overrides = ("fit=false", f"ckpt_path={tiny_checkpoint}", "experiment=robust", "data.front_end.log_mel.n_mels=64", "seed=3")
    metrics = train(tiny_run(tiny_corpus, tmp_path / "run", *overrides, "data.split=test_only"))
    assert metrics["experiment"] == trained["experiment"] == "tiny"
    assert metrics["seed"] == 0
    assert metrics["split"] == "test_only"
    assert metrics["test/total"] == 240
    assert metrics["test/acc"] > 0.8
    assert metrics["val/acc"] is None
    assert metrics["epochs"] == 0
    again = train(tiny_run(tiny_corpus, tmp_path / "again", "fit=false", f"ckpt_path={tiny_checkpoint}"))
    assert again["test/correct"] == trained["test/correct"]


def test_evaluation_on_the_same_corpus_keeps_the_split_of_the_training(tiny_corpus: Path, tmp_path: Path) -> None:
    short = ("trainer.max_epochs=1", "data.batch_size=20", "data.split=speaker", "data.test_speakers=[ann]")
    trained = train(tiny_run(tiny_corpus, tmp_path / "run", *short))
    ckpt = f"ckpt_path={tmp_path / 'run' / 'best.ckpt'}"
    evaluated = train(tiny_run(tiny_corpus, tmp_path / "evaluated", "fit=false", ckpt))
    assert evaluated["split"] == trained["split"] == "speaker-ann"
    assert evaluated["test/correct"] == trained["test/correct"]
    with pytest.raises(ValueError, match=r"data\.split = speaker, this run has official"):
        train(tiny_run(tiny_corpus, tmp_path / "other", *short[:2], ckpt.replace("best", "last")))


def test_ctrl_c_leaves_a_checkpoint_and_no_traceback(tiny_corpus: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "digits.train", "data=folder", f"data.root={tiny_corpus}", f"hydra.run.dir={tmp_path}"]
    command += ["trainer.max_epochs=1000", "data.batch_size=10"]
    process = subprocess.Popen(command, cwd=REPOSITORY, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while not (tmp_path / "last.ckpt").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "digits.train: interrupted" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "metrics.json").exists()


def test_evaluation_without_a_checkpoint_is_refused(tiny_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs ckpt_path"):
        train(tiny_run(tiny_corpus, tmp_path / "run", "fit=false"))


def test_training_on_a_split_without_training_clips_is_refused(tiny_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leaves nothing to train on"):
        train(tiny_run(tiny_corpus, tmp_path / "run", "data.split=test_only"))


def test_resuming_with_other_settings_is_refused(tiny_checkpoint: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    last = tiny_checkpoint.with_name("last.ckpt")
    for override in ("model.channels=[8,16,32]", "data.front_end.log_mel.top_db=70"):
        same = ("trainer.max_epochs=8", "data.batch_size=20", "classifier.learning_rate=0.01")
        with pytest.raises(ValueError, match=r"last\.ckpt was trained with"):
            train(tiny_run(tiny_corpus, tmp_path / "run", f"ckpt_path={last}", override, *same))


def test_a_run_of_the_same_name_starts_clean(tiny_corpus: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    for name in ("metrics.json", "best.ckpt", "events.out.tfevents.1", "error.txt"):
        (run_dir / name).write_text("of an earlier run")
    (run_dir / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="no clip for test"):
        train(tiny_run(tiny_corpus, run_dir, "data.split=take_fold", "data.fold=9"))
    assert {path.name for path in run_dir.iterdir()} == {"notes.txt", "started.json"}


def test_sweep_goes_on_after_a_failed_run_and_resume_keeps_the_finished(tiny_corpus: Path, tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    arguments = [
        "-m",
        f"hydra.sweep.dir={sweep}",
        "hydra.sweep.subdir=${name}/fold${data.fold}",
        "experiment=baseline",
        "trainer=smoke",
    ]
    arguments += ["data=folder", f"data.root={tiny_corpus}", "data.split=take_fold", "data.batch_size=10", "data.fold=0,7,1"]
    done = cli(*arguments)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "leaves no clip for val" in done.stderr.splitlines()[-1]
    assert "leaves no clip" in (sweep / "baseline/fold7/error.txt").read_text()
    finished = [sweep / f"baseline/fold{fold}/metrics.json" for fold in (0, 1)]
    assert all(path.is_file() for path in finished)

    from experiments import compare

    assert compare.main([str(sweep)]) == 1
    assert "leaves no clip" in (sweep / "report.md").read_text()


def test_finished_runs_are_kept_only_for_the_same_settings_and_code(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "git_commit", lambda: "abc")
    monkeypatch.setattr(results, "OWN_SOURCES", ())
    cfg = tiny_run(tiny_corpus, tmp_path / "run")
    path = tmp_path / "metrics.json"
    results.write_json(path, results.identity(cfg))
    assert results.read_same(path, cfg)
    assert results.read_same(path, tiny_run(tiny_corpus, tmp_path / "elsewhere", "resume=true"))
    assert not results.read_same(path, tiny_run(tiny_corpus, tmp_path / "run", "model.dropout=0.3"))
    assert not results.read_same(tmp_path / "none.json", cfg)
    monkeypatch.setattr(results, "OWN_SOURCES", ("folder",))
    assert not results.read_same(path, cfg)
    monkeypatch.setattr(results, "OWN_SOURCES", ())
    monkeypatch.setattr(results, "git_commit", lambda: "abd")
    assert not results.read_same(path, cfg)
    monkeypatch.setattr(results, "git_commit", lambda: "abc-dirty")
    results.write_json(path, results.identity(cfg))
    assert not results.read_same(path, cfg)


def test_resume_takes_up_an_unfinished_run_and_no_other(tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results, "git_commit", lambda: "abc")
    monkeypatch.setattr(results, "OWN_SOURCES", ())  # the tiny corpus is a folder, which resume does not trust
    settings = ("resume=true", "trainer.max_epochs=2", "data.batch_size=20")
    first = train(tiny_run(tiny_corpus, tmp_path, *settings))
    (tmp_path / "metrics.json").unlink()
    resumed = train(tiny_run(tiny_corpus, tmp_path, *settings))  # nothing is left to train
    assert resumed["epochs"] == first["epochs"] == 2
    assert resumed["train_s"] is None  # unknown: only a part of it was in this process
    assert resumed["test/correct"] == first["test/correct"]
    monkeypatch.setattr(results, "git_commit", lambda: "abd")
    assert train(tiny_run(tiny_corpus, tmp_path, *settings))["train_s"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classifier.learning_rat=1"], "learning_rat"),
        (["data=folder", "data.root=/nowhere/at/all"], "/nowhere/at/all: no such folder"),
        (["model.dropout=2"], "model.dropout must lie in"),
    ],
)
def test_a_command_line_mistake_ends_without_a_traceback(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = cli(*arguments, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_the_composed_config_lies_beside_the_run(tiny_corpus: Path, tmp_path: Path) -> None:
    done = cli(f"hydra.run.dir={tmp_path}", "data=folder", f"data.root={tiny_corpus}", "trainer=smoke", "data.batch_size=10")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert OmegaConf.load(tmp_path / ".hydra/config.yaml").data.root == str(tiny_corpus)
    assert "baseline on folder, seed 0" in done.stdout
    assert (tmp_path / "metrics.json").is_file()


@pytest.mark.fsdd
def test_baseline_reaches_its_accuracy_on_fsdd(fsdd_checkpoint: Path) -> None:
    metrics = json.loads((fsdd_checkpoint.parent / "metrics.json").read_text())
    assert (metrics["corpus"], metrics["split"], metrics["test/total"]) == ("fsdd", "official", 300)
    assert metrics["parameters"] <= 150_000
    assert metrics["test/correct"] >= 294  # 298 is usual; a single seed can lose a few
    assert metrics["test/acc"] > metrics["test/acc_snr20"] > metrics["test/acc_snr0"]
