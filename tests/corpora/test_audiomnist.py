from pathlib import Path

import pytest
import soundfile
from support import spoken

from digits.corpora import audiomnist
from digits.corpora.corpus import divide


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Twelve speakers say two digits twice, in the repository's layout."""
    for speaker in range(1, 13):
        folder = tmp_path / "data" / f"{speaker:02}"
        folder.mkdir(parents=True)
        for digit in (3, 8):
            for take in (0, 49):
                soundfile.write(folder / f"{digit}_{speaker:02}_{take}.wav", spoken(digit, speaker, take), 8000)
    (tmp_path / "data" / "audioMNIST_meta.txt").write_text("{}")
    return tmp_path


def test_its_layout_is_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = audiomnist.load(str(root))
    assert corpus.name == "audiomnist"
    assert len(corpus.clips) == 48
    (clip,) = [clip for clip in corpus.clips if clip.name == "07/8_07_49.wav"]
    assert (clip.digit, clip.speaker, clip.take) == (8, "07", 49)
    assert audiomnist.load(str(root / "data")).clips == corpus.clips
    monkeypatch.setenv("AUDIOMNIST_ROOT", str(root))
    assert audiomnist.load().clips == corpus.clips


def test_no_speaker_is_in_two_parts(root: Path) -> None:
    clips = audiomnist.load(str(root)).clips
    parts = divide(clips, "official")
    assert {clips[i].speaker for i in parts.test} == {"01", "11"}
    assert {clips[i].speaker for i in parts.val} == {"02", "12"}


def test_without_it_the_way_to_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIGITS_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="AudioMNIST is not on this machine: download https://"):
        audiomnist.load()
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        audiomnist.load(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"no recordings of AudioMNIST, named like 01/7_01_0\.wav"):
        audiomnist.load(str(tmp_path))
