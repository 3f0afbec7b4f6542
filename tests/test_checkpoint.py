import json
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule

from digits import checkpoint, results
from digits.classifier import DigitClassifier
from digits.data import DigitsDataModule


class Hostile:
    def __reduce__(self) -> tuple:
        return os.system, ("touch /tmp/digits_was_here",)


def test_lightning_rebuilds_both_modules_with_weights_only(tiny_checkpoint: Path) -> None:
    classifier = DigitClassifier.load_from_checkpoint(tiny_checkpoint, weights_only=True)
    data = DigitsDataModule.load_from_checkpoint(tiny_checkpoint, weights_only=True)
    assert isinstance(classifier, LightningModule)
    assert data.hparams["source"] == "folder"


@pytest.mark.parametrize("part", [None, "state_dict"])
def test_a_hostile_pickle_is_refused_and_not_run(tiny_checkpoint: Path, tmp_path: Path, part: str | None) -> None:
    mark = Path("/tmp/digits_was_here")
    mark.unlink(missing_ok=True)
    content = torch.load(tiny_checkpoint, weights_only=True)
    torch.save(Hostile() if part is None else content | {part: Hostile()}, tmp_path / "evil.ckpt")
    with pytest.raises(ValueError, match=r"evil\.ckpt: refused"):
        checkpoint.read(tmp_path / "evil.ckpt")
    (tmp_path / "plain.ckpt").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ValueError, match=r"plain\.ckpt: "):
        checkpoint.read(tmp_path / "plain.ckpt")
    assert not mark.exists()


@pytest.mark.parametrize("kept", [0, 10, 1000, 50_000, -1])
def test_a_truncated_checkpoint_is_named(tiny_checkpoint: Path, tmp_path: Path, kept: int) -> None:
    (tmp_path / "cut.ckpt").write_bytes(tiny_checkpoint.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"cut\.ckpt: "):
        checkpoint.read(tmp_path / "cut.ckpt")


def test_no_checkpoint_at_all(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt: no such checkpoint; train one"):
        checkpoint.read(tmp_path / "none.ckpt")
    (tmp_path / "song.ckpt").write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(ValueError, match=r"song\.ckpt: "):
        checkpoint.read(tmp_path / "song.ckpt")
    with zipfile.ZipFile(tmp_path / "archive.ckpt", "w") as archive:
        archive.writestr("x/readme", "hello")
    with pytest.raises(ValueError, match=r"archive\.ckpt: "):
        checkpoint.read(tmp_path / "archive.ckpt")


@pytest.mark.parametrize(
    "content",
    [{"state_dict": {}}, [1, 2], torch.zeros(3), {part: {} for part in checkpoint.PARTS}],
)
def test_another_program_s_checkpoint_is_named(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other\.ckpt: a checkpoint of another program"):
        checkpoint.read(tmp_path / "other.ckpt")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("hyper_parameters", {"network": {"name": "os.system"}, "run": {}}),
        ("hyper_parameters", {"network": {"name": "DigitCNN", "channels": [4, 4, 4]}, "run": {}}),
        ("state_dict", {}),
        ("datamodule_hyper_parameters", {"front_end": {"sample_rate": "x"}, "source": "fsdd"}),
    ],
)
def test_settings_that_do_not_fit_are_named(tiny_checkpoint: Path, tmp_path: Path, part: str, value: dict) -> None:
    content = torch.load(tiny_checkpoint, weights_only=True)
    content[part] = value
    torch.save(content, tmp_path / "odd.ckpt")
    with pytest.raises(ValueError, match=r"odd\.ckpt: its settings and weights do not fit"):
        checkpoint.restore(tmp_path / "odd.ckpt")


def add_run(
    folder: Path, experiment: str, val_acc: float | None, age_s: float, finished: bool = True, complete: bool = True
) -> Path:
    folder.mkdir(parents=True)
    (folder / "best.ckpt").touch()
    os.utime(folder / "best.ckpt", (1e9 - age_s, 1e9 - age_s))
    if finished:
        metrics = {"experiment": experiment, "corpus": "fsdd", "split": "official", "seed": 0, "val/acc": val_acc, "test/acc": 1.0}
        (folder / "metrics.json").write_text(json.dumps(metrics | {"complete": complete}))
    return folder / "best.ckpt"


def test_best_is_preferred_experiment_then_accuracy_then_newest(tmp_path: Path) -> None:
    prefer = ["robust", "baseline"]
    assert results.find_best(tmp_path, prefer) is None
    other = add_run(tmp_path / "0", "over_augmented", 1.0, 0)
    assert results.find_best(tmp_path, prefer) == other
    baseline = add_run(tmp_path / "1", "baseline", 0.999, 0)
    assert results.find_best(tmp_path, prefer) == baseline
    add_run(tmp_path / "deep/er/2", "robust", 0.98, 0)
    older = add_run(tmp_path / "deep/er/3", "robust", 0.99, 100)
    assert results.find_best(tmp_path, prefer) == older
    newer = add_run(tmp_path / "deep/er/4", "robust", 0.99, 50)
    add_run(tmp_path / "5", "robust", 1.0, 0, finished=False)
    add_run(tmp_path / "6", "robust", None, 0)
    add_run(tmp_path / "7", "robust", 1.0, 0, complete=False)
    assert results.find_best(tmp_path, prefer) == newer
    assert results.find_best(tmp_path, ["baseline"]) == baseline
    synthetic = add_run(tmp_path / "8", "robust", 1.0, 0).with_name("metrics.json")
    synthetic.write_text(json.dumps(json.loads(synthetic.read_text()) | {"trained_on": "espeak"}))
    assert results.find_best(tmp_path, prefer) == newer
    all_heard = add_run(tmp_path / "9", "robust", 1.0, 0).with_name("metrics.json")
    all_heard.write_text(json.dumps(json.loads(all_heard.read_text()) | {"split": "all"}))
    assert results.find_best(tmp_path, prefer) == newer
    (tmp_path / "1" / "metrics.json").write_text("{}")
    with pytest.raises(ValueError, match=r"1/metrics\.json: not a run's"):
        results.find_best(tmp_path, prefer)
