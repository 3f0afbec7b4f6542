import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from digits.training import runs
from experiments.lean import lean

WHOLE = {
    "experiment": "baseline",
    "corpus": "fsdd",
    "seed": 0,
    "val/acc": 1.0,
    "machine": "x",
    "git_commit": "abc",
    "versions": {"a": "1"},
}


def finish(folder: Path, network: tuple[list[int], int, int], measured: dict[str, Any]) -> None:
    (folder / ".hydra").mkdir(parents=True)
    convolutions, kernel, epochs = network
    cfg = {"model": {"convolutions": convolutions, "first_kernel": kernel}, "max_epochs": epochs}
    OmegaConf.save(OmegaConf.create(cfg), folder / ".hydra" / "config.yaml")
    (folder / runs.METRICS).write_text(json.dumps(WHOLE | {"split": "official"} | measured))


def sweeps(outputs: Path, protocols: tuple[str, ...] = ("official", "folds", "loso")) -> Path:
    for protocol in protocols:
        for name, network, seconds in (("a", ([2, 2, 2], 3, 10), 10.0), ("b", ([1, 1, 1], 5, 10), 4.0)):
            for seed, right in enumerate((297, 300)):
                noise = {"test/acc_snr10": 0.5, "test/acc_snr0": 0.25}
                score = {"test/acc": right / 300, "test/correct": right, "test/total": 300, "train_s": seconds}
                finish(outputs / protocol / name / str(seed), network, score | noise)
    return outputs


def test_multiplications_are_those_of_the_layers() -> None:
    by_hand = 20 * 51 * 25 * 16 + 10 * 25 * 9 * 16 * 32 + 5 * 12 * 9 * 32 * 64 + 2 * 64 * 10
    assert lean.million_macs(lean.build(((1, 1, 1), 5, 7))) == by_hand / 1e6


def test_the_table_has_means_and_ratios(tmp_path: Path) -> None:
    assert lean.main([str(sweeps(tmp_path)), "--out", str(tmp_path)]) == 0
    rows = [line.split(" | ") for line in (tmp_path / "report.md").read_text().splitlines() if line.startswith("| ")]
    assert rows[1][:3] == ["| 2-2-2, first 3x3, 10 epochs", "99.50 ± 0.71", "50.0 ± 0.0"]
    assert rows[2][6:8] == ["4.0", "0.40"]
    assert rows[1][4].startswith("99.50 (")
    assert (tmp_path / "pareto.png").stat().st_size > 10_000


def test_a_sweep_that_lacks_a_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"no runs in one of the sweeps: 1-1-1, first 5x5, 10 epochs; 2-2-2"):
        lean.main([str(sweeps(tmp_path, ("official", "folds")))])
