from pathlib import Path

import pytest
from conftest import compose_config, tiny_run
from hydra.errors import ConfigCompositionException
from hydra.utils import instantiate

from digits import entry
from digits.train import train

EXPERIMENTS = sorted(path.stem for path in Path(entry.CONF, "experiment").glob("*.yaml"))
SWEEPS = sorted(path.stem for path in Path(entry.CONF, "sweep").glob("*.yaml"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs_through(experiment: str, tiny_corpus: Path, tmp_path: Path) -> None:
    short = ["trainer=smoke", "data.batch_size=10"]
    if experiment == "live":  # as it is but for the voices, which take minutes: tests/test_data.py has some
        copies = {"synthetic": 0, "words": 0, "air": 1}
        short += [f"data.train_sets.{part}.copies={number}" for part, number in copies.items()]
    metrics = train(tiny_run(tiny_corpus, tmp_path / "run", f"experiment={experiment}", *short))
    assert metrics["test/total"] == 100
    assert (tmp_path / "run" / "best.ckpt").is_file()


@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_sweep_names_experiments_that_exist(sweep: str) -> None:
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(entry.CONF, version_base="1.3"):
        cfg = compose("train", overrides=[f"+sweep={sweep}"], return_hydra_config=True)
    assert cfg.hydra.mode.name == "MULTIRUN"
    assert set(str(cfg.hydra.sweeper.params.experiment).split(",")) <= set(EXPERIMENTS)


@pytest.mark.parametrize("ablation", sorted(path.stem for path in Path(entry.CONF, "ablation").glob("*.yaml")))
def test_an_ablation_is_live_with_a_name_of_its_own(ablation: str) -> None:
    live, without = (compose_config("experiment=live", *extra, "run_dir=x") for extra in (["name=x"], [f"+ablation={ablation}"]))
    assert without.name.startswith("live_")
    assert without.data.front_end == live.data.front_end
    assert without.conditions == live.conditions
    settings = [(cfg.data.train_sets, cfg.augment, cfg.model) for cfg in (live, without)]
    assert settings[0] != settings[1]


@pytest.mark.parametrize("group", ["fsdd", "espeak", "folder"])
def test_every_corpus_builds(group: str) -> None:
    cfg = compose_config(f"data={group}", "name=x", "run_dir=x")
    assert instantiate(cfg.data).hparams["source"] == group


def test_robust_differs_from_baseline_only_in_augmentation_and_epochs() -> None:
    from omegaconf import OmegaConf

    baseline, robust = (compose_config(f"experiment={name}", "name=x", "run_dir=x") for name in ("baseline", "robust"))
    assert all(value == 0 for key, value in baseline.augment.items() if key != "n_masks")
    assert all(value > 0 for key, value in robust.augment.items() if key != "equalizer_db")
    robust.augment, robust.trainer.max_epochs = baseline.augment, baseline.trainer.max_epochs
    assert OmegaConf.to_container(robust) == OmegaConf.to_container(baseline)


@pytest.mark.parametrize("typo", ["classifier.learning_rat=0.1", "modle=cnn", "experiment=robustt", "data.splitt=official"])
def test_a_typo_is_refused(typo: str) -> None:
    with pytest.raises(ConfigCompositionException, match=typo.split("=", maxsplit=1)[0].rsplit(".", maxsplit=1)[-1]):
        compose_config(typo)
