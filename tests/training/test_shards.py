"""A training set in shards holds what the one in memory holds; processes share it; what goes wrong is told in a sentence."""

import builtins
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import REPOSITORY, compose_config, shell, start, tiny_run, wait_until

from digits.train import train
from digits.training import runs, shards
from digits.training.datamodule import DigitsDataModule
from digits.training.shards import ShardsDataModule, Streamed

NOISY = "+data.train_sets.noisy={copies: 1, effects: {white_noise: {snr_db: [0, 20]}}, effects_rate_hz: 16000}"
BABBLE = "+conditions.babble={babble: {snr_db: 10}}"
IDS_OF_A_RANK = """
import os, sys, torch
os.environ |= {"LITDATA_POSIX_FAST": sys.argv[4], "NNODES": "2"}
from digits.training.shards import Streamed
torch.distributed.init_process_group("gloo", rank=int(sys.argv[1]), world_size=2, init_method=f"file://{sys.argv[3]}")
batches = Streamed(sys.argv[2], 7, seed=3)
for epoch in (0, 1):
    batches.set_epoch(epoch)
    print(len(batches), *(f"{clip.double().sum():.6f}" for log_mels, _ in batches for clip in log_mels))
"""


def settings(corpus: Path) -> list[str]:
    return ["data=folder", f"data.root={corpus}", NOISY]


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    program = [sys.executable, "-m", "digits.training.write_shards", *arguments]
    return subprocess.run(program, capture_output=True, text=True, cwd=REPOSITORY, timeout=300, check=False)


