import csv
from pathlib import Path

import numpy
import pytest
import soundfile

from experiments.peers import peers


@pytest.mark.parametrize(
    ("text", "digit"),
    [
        ("Seven.", 7),
        ("7", 7),
        ("Nine, nine", 9),
        ("to", 2),
        ("Ate!", 8),
        ("", None),
        ("One two", None),
        ("Seven up", None),
        ("12", None),
    ],
)
def test_a_transcript_is_one_digit_or_none(text: str, digit: int | None) -> None:
    assert peers.digit_in(text) == digit


def test_systems_are_counted_padded_at_their_best_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, names in {"fsdd": ("1_a_0", "1_a_9"), "unseen": ("1_b_0", "2_b_0"), "words": ("x", "y")}.items():
        (tmp_path / folder).mkdir()
        for n, name in enumerate(names):
            soundfile.write(tmp_path / folder / f"{name}.wav", 0.5 * numpy.ones(8000 + n) * (-1.0) ** numpy.arange(8000 + n), 16000)

    def needs_silence(waveform: numpy.ndarray) -> int | None:
        return 1 if waveform[0] == 0 else None

    weights = tmp_path / "weights"
    weights.write_bytes(bytes(100_000))
    heard = peers.System(lambda: needs_silence, "cats", lambda: weights)
    monkeypatch.setattr(peers, "PEERS", {"cat": heard, "dog": heard})
    monkeypatch.setattr(peers, "_ours", lambda official: {})
    arguments = [f"--{name}={tmp_path / name}" for name in ("fsdd", "unseen", "words")]
    arguments += ["--official=pretrained", "--every=1", f"--out={tmp_path}"]
    assert peers.main(arguments) == 0
    rows = {row["system"]: row for row in csv.DictReader((tmp_path / "results.csv").open())}
    counts = ("official", "official_clips", "unseen", "unseen_clips", "words", "other_words")
    assert [int(rows["cat"][name]) for name in counts] == [1, 1, 1, 2, 2, 2]
    assert (float(rows["cat"]["padding_s"]), float(rows["cat"]["megabytes"])) == (0.25, 0.1)
    monkeypatch.setattr(peers, "PEERS", {"cat": peers.System(lambda: lambda waveform: None, "none", lambda: weights), "dog": heard})
    assert peers.main([*arguments, "--systems=cat"]) == 0
    table = (tmp_path / "report.md").read_text()
    assert "| cat | none | 0.0 (0.0-79.3) | 0.0 (0.0-65.8) | 0.0 (0.0-65.8) | 0.1 |" in table
    assert "| dog | cats | 100.0 (20.7-100.0) | 50.0 (9.5-90.5) | 100.0 (34.2-100.0) | 0.1 |" in table
