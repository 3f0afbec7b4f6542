import csv
import hashlib
import re
from collections import defaultdict
from pathlib import Path

import pytest
import soundfile
from support import spoken

from digits.corpora import speech_commands
from digits.corpora.corpus import NO_DIGIT, divide


def write(root: Path, word: str, speaker: str, take: int = 0, digit: int = 7, suffix: str = ".wav") -> Path:
    path = root / word / f"{speaker}_nohash_{take}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, (30_000 * spoken(digit, 0, take, 16_000)).astype("int16"), 16_000)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Seven and "happy" by sixty speakers, some of them twice, and a recording of noise."""
    for number in range(60):
        speaker = hashlib.sha256(str(number).encode()).hexdigest()[:8]
        write(tmp_path, "seven", speaker)
        write(tmp_path, "happy", speaker, suffix=".flac")
        if number % 3 == 0:
            write(tmp_path, "seven", speaker, take=1)
    write(tmp_path, "_background_noise_", "deadbeef")
    return tmp_path


def test_digits_are_digits_and_other_words_are_not(root: Path) -> None:
    corpus = speech_commands.load(str(root))
    assert corpus.name == "speech_commands"
    assert len(corpus.clips) == 140
    for clip in corpus.clips:
        word, speaker = clip.name.split("/")[0], clip.name.split("/")[1][:8]
        assert (clip.digit, clip.speaker) == ({"seven": 7, "happy": NO_DIGIT}[word], speaker)


def test_it_is_found_by_the_environment(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECH_COMMANDS_ROOT", str(root))
    assert len(speech_commands.load().clips) == 140


def test_no_speaker_is_in_two_parts(root: Path) -> None:
    corpus = speech_commands.load(str(root))
    for fold in range(10):
        parts = divide(corpus.clips, "take_fold", fold) if fold else divide(corpus.clips, "official")
        speakers = [{corpus.clips[i].speaker for i in part} for part in vars(parts).values()]
        assert not (speakers[0] & speakers[1] or speakers[0] & speakers[2] or speakers[1] & speakers[2])


@pytest.mark.parametrize(
    ("speaker", "part"),
    [("0a7c2a8d", "train"), ("004ae714", "train"), ("0132a06d", "test"), ("022cd682", "val"), ("0ff728b5", "val")],
)
def test_official_parts_are_those_of_the_published_function(speaker: str, part: str) -> None:
    """``which_set`` of the data set's README, as published, for validation and testing shares of 10 %."""
    most = 2**27 - 1
    name = re.sub(r"_nohash_.*$", "", f"{speaker}_nohash_0.wav")
    percentage = (int(hashlib.sha1(name.encode()).hexdigest(), 16) % (most + 1)) * (100.0 / most)
    published = "val" if percentage < 10 else "test" if percentage < 20 else "train"
    fold = speech_commands._fold(speaker, official=True)
    assert {0: "test", 1: "val"}.get(fold, "train") == published


def test_the_subset_is_held_to_its_list(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = sorted((root / "happy").iterdir())[:20]
    rows = [(f"happy/{path.stem}", speech_commands.sample_hash(path)) for path in listed]
    monkeypatch.setattr(speech_commands, "SUBSET", tmp_path / "list.csv")
    with (tmp_path / "list.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("name", "sha256"), *rows])
    whole = speech_commands.load(str(root), subset=True)
    assert [clip.name.rpartition(".")[0] for clip in whole.clips] == [name for name, _ in rows]
    write(root, "happy", listed[0].stem[:8], digit=3, suffix=".flac")
    with pytest.warns(UserWarning, match="1 of the 20 listed recordings are missing"):
        assert len(speech_commands.load(str(root), subset=True).clips) == 19


def test_the_samples_are_the_same_in_wav_and_flac(tmp_path: Path) -> None:
    one, other = write(tmp_path, "seven", "deadbeef"), write(tmp_path, "seven", "deadbeef", suffix=".flac")
    assert speech_commands.sample_hash(one) == speech_commands.sample_hash(other)
    assert len(speech_commands.sample_hash(one)) == 16


def test_the_list_names_digits_and_other_words_by_many_speakers() -> None:
    with speech_commands.SUBSET.open(newline="") as file:
        rows = list(csv.DictReader(file))
    speakers = defaultdict(set)
    for row in rows:
        match = speech_commands.NAME.fullmatch(row["name"])
        assert match
        assert re.fullmatch("[0-9a-f]{16}", row["sha256"])
        speakers[match["word"]].add(match["speaker"])
    assert {"zero", "nine", "happy", "right"} <= set(speakers)
    assert len(set.union(*speakers.values())) > 800


def test_a_folder_without_it_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no recordings of Speech Commands v0\.02, named like seven/"):
        speech_commands.load(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder; it should be a copy of Speech Commands"):
        speech_commands.load(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    ("member", "path"),
    [
        ("./seven/0a7c2a8d_nohash_0.wav", "seven/0a7c2a8d_nohash_0.wav"),
        ("seven/0a7c2a8d_nohash_12.wav", "seven/0a7c2a8d_nohash_12.wav"),
        ("./../seven/0a7c2a8d_nohash_0.wav", None),
        ("./_background_noise_/pink_noise.wav", None),
        ("./README.md", None),
    ],
)
def test_what_is_taken_from_the_archive(member: str, path: str | None) -> None:
    match = speech_commands.ARCHIVE.recordings.fullmatch(member)
    assert (match and match[1]) == path