@pytest.fixture(scope="module")
def address(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of the tiny corpus and a noisy copy of it."""
    folder = tmp_path_factory.mktemp("shards") / "tiny"
    done = command(str(folder), *settings(tiny_corpus))
    assert done.returncode == 0, done.stderr
    assert f"digits train data=shards data.source=folder data.shards={folder} '{NOISY}'" in done.stdout
    return folder


def modules(corpus: Path, address: Path, *overrides: str) -> tuple[DigitsDataModule, ShardsDataModule]:
    """The data module of the corpus itself, and that of its shards."""
    from hydra.utils import instantiate

    found = []
    for place in (["data=folder", f"data.root={corpus}"], ["data=shards", "data.source=folder", f"data.shards={address}"]):
        data: Any = instantiate(compose_config(*place, NOISY, "name=x", "run_dir=x", *overrides).data)
        data.setup("fit")
        found.append(data)
    return found[0], found[1]


def fingerprints(log_mels: torch.Tensor, labels: torch.Tensor) -> list[tuple[float, int]]:
    return [(float(clip.double().sum()), int(label)) for clip, label in zip(log_mels, labels, strict=True)]


@pytest.mark.extras
def test_shards_hold_what_memory_holds(tiny_corpus: Path, address: Path) -> None:
    plain, streamed = modules(tiny_corpus, address, "data.batch_size=10", BABBLE)
    assert len(streamed.train_set) == len(plain.train_set) == 80
    batches = list(streamed.train_dataloader())
    found = [pair for log_mels, labels in batches for pair in fingerprints(log_mels, labels)]
    assert sorted(found) == sorted(fingerprints(plain.train_set.log_mels.all(), plain.train_set.labels))
    assert all(len(set(labels.tolist())) > 3 for _, labels in batches)
    for name, log_mels in plain.test_sets.items():
        assert torch.equal(streamed.test_sets[name].all(), log_mels.all()), name
    assert torch.equal(streamed.val_set.log_mels.all(), plain.val_set.log_mels.all())
    assert [clip.name for clip in streamed.test_clips] == [clip.name for clip in plain.test_clips]
    assert streamed.n_train_clips == plain.n_train_clips


@pytest.mark.extras
def test_the_order_depends_on_seed_and_epoch_alone(address: Path) -> None:
    def labels(seed: int, epoch: int, reshuffle: bool = True) -> list[float]:
        batches = Streamed(f"{address}/train", 16, seed, reshuffle)
        batches.set_epoch(epoch)
        return [float(clip.sum()) for log_mels, _ in batches for clip in log_mels]

    assert labels(0, 1) == labels(0, 1)
    assert labels(0, 1) != labels(0, 2) != labels(1, 2)
    assert labels(0, 0) == labels(0, 5, reshuffle=False)


@pytest.mark.extras
@pytest.mark.parametrize("file_system", ["0", "1"])
def test_two_processes_see_each_clip_once(address: Path, tmp_path: Path, file_system: str) -> None:
    program = [sys.executable, "-c", IDS_OF_A_RANK]
    ranks = [
        subprocess.Popen(
            [*program, str(rank), f"{address}/train", str(tmp_path / "meet"), file_system], stdout=subprocess.PIPE, text=True
        )
        for rank in (0, 1)
    ]
    said = [rank.communicate(timeout=120)[0].splitlines() for rank in ranks]
    for one, other in zip(*said, strict=True):
        (n_one, *seen_by_one), (n_other, *seen_by_other) = one.split(), other.split()
        assert n_one == n_other == "5"  # of 7 clips: each process has 40
        assert len(set(seen_by_one) | set(seen_by_other)) == len(seen_by_one) + len(seen_by_other) == 70
    assert said[0][0] != said[0][1]


@pytest.mark.extras
def test_a_killed_run_resumes_where_another_would_be(tiny_corpus: Path, address: Path, tmp_path: Path) -> None:
    place = ["data=shards", "data.source=folder", f"data.shards={address}", NOISY, "trainer.accelerator=cpu", "conditions=clean"]
    shared = [*place, "experiment=robust", "max_epochs=30", "data.batch_size=10", "export=false"]
    unbroken = shell("train", *shared, f"hydra.run.dir={tmp_path / 'unbroken'}")
    assert unbroken.returncode == 0, unbroken.stderr
    process = start("train", *shared, f"hydra.run.dir={tmp_path / 'killed'}")
    last = tmp_path / "killed" / "last.ckpt"
    wait_until(lambda: last.is_file() or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert torch.load(last, weights_only=True)["epoch"] < 29
    resumed = shell("train", *shared, f"ckpt_path={last}")
    assert resumed.returncode == 0, resumed.stderr
    one, other = (torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"] for name in ("unbroken", "killed"))
    assert all(torch.equal(one[name], other[name]) for name in one)
    metrics = runs.read_json(tmp_path / "killed" / "metrics.json")
    again = shell("train", *shared, "resume=true", f"hydra.run.dir={tmp_path / 'killed'}")
    assert again.returncode == 0, again.stderr
    assert metrics["train_clips"] == 40
    assert metrics["test/total"] == 100


@pytest.mark.extras
def test_a_killed_writing_is_noticed_and_made_good(tiny_corpus: Path, tmp_path: Path, address: Path) -> None:
    folder = tmp_path / "killed"
    program = [sys.executable, "-m", "digits.training.write_shards", str(folder), *settings(tiny_corpus)]
    process = subprocess.Popen(
        program, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    wait_until(lambda: (folder / "about" / "index.json").is_file() or process.poll() is not None)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    with pytest.raises(ValueError, match=r"no shards can be read there: they are missing, or were not written to their end"):
        modules(tiny_corpus, folder)
    done = command(str(folder), *settings(tiny_corpus))
    assert done.returncode == 0, done.stderr
    test_shards_hold_what_memory_holds(tiny_corpus, folder)


@pytest.mark.extras
def test_a_training_set_that_lacks_items_is_noticed(tiny_corpus: Path, tmp_path: Path, address: Path) -> None:
    folder = tmp_path / "short"
    shutil.copytree(address, folder)
    index = json.loads((folder / "train" / "index.json").read_text())
    index["chunks"] = index["chunks"][:-1] or [index["chunks"][0] | {"chunk_size": 79}]
    (folder / "train" / "index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"holds \d+ items instead of 80: its writing was interrupted"):
        modules(tiny_corpus, folder)
    assert command(str(folder), *settings(tiny_corpus)).returncode == 0
    assert len(modules(tiny_corpus, folder)[1].train_dataloader()) == 1


@pytest.mark.extras
def test_what_cannot_be_is_told_in_a_sentence(tiny_corpus: Path, address: Path, tmp_path: Path) -> None:
    other = command(str(address), *settings(tiny_corpus), "data.split=speaker", "data.test_speakers=[ann]")
    assert other.returncode == 1
    assert "holds shards of other settings" in other.stderr
    assert "Traceback" not in other.stderr
    with pytest.raises(ValueError, match=r"was written with data\.split = official, this run has all: give the settings"):
        modules(tiny_corpus, address, "data.split=all")
    with pytest.raises(ValueError, match="no shards can be read there"):
        modules(tiny_corpus, tmp_path / "nothing")
    broken = tmp_path / "broken"
    shutil.copytree(tiny_corpus, broken)
    next(broken.glob("7_ann_11.wav")).write_bytes(b"RIFF")
    refused = command(str(tmp_path / "new"), *settings(broken))
    assert refused.returncode == 1
    (told,) = (
        line for line in refused.stderr.splitlines() if line.startswith("digits.training.write_shards: ")
    )  # litdata says more
    assert "7_ann_11.wav" in told


@pytest.mark.extras
def test_a_checkpoint_is_evaluated_without_its_recipe(tiny_corpus: Path, address: Path, tmp_path: Path) -> None:
    place = [
        "data=shards",
        "data.source=folder",
        f"data.shards={address}",
        "trainer.accelerator=cpu",
        "conditions=clean",
        "export=false",
    ]
    run = tmp_path / "run"
    assert shell("train", *place, NOISY, "max_epochs=1", f"hydra.run.dir={run}").returncode == 0
    again = shell("train", *place, "fit=false", f"ckpt_path={run / 'best.ckpt'}", f"hydra.run.dir={tmp_path / 'again'}")
    assert again.returncode == 0, again.stderr
    assert (run / "predictions.csv").read_text() == (tmp_path / "again" / "predictions.csv").read_text()


@pytest.mark.extras
def test_torchmetrics_can_be_imported_beside_litdata() -> None:
    subprocess.run([sys.executable, "-c", "import litdata, torchmetrics"], check=True)


def test_without_litdata_it_says_what_to_install(tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *rest: Any, **others: Any) -> Any:
        if name == "litdata":
            raise ModuleNotFoundError("no", name="litdata")
        return imported(name, *rest, **others)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "litdata", raising=False)
    cfg = tiny_run(tiny_corpus, tmp_path / "run", "data=shards", f"data.shards={tmp_path}", "data.source=fsdd")
    with pytest.raises(ValueError, match=r"litdata is not installed: pip install '\.\[shards\]'"):
        train(cfg)


def test_an_address_is_a_folder_or_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shards.absolute("s3://bucket/digits/") == "s3://bucket/digits"
    assert shards.absolute("digits") == str(tmp_path / "digits")
    assert os.environ["LITDATA_DISABLE_VERSION_CHECK"] == "1"
