import shutil
from pathlib import Path

import numpy
import pytest
from support import SPEAKERS, add_run, answer_row

from digits.corpora import catalog
from digits.live.listener import Heard
from digits.recognition import torch_models
from digits.recognition.recognizer import NO_DIGIT, Prediction
from experiments.live.streams import RATE, Stream
from experiments.public import public, shipped


def test_the_study_is_written_from_the_runs_of_public_alone(
    tmp_path: Path, tiny_checkpoint: Path, plain_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch_models, "PLAIN_PRETRAINED_PATH", plain_model)
    conditions = ("clean", "babble_10", "babble_5", "white_0", "room_1000ms", "telephone")
    for seed in range(2):
        for model, errors in (("live", 9), ("public", 3)):
            rows = [answer_row(condition, n, n >= errors) for condition in conditions for n in range(60)]
            add_run(tmp_path / "air_gap" / model / str(seed), model, seed, rows)
        shutil.copy(tiny_checkpoint, tmp_path / "air_gap" / "public" / str(seed) / "best.ckpt")
    for name in SPEAKERS:
        own = [answer_row("clean", clip, clip >= 3) for clip in range(60) if SPEAKERS[clip % 3] == name]
        add_run(tmp_path / "loso" / name, "public", 0, own)
    assert public.main([str(tmp_path), "--out", str(tmp_path / "study")]) == 0
    report = (tmp_path / "study" / "report.md").read_text()
    assert "| official test (n = 300) | 95.00 ± 0.00 (86.3-98.3) |" in report
    assert "| leave one speaker out: mean / worst (n = 3,000) | 95.00 (86.3-98.3) / 95.0 (ann) |" in report
    assert "| FSDD speakers left out |" in report
    assert "| 2 | 2 of 12 |\n| 3 | 0 of 12 |" in report
    assert (tmp_path / "study" / "results.csv").read_text().count("\n") == 1 + 2 * 6 + 3
    with pytest.raises(SystemExit, match="no finished run"):
        public.main([str(tmp_path / "nothing"), "--out", str(tmp_path / "study")])


def prediction(digit: int, probability: float, reason: str | None = None) -> Prediction:
    return Prediction(digit, probability, tuple(probability * (n == digit) for n in range(10)), reason)


def test_each_threshold_is_counted_on_the_same_answers() -> None:
    def event(start_s: float, digit: int, probability: float) -> Heard:
        return Heard(start_s, start_s + 1, digit, probability, True, None, 140, 1)

    hour = numpy.zeros(3600 * RATE // 1000, numpy.float32)  # a thousandth
    spoken = [Stream(name, hour, [(1, 2, 3), (3, 4, 7)]) for name in shipped.STREAMS.values()]
    streams = [(stream, [event(1, 3, 0.9), event(3, 7, 0.6)]) for stream in spoken]
    streams += [(Stream(name, hour, []), [event(1, 0, 0.8)]) for name in ("speech", "noise")]
    digits = [(3, "ann", prediction(3, 0.9)), (7, "ann", prediction(7, 0.6)), (5, "bob", prediction(9, 0.55))]
    words = {"letters": [prediction(8, 0.7), prediction(1, 0.95, NO_DIGIT)], "days": [prediction(2, 0.1), prediction(2, 0.2)]}
    answers = shipped.Answers(digits, words, streams)
    rows = shipped.choices(answers, {"strict": 0.85, "eager": 0.5}).splitlines()[2:]
    strict, eager = ([cell.split()[0] for cell in row.strip("|").split("|")] for row in rows)
    assert strict == ["strict", "33.3", "50.0", "50.0", "0.0", "0.0", "0.0"]
    assert eager == ["eager", "66.7", "100.0", "100.0", "25.0", "1000.0", "1000.0"]
    assert "| letters | 2 | 50.0 (9.5-90.5) |" in shipped.other_words(answers, 0.5)
    assert "| 3 | 2 | 3 | 1 | 50.0 |" in shipped.unseen(answers, 0.5)


def test_every_corpus_of_the_shipped_model_has_its_credit() -> None:
    credits = [catalog.get(name).credit for name in shipped.corpora()]
    assert all(credits)
    assert any("CC BY-SA 4.0" in credit for credit in credits)
