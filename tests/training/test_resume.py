import shutil
import signal
from pathlib import Path

import pytest
import torch
from support import start, tiny_run, wait_until

from digits.recognition import torch_models
from digits.train import train
from digits.training import resume, runs

TRAINED = ("conditions=noise", "data.batch_size=20", "classifier.learning_rate=0.01")  # settings of the tiny checkpoint


@pytest.fixture
def committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code is that of commit abc."""
    monkeypatch.setattr(runs, "git_commit", lambda: "abc")


def old_checkpoint(checkpoint: Path, path: Path) -> Path:
    """The checkpoint as an early version would have written it: what was trained on what lies in ``run``."""
    content = torch.load(checkpoint, weights_only=True)
    hparams = content["hyper_parameters"]
    hparams["run"] = {name: hparams.pop(name) for name in ("experiment", "corpus", "seed")}
    torch.save(content, path)
    return path


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def test_a_run_killed_in_an_epoch_resumes_as_if_nothing_had_happened(tiny_corpus: Path, tmp_path: Path) -> None:
    """kill -9, then ckpt_path=last.ckpt: the weights are those of an unbroken run, to the bit."""
    shared = ["experiment=robust", "trainer.max_epochs=20", "data.batch_size=10", "conditions=clean", "export=false"]
    place = ["data=folder", f"data.root={tiny_corpus}", "trainer.accelerator=cpu"]
    unbroken = train(tiny_run(tiny_corpus, tmp_path / "unbroken", *shared, "name=robust"))
    process = start("train", *place, *shared, f"hydra.run.dir={tmp_path / 'killed'}")
    last = tmp_path / "killed" / "last.ckpt"
    wait_until(lambda: last.is_file() or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "killed" / "metrics.json").exists()
    assert torch.load(last, weights_only=True)["epoch"] < 19
    resumed = train(tiny_run(tiny_corpus, tmp_path / "killed", *shared, "name=robust", f"ckpt_path={last}"))
    assert resumed["test/correct"] == unbroken["test/correct"]
    one, other = weights(tmp_path / "unbroken" / "last.ckpt"), weights(last)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_resumed_run_can_be_given_more_epochs(tiny_corpus: Path, tmp_path: Path) -> None:
    train(tiny_run(tiny_corpus, tmp_path, "trainer.max_epochs=2", "data.batch_size=20"))
    longer = ("trainer.max_epochs=4", "data.batch_size=20", f"ckpt_path={tmp_path / 'last.ckpt'}")
    assert train(tiny_run(tiny_corpus, tmp_path, *longer))["epochs"] == 4
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["epoch"] == 3


def test_a_checkpoint_from_before_a_setting_of_the_network_existed_resumes(tiny_corpus: Path, tmp_path: Path) -> None:
    train(tiny_run(tiny_corpus, tmp_path, "trainer.max_epochs=1", "data.batch_size=20"))
    content = torch.load(tmp_path / "last.ckpt", weights_only=True)
    for name in ("convolutions", "first_kernel"):
        del content["hyper_parameters"]["network"][name]
    torch.save(content, tmp_path / "last.ckpt")
    longer = ("trainer.max_epochs=2", "data.batch_size=20", f"ckpt_path={tmp_path / 'last.ckpt'}")
    assert train(tiny_run(tiny_corpus, tmp_path, *longer))["epochs"] == 2


def test_evaluation_on_the_same_corpus_keeps_the_split_of_the_training(tiny_corpus: Path, tmp_path: Path) -> None:
    short = ("trainer.max_epochs=1", "data.batch_size=20", "data.split=speaker", "data.test_speakers=[ann]")
    trained = train(tiny_run(tiny_corpus, tmp_path / "run", *short))
    ckpt = f"ckpt_path={tmp_path / 'run' / 'best.ckpt'}"
    evaluated = train(tiny_run(tiny_corpus, tmp_path / "evaluated", "fit=false", ckpt))
    assert evaluated["split"] == trained["split"] == "speaker-ann"
    assert evaluated["test/correct"] == trained["test/correct"]
    with pytest.raises(ValueError, match=r"data\.split = speaker, this run has official"):
        train(tiny_run(tiny_corpus, tmp_path / "other", *short[:2], ckpt.replace("best", "last")))


def test_evaluation_without_a_checkpoint_is_refused(tiny_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs ckpt_path"):
        train(tiny_run(tiny_corpus, tmp_path / "run", "fit=false"))


def test_training_on_a_split_without_training_clips_is_refused(tiny_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leaves nothing to train on"):
        train(tiny_run(tiny_corpus, tmp_path / "run", "data.split=test_only"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.channels=[8,16,32]", r"classifier\.network = .* \[16, 32, 64\].* \[8, 16, 32\]"),
        ("data.front_end.log_mel.top_db=70", r"data\.front_end = .*'top_db': 60.*'top_db': 70"),
        ("conditions=clean", r"data\.test_conditions = "),
    ],
)
def test_resuming_with_other_settings_is_an_error(
    tiny_checkpoint: Path, tiny_corpus: Path, tmp_path: Path, override: str, message: str
) -> None:
    same = [f"ckpt_path={tiny_checkpoint.with_name('last.ckpt')}", *TRAINED]
    if override == "conditions=clean":
        same.remove("conditions=noise")
    with pytest.raises(ValueError, match=rf"last\.ckpt was trained with {message}.*: they must match"):
        train(tiny_run(tiny_corpus, tmp_path / "run", override, *same))


def test_a_run_of_the_same_name_starts_clean(tiny_corpus: Path, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    for name in ("metrics.json", "best.ckpt", "events.out.tfevents.1", "error.txt"):
        (run_dir / name).write_text("of an earlier run")
    (run_dir / "notes.txt").write_text("mine")
    before = {path.name for path in run_dir.iterdir()}
    with pytest.raises(ValueError, match="no clips for test"):
        train(tiny_run(tiny_corpus, run_dir, "data.split=take_fold", "data.fold=9"))
    assert {path.name for path in run_dir.iterdir()} == before  # a mistake costs nothing
    assert train(tiny_run(tiny_corpus, run_dir, "trainer=smoke", "data.batch_size=10"))["experiment"] == "tiny"
    assert not (run_dir / "error.txt").exists()
    assert not (run_dir / "events.out.tfevents.1").exists()
    assert (run_dir / "notes.txt").read_text() == "mine"


def test_the_errors_shown_after_a_resume_are_those_of_the_present_model(tiny_corpus: Path, tmp_path: Path) -> None:
    def test_files() -> set[str]:
        return {path.name for path in tmp_path.glob("events.out.tfevents.*.test")}

    train(tiny_run(tiny_corpus, tmp_path, "trainer.max_epochs=1", "data.batch_size=20"))
    before = test_files()
    train(tiny_run(tiny_corpus, tmp_path, "trainer.max_epochs=2", "data.batch_size=20", f"ckpt_path={tmp_path / 'last.ckpt'}"))
    assert before
    assert test_files()
    assert not before & test_files()


@pytest.mark.usefixtures("committed")
def test_finished_runs_are_kept_only_for_the_same_settings_and_code(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cfg = tiny_run(tiny_corpus, tmp_path / "run")
    path = tmp_path / "metrics.json"
    runs.write_json(path, runs.identity(cfg))
    assert resume.read_same(path, cfg)
    assert resume.read_same(path, tiny_run(tiny_corpus, tmp_path / "elsewhere", "resume=true"))
    assert not resume.read_same(path, tiny_run(tiny_corpus, tmp_path / "run", "model.dropout=0.3"))
    assert not resume.read_same(tmp_path / "none.json", cfg)
    monkeypatch.setattr(runs, "git_commit", lambda: "abd")
    assert not resume.read_same(path, cfg)
    monkeypatch.setattr(runs, "git_commit", lambda: "abc-dirty")
    runs.write_json(path, runs.identity(cfg))
    assert not resume.read_same(path, cfg)


@pytest.mark.usefixtures("committed")
def test_a_run_stands_only_for_the_recordings_that_it_had(tiny_corpus: Path, tmp_path: Path) -> None:
    corpus, run = tmp_path / "corpus", tmp_path / "run"
    shutil.copytree(tiny_corpus, corpus)
    settings = ("max_epochs=2", "data.batch_size=20", "resume=true")
    train(tiny_run(corpus, run, *settings))
    cfg = tiny_run(corpus, run, *settings)
    assert resume.finished(cfg)
    changed = next(corpus.iterdir())
    kept, other = changed.read_bytes(), next(path for path in corpus.iterdir() if path != changed).read_bytes()
    changed.write_bytes(other)
    assert not resume.finished(cfg)
    (run / "metrics.json").unlink()
    for begun in (cfg, tiny_run(corpus, run, *settings, f"ckpt_path={run / 'last.ckpt'}")):
        with pytest.raises(ValueError, match="the recordings have changed since this run was begun"):
            resume.plan(begun)
    changed.write_bytes(kept)
    assert resume.plan(cfg).continues


@pytest.mark.usefixtures("committed")
def test_resume_takes_up_an_unfinished_run_and_no_other(tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ("resume=true", "trainer.max_epochs=2", "data.batch_size=20")
    first = train(tiny_run(tiny_corpus, tmp_path, *settings))
    (tmp_path / "metrics.json").unlink()
    resumed = train(tiny_run(tiny_corpus, tmp_path, *settings))  # nothing is left to train
    assert resumed["epochs"] == first["epochs"] == 2
    assert resumed["train_s"] is None  # unknown: only a part of it was in this process
    assert resumed["test/correct"] == first["test/correct"]
    monkeypatch.setattr(runs, "git_commit", lambda: "abd")
    assert train(tiny_run(tiny_corpus, tmp_path, *settings))["train_s"] > 0


def test_an_evaluation_changes_no_settings_but_those_of_its_plan(tiny_checkpoint: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    cfg = tiny_run(tiny_corpus, tmp_path / "run", "fit=false", f"ckpt_path={tiny_checkpoint}", "seed=3", "name=another")
    plan = resume.plan(cfg)
    assert (cfg.seed, cfg.name) == (3, "another")
    assert (plan.cfg.seed, plan.cfg.name) == (0, "tiny")
    assert plan.evaluated == plan.ckpt_path == str(tiny_checkpoint)
    assert not plan.continues
    assert not (tmp_path / "run").exists()


def test_a_resumed_run_goes_on_in_the_folder_of_its_checkpoint(tiny_checkpoint: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    plan = resume.plan(tiny_run(tiny_corpus, tmp_path, f"ckpt_path={tiny_checkpoint}", *TRAINED))
    assert plan.run_dir == tiny_checkpoint.parent
    assert plan.cfg.run_dir == str(tiny_checkpoint.parent)
    assert plan.continues
    assert plan.evaluated is None


def test_old_checkpoints_load_and_can_be_evaluated(tiny_checkpoint: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    old = old_checkpoint(tiny_checkpoint, tmp_path / "old.ckpt")
    hparams = torch_models.read_checkpoint(old)["hyper_parameters"]
    assert (hparams["experiment"], hparams["corpus"], hparams["seed"]) == ("tiny", "folder", 0)
    metrics = train(tiny_run(tiny_corpus, tmp_path / "run", "fit=false", f"ckpt_path={old}", "name=another", "seed=5"))
    before = runs.read_json(tiny_checkpoint.with_name("metrics.json"))
    assert {name: metrics[name] for name in ("experiment", "seed", "trained_on", "test/correct")} == {
        name: before[name] for name in ("experiment", "seed", "trained_on", "test/correct")
    }


def test_the_result_of_an_earlier_run_goes_and_its_state_stays_for_a_resumed_one(
    tiny_checkpoint: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_checkpoint.parent, tmp_path / "run")
    (tmp_path / "run" / "best.onnx").touch()
    resume.prepare(resume.plan(tiny_run(tiny_corpus, tmp_path, f"ckpt_path={tmp_path / 'run' / 'last.ckpt'}", *TRAINED)), 1, "abc")
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"best.ckpt", "last.ckpt", "started.json"} <= left
    assert not {"metrics.json", "predictions.csv", "best.onnx"} & left


def interrupted(tiny_corpus: Path, folder: Path, *settings: str) -> dict:
    """A run that has trained and lost its results, as if it had been killed before its test."""
    metrics = train(tiny_run(tiny_corpus, folder, *settings))
    (folder / "metrics.json").unlink()
    return metrics


@pytest.mark.usefixtures("committed")
def test_an_interrupted_run_is_continued_with_a_warning_after_the_code_has_changed(
    tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = ("resume=true", "trainer.max_epochs=2", "data.batch_size=20")
    first = interrupted(tiny_corpus, tmp_path, *settings)
    for commit in ("abd", "abd-dirty", None):
        monkeypatch.setattr(runs, "git_commit", lambda commit=commit: commit)
        caplog.clear()
        resumed = train(tiny_run(tiny_corpus, tmp_path, *settings))
        assert (resumed["train_s"], resumed["test/correct"]) == (None, first["test/correct"])
        assert "begun by other or uncommitted code; resume=false starts it again" in caplog.text
        (tmp_path / "metrics.json").unlink()


def test_an_interrupted_run_is_not_deleted_for_other_settings(tiny_corpus: Path, tmp_path: Path) -> None:
    settings = ("trainer.max_epochs=1", "data.batch_size=20")
    interrupted(tiny_corpus, tmp_path, *settings)
    before = weights(tmp_path / "last.ckpt")
    with pytest.raises(ValueError, match=r"interrupted run with other settings: give its settings .* or resume=false to delete it"):
        train(tiny_run(tiny_corpus, tmp_path, *settings, "resume=true", "model.dropout=0.3"))
    assert all(torch.equal(before[name], value) for name, value in weights(tmp_path / "last.ckpt").items())


def test_state_that_is_deleted_is_named(tiny_corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = ("trainer.max_epochs=1", "data.batch_size=20")
    interrupted(tiny_corpus, tmp_path, *settings)
    train(tiny_run(tiny_corpus, tmp_path, *settings))
    assert "deletes an earlier run's best.ckpt and last.ckpt" in caplog.text


def test_a_damaged_last_checkpoint_falls_back_to_the_best_or_says_so(
    tiny_corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = ("resume=true", "trainer.max_epochs=2", "data.batch_size=20")
    interrupted(tiny_corpus, tmp_path, *settings)
    (tmp_path / "last.ckpt").write_bytes((tmp_path / "last.ckpt").read_bytes()[:5000])
    assert train(tiny_run(tiny_corpus, tmp_path, *settings))["epochs"] == 2
    assert "continuing from best.ckpt" in caplog.text
    (tmp_path / "metrics.json").unlink()
    (tmp_path / "best.ckpt").unlink()
    (tmp_path / "last.ckpt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"last\.ckpt: .*; resume=false starts the run again"):
        train(tiny_run(tiny_corpus, tmp_path, *settings))


def test_an_evaluation_on_another_split_of_the_same_corpus_is_refused(
    tiny_checkpoint: Path, tiny_corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    evaluate = ("fit=false", f"ckpt_path={tiny_checkpoint}")
    for other in ("data.split=all", "data.split=take_fold", "data.test_speakers=[ann]", "data.fold=1"):
        with pytest.raises(ValueError, match=r"is evaluated on the split that it was trained with .* only data\.split=test_only"):
            train(tiny_run(tiny_corpus, tmp_path / "run", *evaluate, other))
    train(tiny_run(tiny_corpus, tmp_path / "run", *evaluate, "data.split=test_only"))
    assert "most of these clips were trained on" in caplog.text


@pytest.mark.parametrize("path", ["pretrained", "model.onnx", "model.npz"])
def test_only_checkpoints_are_trained_on_or_evaluated(tiny_corpus: Path, tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match=rf"ckpt_path must be a checkpoint \(\.ckpt\), got {path}; digits predict --score"):
        train(tiny_run(tiny_corpus, tmp_path / "run", "fit=false", f"ckpt_path={path}"))
