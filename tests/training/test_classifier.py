from pathlib import Path

import pytest
import torch
from lightning.pytorch import LightningModule
from support import compose_config, tiny_run

from digits.train import train
from digits.training.classifier import DigitClassifier
from digits.training.datamodule import DigitsDataModule


def test_lightning_rebuilds_both_modules_with_weights_only(tiny_checkpoint: Path) -> None:
    classifier = DigitClassifier.load_from_checkpoint(tiny_checkpoint, weights_only=True)
    data = DigitsDataModule.load_from_checkpoint(tiny_checkpoint, weights_only=True)
    assert isinstance(classifier, LightningModule)
    assert data.hparams["source"] == "folder"


def test_it_carries_what_was_trained_on_what(tiny_checkpoint: Path) -> None:
    hparams = torch.load(tiny_checkpoint, weights_only=True)["hyper_parameters"]
    assert (hparams["experiment"], hparams["corpus"], hparams["seed"]) == ("tiny", "folder", 0)
    assert list(hparams["conditions"]) == list(compose_config("name=x", "run_dir=x").conditions)


def test_no_logits_before_a_test() -> None:
    assert DigitClassifier({"name": "DigitCNN"}, conditions=["clean", "snr0"]).test_logits == {}


def test_augmentation_is_for_training_alone() -> None:
    classifier = DigitClassifier({"name": "DigitCNN"}, augment={"time_mask_param": 30}).eval()
    log_mel = torch.randn(4, 1, 40, 101)
    assert torch.equal(classifier(log_mel), classifier.network(log_mel))
    assert torch.equal(classifier.augment(log_mel), log_mel)
    assert not torch.equal(classifier.train().augment(log_mel), log_mel)


def test_impossible_networks_are_named() -> None:
    with pytest.raises(ValueError, match=r"model\.name must be one of"):
        DigitClassifier({"name": "os.system"})


def test_a_training_that_diverges_fails_and_leaves_no_result(tiny_corpus: Path, tmp_path: Path) -> None:
    hot = ("classifier.learning_rate=1e12", "trainer.max_epochs=5", "data.batch_size=10")
    with pytest.raises(ValueError, match=r"diverged: val/loss is (nan|inf) in epoch \d; try a smaller classifier\.learning_rate"):
        train(tiny_run(tiny_corpus, tmp_path / "run", *hot))
    assert not (tmp_path / "run" / "metrics.json").exists()
