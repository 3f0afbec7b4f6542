import json
from pathlib import Path

import pytest

from experiments.compare import compare


def add_run(folder: Path, experiment: str, seed: int, correct: int, **extra: object) -> None:
    folder.mkdir(parents=True)
    metrics = {
        "experiment": experiment,
        "corpus": "fsdd",
        "split": "official",
        "seed": seed,
        "parameters": 73306,
        "epochs": 10,
        "train_s": 10.0 + seed,
        "val/acc": 1.0,
        "test/acc": correct / 300,
        "test/correct": correct,
        "test/total": 300,
        "test/acc_snr0": 0.4 + 0.1 * seed,
        "git_commit": "abc",
        "versions": {"torch": "2"},
        "machine": "m",
        "settings": "s",
        "trained_on": "fsdd",
    }
    (folder / "metrics.json").write_text(json.dumps(metrics | extra))
    (folder / "predictions.csv").write_text(
        f"condition,clip,speaker,digit,predicted,probability,logits\nclean,a.wav,ann,3,8,0.9,{' 0' * 10}\n"
    )


def test_report_holds_means_deviations_and_intervals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, correct in enumerate((298, 299, 300)):
        add_run(tmp_path / "baseline" / f"seed{seed}", "baseline", seed, correct)
        add_run(tmp_path / "robust" / f"seed{seed}", "robust", seed, 298, corpus="espeak")
    assert compare.main([str(tmp_path)]) == 0
    report = (tmp_path / "report.md").read_text()
    assert "| 99.67 ± 0.33 |" in report  # 298, 299 and 300 of 300
    assert "299.0/300 | 98.1-99.9" in report
    assert "| robust | espeak | official | 3 |" in report
    assert "50.00 ± 10.00" in report
    assert "## Runs without a result" not in report
    rows = (tmp_path / "results.csv").read_text().splitlines()
    assert len(rows) == 7
    assert rows[0].startswith("experiment,corpus,split,seed")
    for name in ("accuracy.png", "confusion_baseline_fsdd_official.png", "confusion_robust_espeak_official.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert "baseline" in capsys.readouterr().out


def test_missing_and_failed_runs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "multirun.yaml").write_text(
        "hydra:\n  sweeper:\n    params:\n      experiment: baseline,robust\n      seed: 0,1\n"
        "  overrides:\n    task: ['+sweep=compare', 'seed=0,1,2']\n"
    )
    jobs = {"baseline/seed0": ["experiment=baseline", "seed=0"], "baseline/seed1": ["experiment=baseline", "seed=1"]}
    jobs["robust/seed0"] = ["experiment=robust", "seed=0"]
    for folder, overrides in jobs.items():
        (tmp_path / folder / ".hydra").mkdir(parents=True)
        (tmp_path / folder / ".hydra" / "overrides.yaml").write_text(json.dumps([*overrides, "+sweep=compare"]))
    (tmp_path / "baseline/seed1/error.txt").write_text("Traceback...\nValueError: the disk is full\n")
    done = tmp_path / "baseline/seed0"
    (done / ".hydra").rename(tmp_path / "kept")
    done.rmdir()
    add_run(done, "baseline", 0, 299)
    (tmp_path / "kept").rename(done / ".hydra")
    assert compare.main([str(tmp_path)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert "without a result: baseline/seed1: ValueError: the disk is full" in lines
    assert "without a result: robust/seed0: not finished" in lines
    never = [line for line in lines if line.endswith("never started")]
    assert len(never) == 3
    assert "robust/seed0: not finished" in (tmp_path / "report.md").read_text()


def test_runs_of_other_settings_are_other_rows(tmp_path: Path) -> None:
    for dropout, correct in ((0.1, 290), (0.3, 100)):
        run = tmp_path / f"dropout{dropout}"
        add_run(run, "robust", 0, correct, settings=str(dropout))
        (run / ".hydra").mkdir()
        (run / ".hydra" / "overrides.yaml").write_text(json.dumps(["experiment=robust", f"model.dropout={dropout}", "seed=0"]))
    assert compare.main([str(tmp_path)]) == 0
    report = (tmp_path / "report.md").read_text()
    assert "| robust model.dropout=0.1 | fsdd | official | 1 |" in report
    assert "| robust model.dropout=0.3 | fsdd | official | 1 |" in report
    add_run(tmp_path / "again", "robust", 0, 290, settings="0.1")
    with pytest.raises(SystemExit, match="several runs of robust with the same seed"):
        compare.main([str(tmp_path)])


def test_nothing_to_compare_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no finished run in it"):
        compare.main([str(tmp_path)])
    with pytest.raises(SystemExit, match="no such folder"):
        compare.main([str(tmp_path / "none")])
