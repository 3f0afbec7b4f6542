import csv
import errno
import json
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import OmegaConf
from support import Outcome, start, tiny_run, wait_until

from digits.train import train
from digits.training import runs, saved_settings
from digits.training.checkpoints import WholeFiles
from digits.training.locks import lock


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def test_a_run_leaves_everything_it_promises(tiny_checkpoint: Path) -> None:
    run_dir = tiny_checkpoint.parent
    metrics = json.loads((run_dir / "metrics.json").read_text())
    named = "experiment corpus split seed parameters epochs train_s git_commit versions threads"
    named += " val/acc test/acc test/correct test/total"
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


def test_ctrl_c_leaves_a_checkpoint_and_no_traceback(tiny_corpus: Path, tmp_path: Path) -> None:
    place = ("data=folder", f"data.root={tiny_corpus}", f"hydra.run.dir={tmp_path}")
    process = start("train", *place, "trainer.max_epochs=1000", "data.batch_size=10", "conditions=clean")
    wait_until((tmp_path / "last.ckpt").is_file)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "digits train: interrupted" in errors
    assert "Traceback" not in errors
    assert not (tmp_path / "metrics.json").exists()


def test_sweep_goes_on_after_a_failed_run_and_resume_keeps_the_finished(
    tiny_corpus: Path, tmp_path: Path, command: Callable[..., Outcome]
) -> None:
    sweep = tmp_path / "sweep"
    arguments = [
        "-m",
        f"hydra.sweep.dir={sweep}",
        "hydra.sweep.subdir=${name}/fold${data.fold}",
        "experiment=baseline",
        "trainer=smoke",
    ]
    arguments += ["data=folder", f"data.root={tiny_corpus}", "data.split=take_fold", "data.batch_size=10", "data.fold=0,7,1"]
    done = command("train", *arguments, "conditions=clean")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "leaves no clips for val" in done.stderr.splitlines()[-1]
    assert "leaves no clips" in (sweep / "baseline/fold7/error.txt").read_text()
    finished = [sweep / f"baseline/fold{fold}/metrics.json" for fold in (0, 1)]
    assert all(path.is_file() for path in finished)

    from experiments.compare import compare

    assert compare.main([str(sweep)]) == 1
    assert "leaves no clips" in (sweep / "report.md").read_text()


def test_a_finished_run_is_kept(
    tiny_checkpoint: Path, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Outcome]
) -> None:
    monkeypatch.setattr(runs, "git_commit", lambda: "abc")
    arguments = ("data=folder", f"data.root={tiny_corpus}", f"hydra.run.dir={tmp_path}", "trainer=smoke", "data.batch_size=10")
    assert command("train", *arguments, "conditions=clean").returncode == 0
    written = (tmp_path / "metrics.json").stat().st_mtime_ns
    done = command("train", *arguments, "conditions=clean", "resume=true")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}: already finished, kept\n")
    assert (tmp_path / "metrics.json").stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classifier.learning_rat=1"], "learning_rat"),
        (["data=folder", "data.root=/nowhere/at/all"], "data.root must be a folder that exists, got /nowhere/at/all"),
        (["model.dropout=2"], "model.dropout must lie in"),
    ],
)
def test_a_command_line_mistake_ends_without_a_traceback(
    arguments: list[str], message: str, tmp_path: Path, command: Callable[..., Outcome]
) -> None:
    done = command("train", *arguments, f"hydra.run.dir={tmp_path}")
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_trainer_argument_that_the_config_lacks_can_be_added(tmp_path: Path, command: Callable[..., Outcome]) -> None:
    done = command("train", "trainer.xyz=1", f"hydra.run.dir={tmp_path}")
    hint = "there is no setting trainer.xyz; +trainer.xyz= adds one of Lightning's Trainer arguments"
    assert (done.returncode, done.stderr) == (1, f"digits train: {hint}\n")


