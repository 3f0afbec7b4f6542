import math
from pathlib import Path

import pytest
import torch
from support import SPEAKERS, add_run, answer_row

from digits.recognition.calibration import fit_temperature
from experiments.air_gap import air_gap, answers, confidence, pictures


def test_macro_weighs_speakers_not_clips() -> None:
    rows = [answer_row("clean", clip, right=clip % 3 != 0) for clip in range(30)] + [answer_row("clean", 0, right=True)] * 10
    assert answers.macro(rows) == pytest.approx((0.5 + 1 + 1) / 3)


def test_mcnemar_by_hand() -> None:
    one = [answer_row("clean", clip, right=clip >= 2) for clip in range(30)]
    other = [answer_row("clean", clip, right=clip not in range(2, 10)) for clip in range(30)]
    only_one, only_other, p = answers.mcnemar(one, other)
    assert (only_one, only_other) == (8, 2)
    assert p == pytest.approx(2 * sum(math.comb(10, k) for k in range(3)) / 2**10)


def test_the_bootstrap_interval_is_that_of_the_normal_approximation_for_many_speakers() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = []
    for clip in range(400):
        one = answer_row("clean", clip, right=bool(torch.rand((), generator=generator) < 0.8))
        rows.append(one | {"speaker": f"s{clip}"})
    run = answers.Run("unseen", {}, rows)
    low, high = answers.bootstrap_macro([run])
    mean = answers.macro(rows)
    half = 1.96 * math.sqrt(mean * (1 - mean) / 400)
    assert low == pytest.approx(mean - half, abs=0.006)
    assert high == pytest.approx(mean + half, abs=0.006)


def test_each_speaker_s_temperature_comes_from_the_others() -> None:
    rows = [answer_row("clean", clip, right=clip % 10 != 0, confidence=9.0 if clip % 3 == 0 else 3.0) for clip in range(300)]
    logits, labels, speakers = confidence.answers([answers.Run("loso", {}, rows)])
    fitted = confidence.cross_fitted(logits, labels, speakers)
    own = torch.tensor([speaker == "ann" for speaker in speakers])
    torch.testing.assert_close(fitted[own], (logits[own] / fit_temperature(logits[~own], labels[~own])).softmax(dim=1))


def test_the_study_is_written_from_whatever_protocols_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noises = [f"{noise}_{snr}" for noise in pictures.NOISES for snr in (20, 10, 5, 0)]
    names = ("clean", *noises, "room_1000ms", "telephone")
    for seed in range(2):
        for model, errors in (("baseline", 6), ("robust", 4), ("live", 2)):
            rows = [answer_row(name, clip, clip >= errors) for name in names for clip in range(60)]
            add_run(tmp_path / "air_gap" / model / str(seed), model, seed, rows)
    for name in SPEAKERS:
        own = [answer_row("clean", clip, clip >= 3, confidence=2 + clip / 60) for clip in range(60) if SPEAKERS[clip % 3] == name]
        add_run(tmp_path / "loso" / name, "live", 0, own)
    assert air_gap.main([str(tmp_path), "--out", str(tmp_path / "study")]) == 0
    report = (tmp_path / "study" / "report.md").read_text()
    assert "| official test (n = 300) | 90.00 ± 0.00 (79.9-95.3) | 93.33 ± 0.00 (84.1-97.4) | 96.67 ± 0.00 (88.6-99.1) |" in report
    assert "| white_0 | 90.00 ± 0.00 | 93.33 ± 0.00 | 96.67 ± 0.00 | 67 % |" in report
    assert "| leave one speaker out: mean / worst (n = 3,000) | - | - | 95.00 (86.3-98.3) / 95.0 (ann) |" in report
    assert (tmp_path / "study" / "results.csv").read_text().count("\n") == 1 + 6 * 19 + 3
    assert {path.stem for path in (tmp_path / "study").glob("*.png")} == {"snr", "speakers", "reliability", "risk_coverage"}


def test_one_model_alone_makes_a_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ["clean", *(f"{noise}_{snr}" for noise in pictures.NOISES for snr in (20, 10, 5, 0)), "room_1000ms", "telephone"]
    rows = [answer_row(name, clip, clip >= 2) for name in names for clip in range(60)]
    add_run(tmp_path / "air_gap" / "0", "live", 0, rows)
    add_run(tmp_path / "ablation" / "0", "live_without_air", 0, rows)
    assert air_gap.main([str(tmp_path), "--out", str(tmp_path / "study")]) == 0
    assert "| official test (n = 300) | - | - | 96.67 (88.6-99.1) |" in capsys.readouterr().out
    assert {path.stem for path in (tmp_path / "study").glob("*.png")} == {"snr", "ablation"}


def test_no_runs_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no finished run of air_gap, folds"):
        air_gap.main([str(tmp_path), "--out", str(tmp_path / "study")])
