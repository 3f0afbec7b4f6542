import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from digits import corpus, espeak

pytestmark = pytest.mark.espeak


def generate(folder: Path) -> str:
    code = f"""
import pathlib
from digits import espeak
espeak.generate(espeak.Recipe(espeak.RECIPES["espeak"].voices, takes=2), pathlib.Path({str(folder)!r}))
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.iterdir()))).hexdigest()


def test_the_same_voices_to_the_byte_every_time(tmp_path: Path) -> None:
    assert generate(tmp_path / "a") == generate(tmp_path / "b")


def test_every_voice_says_every_digit(tmp_path: Path) -> None:
    generate(tmp_path / "a")
    clips = corpus.read_folder(tmp_path / "a", "espeak").clips
    assert len(clips) == len(espeak.RECIPES["espeak"].voices) * 10 * 2
    assert len({clip.speaker for clip in clips}) == len(espeak.RECIPES["espeak"].voices)
    from digits import audio

    for clip in clips[::7]:
        waveform, sample_rate = audio.read(clip.path)
        assert sample_rate == espeak.SAMPLE_RATE
        assert 0.15 < len(audio.trim(waveform, sample_rate)) / sample_rate < 1.2


def test_missing_engine_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'digits\[espeak\]'"):
        espeak.load()