def test_lightning_s_own_objections_are_told_as_mistakes(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Outcome]
) -> None:
    place = ("data=folder", f"data.root={tiny_corpus}", f"hydra.run.dir={tmp_path}", "conditions=clean")
    done = command("train", *place, "trainer.limit_train_batches=-1")
    assert done.returncode == 1
    assert "digits train: " in done.stderr
    assert "invalid value -1 for limit_train_batches" in done.stderr.splitlines()[-1]
    assert not tmp_path.exists()

    def fail(cfg: object) -> None:
        raise MisconfigurationException("too many cooks")

    monkeypatch.setattr("digits.train.train", fail)
    done = command("train", *place)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "digits train: Lightning's Trainer: too many cooks"


def test_the_composed_config_lies_beside_the_run(tiny_corpus: Path, tmp_path: Path, command: Callable[..., Outcome]) -> None:
    done = command(
        "train", f"hydra.run.dir={tmp_path}", "data=folder", f"data.root={tiny_corpus}", "trainer=smoke", "data.batch_size=10"
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert OmegaConf.load(tmp_path / ".hydra/config.yaml").data.root == str(tiny_corpus)
    assert "baseline on folder, seed 0" in done.stdout
    assert (tmp_path / "metrics.json").is_file()


def test_a_run_is_resumed_by_its_checkpoint_alone_and_evaluated_under_its_name(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Outcome]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ("experiment=robust", "data=folder", f"data.root={tiny_corpus}", "data.batch_size=20", "conditions=clean")
    assert command("train", *settings, "max_epochs=1", "seed=2", "export=false").returncode == 0
    (run_dir,) = (tmp_path / "outputs/runs").iterdir()
    for max_epochs in (2, 3):  # also after it was resumed
        done = command("train", f"ckpt_path={run_dir / 'last.ckpt'}", f"max_epochs={max_epochs}")
        assert done.returncode == 0, done.stderr
        metrics = json.loads((run_dir / "metrics.json").read_text())
        assert (metrics["experiment"], metrics["seed"], metrics["epochs"]) == ("robust", 2, max_epochs)
    assert list((tmp_path / "outputs/runs").iterdir()) == [run_dir]
    assert command("train", "fit=false", f"ckpt_path={run_dir / 'best.ckpt'}", *settings[1:3]).returncode == 0
    (evaluation,) = (tmp_path / "outputs/evaluations").iterdir()
    assert evaluation.name.endswith("_folder_robust_seed2_on_folder")
    assert (evaluation / "confusion.png").is_file()


@pytest.mark.parametrize("sweep", ["+sweep=loso", "hparams_search=optuna"])
def test_a_run_of_a_sweep_is_resumed_alone(tmp_path: Path, sweep: str) -> None:
    saved = tmp_path / ".hydra" / "overrides.yaml"
    saved.parent.mkdir()
    OmegaConf.save(OmegaConf.create([sweep, "experiment=live", "seed=1", "resume=true", "max_epochs=6"]), saved)
    given = ["max_epochs=9", f"ckpt_path={tmp_path / 'last.ckpt'}"]
    assert saved_settings.complete(given) == [
        sweep,
        "experiment=live",
        "seed=1",
        *given,
        f"hydra.run.dir='{tmp_path}'",
        "hydra.mode=RUN",
    ]
    for as_it_is in ([], ["seed=1"], ["ckpt_path=null"], ["ckpt_path=x/last.ckpt"], [*given, "hydra.run.dir=x"]):
        assert saved_settings.complete(as_it_is) == as_it_is


def test_what_a_run_was_begun_with_outlives_mistakes(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., Outcome]
) -> None:
    """A refused resume changes nothing in the run's folder; a right one afterwards finds its settings."""
    monkeypatch.chdir(tmp_path)
    settings = ("data=folder", f"data.root={tiny_corpus}", "data.batch_size=20", "conditions=clean", "export=false")
    run_dir = tmp_path / "run"
    assert command("train", *settings, "max_epochs=1", f"hydra.run.dir={run_dir}").returncode == 0
    before = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file() and path.name != "train.log"}
    last = f"ckpt_path={run_dir / 'last.ckpt'}"
    for mistake in ("data.batch_size=7", "seed=1.5", "data=fsdd", 'fit="false"', "data.root=/nowhere"):
        assert command("train", last, mistake).returncode == 1
    with lock(run_dir):
        assert "another process is at work" in command("train", last, "max_epochs=2").stderr
    done = command("train", "-m", last, "max_epochs=2,3", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert "ckpt_path resumes a single run; resume=true continues a sweep" in done.stderr
    after = {path: path.read_bytes() for path in run_dir.rglob("*") if path.is_file() and path.name != "train.log"}
    assert after == before
    for false in ("False", "FALSE", "false"):  # all of them are Hydra's
        assert command("train", f"fit={false}", last, *settings[:2]).returncode == 0
    assert {path: path.read_bytes() for path in before} == before
    assert len(list((tmp_path / "outputs/evaluations").iterdir())) >= 1
    assert command("train", last, "max_epochs=2").returncode == 0
    assert json.loads((run_dir / "metrics.json").read_text())["epochs"] == 2
    assert "was trained for 2 epochs, which is more than max_epochs=1" in command("train", last, "max_epochs=1").stderr


def test_fast_dev_run_evaluates_the_checkpoint_too(tiny_checkpoint: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    evaluation = ("fit=false", f"ckpt_path={tiny_checkpoint}")
    whole = train(tiny_run(tiny_corpus, tmp_path / "whole", *evaluation))
    quick = train(tiny_run(tiny_corpus, tmp_path / "quick", *evaluation, "trainer.fast_dev_run=true"))
    assert quick["test/correct"] == whole["test/correct"] > 50


def test_a_checkpoint_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "last.ckpt"
    WholeFiles().save_checkpoint({"epoch": 1}, path)

    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as caught:
        WholeFiles().save_checkpoint({"epoch": 2}, path)
    assert caught.value.filename == str(path)
    assert torch.load(path, weights_only=True) == {"epoch": 1}


def test_a_sweep_s_folders_do_not_nest_at_slashes() -> None:
    subdir = OmegaConf.create({"text": "noise_root-/some/where", "subdir": "run/${flat:${text}}"}).subdir
    assert subdir == "run/noise_root-_some_where"


@pytest.mark.xdist_group("fsdd")
@pytest.mark.fsdd
def test_baseline_reaches_its_accuracy_on_fsdd(fsdd_checkpoint: Path) -> None:
    metrics = json.loads((fsdd_checkpoint.parent / "metrics.json").read_text())
    assert (metrics["corpus"], metrics["split"], metrics["test/total"]) == ("fsdd", "official", 300)
    assert metrics["parameters"] <= 150_000
    assert metrics["test/correct"] >= 294  # 298 is usual; a single seed can lose a few
    assert metrics["test/acc"] > metrics["test/acc_snr20"] > metrics["test/acc_snr0"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("fit=no", "fit must be true or false, got no"),
        ("resume=maybe", "resume must be true or false, got maybe"),
        ("run_dir=7", "run_dir must be a path (write ./7 if its name is a number), got 7"),
        ("model.channels=[8,16]", "model.channels must hold 3 numbers for DigitCNN, got [8, 16]"),
        ("ckpt_path=nowhere.ckpt", "nowhere.ckpt: no such checkpoint"),
    ],
)
def test_a_mistake_found_before_training_is_told_once_and_leaves_no_folder(
    argument: str, message: str, tmp_path: Path, command: Callable[..., Outcome]
) -> None:
    done = command("train", argument, f"hydra.run.dir={tmp_path / 'run'}")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"digits train: {message}")
    assert not (tmp_path / "run").exists()
