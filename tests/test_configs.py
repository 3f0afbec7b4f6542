from dataclasses import replace
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate
from omegaconf import OmegaConf
from support import compose_config, tiny_run, write_corpus

from digits import cli
from digits.corpora import catalog, espeak, kokoro
from digits.corpora.catalog import Source
from digits.corpora.corpus import NO_DIGIT, Corpus
from digits.corpora.folder import read_folder
from digits.train import train

EXPERIMENTS = sorted(path.stem for path in Path(cli.CONF, "experiment").glob("*.yaml"))
SWEEPS = sorted(path.stem for path in Path(cli.CONF, "sweep").glob("*.yaml"))


@pytest.fixture(scope="module")
def one_speaker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """110 clips: enough for each part of the official split."""
    return write_corpus(tmp_path_factory.mktemp("one") / "recordings", takes=11, speakers=("ann",))


@pytest.mark.xdist_group("experiments")  # they share log-mels
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs_through(experiment: str, one_speaker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is, but for fewer copies; the tiny corpus's own clips stand in for all others."""
    for synthesizer in (espeak, kokoro):
        monkeypatch.setattr(synthesizer, "load", lambda name: read_folder(one_speaker, name))
    people = [replace(clip, digit=NO_DIGIT) if clip.digit == 9 else clip for clip in read_folder(one_speaker, "people").clips]
    monkeypatch.setitem(catalog.CORPORA, "speech_commands_subset", Source(lambda root: Corpus("people", people), ""))
    cfg = tiny_run(one_speaker, tmp_path / "run", f"experiment={experiment}", "trainer=smoke", "data.batch_size=10")
    for part in cfg.data.train_sets.values():
        part.copies = min(part.copies, 1)
    metrics = train(cfg)
    assert metrics["test/total"] == 50
    assert (tmp_path / "run" / "best.ckpt").is_file()


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_sweep_names_experiments_that_exist(sweep: str) -> None:
    with initialize_config_dir(cli.CONF, version_base="1.3"):
        cfg = compose("train", overrides=[f"+sweep={sweep}"], return_hydra_config=True)
    assert cfg.hydra.mode.name == "MULTIRUN"
    assert set(str(cfg.hydra.sweeper.params.experiment).split(",")) <= set(EXPERIMENTS)


@pytest.mark.parametrize("ablation", [name for name in EXPERIMENTS if name.startswith("live_")])
def test_an_ablation_is_live_but_for_one_thing(ablation: str) -> None:
    live, without = (compose_config(f"experiment={name}", "name=x", "run_dir=x") for name in ("live", ablation))
    assert without.data.front_end == live.data.front_end
    assert without.conditions == live.conditions
    settings = [(cfg.data.train_sets, cfg.augment, cfg.model) for cfg in (live, without)]
    assert settings[0] != settings[1]
    assert sum(one == other for one, other in zip(*settings, strict=True)) >= 1


@pytest.mark.parametrize("group", ["fsdd", "espeak", "folder", "speech_commands", "audiomnist"])
def test_every_corpus_builds(group: str) -> None:
    cfg = compose_config(f"data={group}", "name=x", "run_dir=x")
    assert instantiate(cfg.data).hparams["source"] == group


def test_robust_differs_from_baseline_only_in_augmentation_and_epochs() -> None:
    baseline, robust = (compose_config(f"experiment={name}", "name=x", "run_dir=x") for name in ("baseline", "robust"))
    assert all(value == 0 for key, value in baseline.augment.items() if key != "n_masks")
    assert all(value > 0 for key, value in robust.augment.items() if key != "equalizer_db")
    robust.augment, robust.max_epochs = baseline.augment, baseline.max_epochs
    assert OmegaConf.to_container(robust) == OmegaConf.to_container(baseline)


@pytest.mark.parametrize("typo", ["classifier.learning_rat=0.1", "modle=cnn", "experiment=robustt", "data.splitt=official"])
def test_a_typo_is_refused(typo: str) -> None:
    with pytest.raises(ConfigCompositionException, match=typo.split("=", maxsplit=1)[0].rsplit(".", maxsplit=1)[-1]):
        compose_config(typo)


def test_the_number_of_epochs_belongs_to_the_experiment_and_the_trainer_may_shorten_it() -> None:
    def epochs(*overrides: str) -> int:
        return compose_config("name=x", "run_dir=x", *overrides).trainer.max_epochs

    assert epochs("experiment=baseline") == 10
    assert epochs("experiment=robust") == 20
    assert epochs("experiment=robust", "max_epochs=3") == 3
    assert epochs("experiment=robust", "max_epochs=3", "trainer.max_epochs=2") == 2
    assert epochs("experiment=robust", "trainer=smoke") == 1
    assert epochs("trainer=smoke", "experiment=robust") == 1
